"""The region's folder: a run folder per scene, a small state file beside each, and who works where.

Nothing that several processes share is ever written by two of them: a scene's folder and its state
are written under that scene's lock, and what is merged of them by whoever holds the region's.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...scenes.errors import Refused
from ...scenes.holding import file_held
from ..folder import RunFolder

OVER = ("done", "quarantined", "nothing")
"""States in which a scene has come to its end; quarantined chunks are tried again all the same."""

MERGED = ("done", "quarantined")
"""States of scenes that have results."""


@dataclass(frozen=True)
class SceneState:
    """What is known of one scene of a region."""

    scene_id: str
    state: str
    """"running" (or killed while it ran), "done", "quarantined" (chunks were set aside), "failed",
    "nothing" (no pixel could be analysed)."""
    ticket: Mapping[str, Any]
    """What it is made from: images, options, weights, version. See `scenes.Work.ticket`."""
    reason: str = ""
    """Why it failed, or why there is nothing."""
    attempts: int = 1
    seconds: float = 0.0
    """Of the last attempt."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """A few figures for tables: `run_id`, `chunks`, `quarantined`, `pixels`."""


class Busy(Exception):
    """Another process works on the scene."""


@dataclass(frozen=True)
class RegionFolder:
    """OUT/ on disk."""

    path: Path

    @property
    def record(self) -> Path:
        """Where the region is described."""
        return self.path / "region.json"

    def run(self, scene_id: str) -> RunFolder:
        """The run folder of a scene."""
        return RunFolder(self.path / "scenes" / scene_id)

    def make(self, name: str | None = None) -> None:
        """Make the folder, and note whose it is. Refused where it cannot be written to."""
        try:
            (self.path / "scenes").mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.path, prefix=".probe-"):
                pass  # a name of its own: tasks in containers share their process numbers
            with suppress(FileExistsError):  # another task of the region was here before
                if name is not None:
                    with (self.path / ".region").open("x", encoding="utf-8") as file:
                        file.write(name)
        except OSError as error:
            raise Refused(
                f"{self.path} cannot be written to ({error.strerror}). Give another folder with -o."
            ) from error

    def check_foreign(self, name: str | None = None) -> None:
        """Refuse a folder that holds another region, or things that are none."""
        with suppress(OSError):
            known = (self.path / ".region").read_text(encoding="utf-8")
            if name is not None and known not in ("", name):
                raise Refused(
                    f"{self.path} holds the region {known!r}, and this one is called {name!r}. "
                    "Give another folder with -o, or the same [region] name."
                )
        if not self.path.is_dir() or (self.path / "scenes").is_dir():
            return
        others = sorted(p.name for p in self.path.iterdir() if not p.name.startswith("."))
        if others:
            raise Refused(
                f"{self.path} is not empty and holds no region ({', '.join(others[:4])}). "
                "Give a new folder with -o."
            )

    @contextmanager
    def locked(self, share: tuple[int, int] | None = None) -> Iterator[None]:
        """Hold the region, or one share of its scenes; refused while another process does."""
        if share is None:
            name, what = ".lock", "region"
        else:
            name, what = f".share-{share[0]}-of-{share[1]}.lock", f"share {share[0]}/{share[1]}"
        with file_held(self.path / name) as mine:
            if not mine:
                raise Refused(
                    f"The {what} in {self.path} is being worked on by another process. Wait for "
                    "it, or give another folder with -o."
                )
            yield

    @contextmanager
    def scene_locked(self, scene_id: str) -> Iterator[None]:
        """Hold one scene; raises Busy while another process does."""
        with file_held(self.path / "scenes" / f".{scene_id}.lock") as mine:
            if not mine:
                raise Busy
            yield

    def state(self, scene_id: str) -> SceneState | None:
        """What is known of a scene; None before it was begun. Refused where it cannot be read."""
        file = self._state_file(scene_id)
        try:
            return SceneState(**json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise Refused(
                f"{file} cannot be read ({error}). Remove it, and the scene is done again."
            ) from error

    def write_state(self, state: SceneState) -> None:
        """Replace what is known of a scene in one step."""
        self._replace(self._state_file(state.scene_id), asdict(state))

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Replace region.json in one step."""
        self._replace(self.record, record)

    def read_record(self) -> dict[str, Any]:
        """What region.json says; empty before the region was merged for the first time."""
        with suppress(OSError, ValueError):
            return json.loads(self.record.read_text(encoding="utf-8"))
        return {}

    def finished(self, state: SceneState | None) -> bool:
        """Whether nothing is left to do for a scene, and its files are all there."""
        if state is None or state.state not in ("done", "nothing"):
            return False
        if state.state == "nothing":
            return True
        record = self.run_record(state.scene_id)
        return record is not None and self.run(state.scene_id).whole(record)

    def has_results(self, state: SceneState | None) -> bool:
        """Whether a scene has results that can be merged."""
        if state is None or state.state not in MERGED:
            return False
        record = self.run_record(state.scene_id)
        return record is not None and self.run(state.scene_id).delivered(record)

    def run_record(self, scene_id: str) -> dict[str, Any] | None:
        """What a scene's run.json says; None where there is none, or none that can be read."""
        run = self.run(scene_id)
        if not run.record.is_file():
            return None
        with suppress(Refused):
            record = run.read()
            return record if "facts" in record else None
        return None

    def others(self, known: set[str]) -> list[str]:
        """Scenes that lie here and are not part of the region any more."""
        states = (file.stem for file in (self.path / "scenes").glob("*.json"))
        return sorted(name for name in states if name not in known)

    def _state_file(self, scene_id: str) -> Path:
        return self.path / "scenes" / f"{scene_id}.json"

    def _replace(self, file: Path, content: Mapping[str, Any]) -> None:
        part = file.with_name(f".{file.name}.part")
        part.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
        os.replace(part, file)
