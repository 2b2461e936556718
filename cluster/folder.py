"""The run folder: who may write to it, what it says about the run, and what is in it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..scenes.errors import Refused
from ..scenes.holding import holding
from .fingerprint import differences, plain, without

_TABLES = ("buildings.gpkg", "buildings.parquet", "summary.csv", "report.html")
_HIDDEN = (".*.part", ".*.part.*", ".*.plain.tif", ".*.parquet", ".components.sqlite", ".job")
"""What a killed run may leave behind."""
_PLACES = ("y", "x", "spatial_ref")
"""Arrays of the store that are no layers."""


class MadeDifferently(Refused):
    """The folder holds a run, or chips, made from something else, or otherwise."""


@dataclass(frozen=True)
class RunFolder:
    """RUN/ on disk."""

    path: Path
    work: ClassVar[str] = "run"
    """What it holds, in messages."""

    @property
    def store(self) -> Path:
        """Where the layers are."""
        return self.path / "layers.zarr"

    @property
    def record(self) -> Path:
        """Where the run is described."""
        return self.path / "run.json"

    def locked(self) -> AbstractContextManager[None]:
        """Hold the folder; refused while another process lives that holds it."""
        return holding(self.path, self.work)

    def begin(
        self, facts: Mapping[str, Any], fresh: bool, may_change: Collection[str] = ()
    ) -> dict[str, Any]:
        """The record of the run to go on with: the one on disk, or a new one.

        Refused when the folder holds a run with other facts, but for those at the paths that
        `may_change`, or something else altogether; `fresh` throws an earlier run away first.
        """
        new = {"facts": dict(facts), "attempts": 0}
        if not self.record.exists():
            self._check_foreign()
            return new
        if fresh:
            self._empty()
            self.write(new)  # in place of the old one: without any, other files here were foreign
            return new
        record = self.read()
        known, now = record.get("facts", {}), plain(facts)
        changed = differences(without(known, may_change), without(now, may_change))
        if changed:
            listed = "\n  ".join(changed[:12])
            raise MadeDifferently(
                f"{self.path} holds a {self.work} that was made differently:\n  {listed}\n"
                "Go on with what it was made with, give another folder with -o, or start over with --fresh."
            )
        return record

    def read(self) -> dict[str, Any]:
        """What the record says. Refused where it cannot be read."""
        try:
            record = json.loads(self.record.read_text())
            if not isinstance(record, dict):
                raise ValueError(f"it does not describe a {self.work}")
            return record
        except (OSError, ValueError) as error:
            raise Refused(
                f"{self.record} cannot be read ({error}). Start over with --fresh, or give another "
                "folder with -o."
            ) from error

    def write(self, record: Mapping[str, Any]) -> None:
        """Replace the record in one step."""
        temporary = self.path / f".{self.record.name}.part"
        temporary.write_text(json.dumps(record, indent=2, default=str) + "\n")
        os.replace(temporary, self.record)

    def clear(self) -> None:
        """Remove an earlier run's files, and nothing that aftermap did not make."""
        self._empty()
        self.record.unlink(missing_ok=True)

    def delivered(self, record: Mapping[str, Any]) -> bool:
        """Whether every raster, table and report of a finished run is still there."""
        return all((self.path / name).exists() for name in (*_files(record), *_TABLES))

    def whole(self, record: Mapping[str, Any]) -> bool:
        """Whether a finished run still has every file, and every chunk of each layer of its store."""
        chunks = record.get("plan", {}).get("chunks", 0) - len(record.get("quarantined", []))
        return (
            self.delivered(record)
            and (self.store / "zarr.json").exists()
            and all(
                (self.store / layer / "zarr.json").exists()
                and sum(s.name.isdigit() for s in (self.store / layer / "c").glob("*/*")) >= chunks
                for layer in _layers(record)
            )
        )

    def _empty(self) -> None:
        """Remove all of an earlier run but its record.

        The rasters go before the store that tells their names, and the store at once: whenever this
        is cut short, what is left can be removed or gone on with.
        """
        stored = [p.name for p in self.store.glob("*") if p.is_dir() and p.name not in _PLACES]
        listed: list[str] = []
        with suppress(Refused):  # a damaged record; the store is then all that tells
            listed = _layers(self.read())
        rasters = [f"{name}{end}" for name in (*listed, *stored) for end in (".tif", ".qml")]
        for name in (*rasters, *_TABLES):
            (self.path / name).unlink(missing_ok=True)
        if self.store.exists():
            aside = self.path / f".{self.store.name}.part"
            shutil.rmtree(aside, ignore_errors=True)
            self.store.rename(aside)
        for pattern in _HIDDEN:
            for file in self.path.glob(pattern):
                if file.is_dir() and not file.is_symlink():
                    shutil.rmtree(file, ignore_errors=True)
                else:
                    file.unlink(missing_ok=True)

    def _check_foreign(self) -> None:
        others = [p.name for p in self.path.iterdir() if not p.name.startswith(".")]
        if others:
            raise Refused(
                f"{self.path} is not empty and holds no {self.work} ({', '.join(sorted(others)[:4])}). "
                "Give a new folder with -o."
            )


def _files(record: Mapping[str, Any]) -> list[str]:
    """The rasters and tables that a finished run wrote, by their plain names."""
    return [Path(name).name for name in record.get("totals", {}).get("files", [])]


def _layers(record: Mapping[str, Any]) -> list[str]:
    """The layers that a finished run wrote as rasters."""
    return [Path(name).stem for name in _files(record) if name.endswith(".tif")]
