"""The folder of a gallery: who may write to it, and what is in it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..folder import RunFolder

TABLE = "photos.csv"
PAGE = "gallery.html"


@dataclass(frozen=True)
class GalleryFolder(RunFolder):
    """OUT/ on disk; locked, begun and resumed as a run's folder is."""

    work: ClassVar[str] = "gallery"

    @property
    def record(self) -> Path:
        """Where it is told what the gallery was made from."""
        return self.path / "gallery.json"

    @property
    def scores(self) -> Path:
        """Where the scores are kept, a file for each batch."""
        return self.path / "scores"

    def _empty(self) -> None:
        for name in (TABLE, PAGE):
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.scores, ignore_errors=True)
