"""The folder of chips: who may write to it, what it was made from, and its tables."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import zarr

from ...models.chips.ours import COLUMNS, IMAGES, STORE
from ...scenes.places import TABLE, write_places
from ..folder import RunFolder
from .plan import Spot, rows_of
from .write import masked

_FOLDERS = ("pre", "post", "mask")
_SUFFIXES = (".png", ".tif", ".part")


@dataclass(frozen=True)
class ChipsFolder(RunFolder):
    """CHIPS/ on disk; locked, begun and resumed as a run's folder is."""

    work: ClassVar[str] = "set of chips"

    @property
    def store(self) -> Path:
        """Where chips lie in Zarr."""
        return self.path / STORE

    @property
    def record(self) -> Path:
        """Where it is told how the chips were made."""
        return self.path / "chips.json"

    @property
    def screens(self) -> Path:
        """Where it is kept what became of each image's patches."""
        return self.path / ".screens"

    @property
    def tables(self) -> bool:
        """Whether the tables are there, which are written last."""
        return all((self.path / name).is_file() for name in (TABLE, IMAGES))

    def whole(self, record: object = None) -> bool:
        """Whether the tables are there, and every image and mask that they name."""
        if not self.tables:
            return False
        with (self.path / IMAGES).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        masks = [row["mask"] for row in rows if row["mask"]]
        if self.store.is_dir():
            return self._shards("images") >= len(rows) and self._shards("masks") >= len(masks)
        files = [*(f"{row['when']}/{row['name']}" for row in rows), *(f"mask/{m}" for m in masks)]
        return all((self.path / file).is_file() for file in files)

    def _shards(self, kind: str) -> int:
        """How many chips the shards of an array have room for."""
        folder = self.store / kind
        if not (folder / "zarr.json").is_file():
            return 0
        shards = zarr.open_array(folder, mode="r").shards or (1,)
        return shards[0] * sum(1 for file in (folder / "c").rglob("*") if file.is_file())

    def write_tables(self, spots: Sequence[Spot], format: str) -> None:
        """Write places.csv and then images.csv, without which no folder counts as chips."""
        write_places(self.path / TABLE, [spot.place for spot in spots])
        numbers = {cut.name: str(n) for n, cut in enumerate(masked(spots))}
        suffix = "" if format == "zarr" else f".{format}"
        text = io.StringIO(newline="")
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(COLUMNS)
        for spot, cut in rows_of(spots):
            after = cut.shot.when == "post"
            number = numbers.get(cut.name, "") if after else ""
            mask = f"{cut.name}{suffix}" if number and suffix else number
            shot = cut.shot
            rows.writerow([spot.place.name, shot.when, shot.date, f"{cut.name}{suffix}", mask])
        part = self.path / f".{IMAGES}.part"
        part.write_text(text.getvalue(), encoding="utf-8")
        part.replace(self.path / IMAGES)

    def clear_chips(self) -> None:
        """Remove tables and chips, images.csv first, and nothing that aftermap did not make."""
        for name in (IMAGES, TABLE):
            (self.path / name).unlink(missing_ok=True)
        for store in (self.store, self.path / f".{STORE}.part"):
            shutil.rmtree(store, ignore_errors=True)
        for name in _FOLDERS:
            for file in (self.path / name).glob("*"):
                if file.suffix in _SUFFIXES:
                    file.unlink()
            with suppress(OSError):  # not there, or something else is in it
                (self.path / name).rmdir()
        for part in self.path.glob(".*.part"):
            part.unlink(missing_ok=True)

    def _empty(self) -> None:
        self.clear_chips()
        shutil.rmtree(self.screens, ignore_errors=True)
