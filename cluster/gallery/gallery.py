"""A folder of photos, scored one by one: a table of all of them, and a page to look at."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...scenes.atomic import write_atomically
from ...scenes.vectors import write_csv
from ..request import versions
from .figures import Figures, Leaks, figures_of, leaks_of
from .folder import PAGE, TABLE, GalleryFolder
from .page import MOST_FIGURES, page_of
from .pictures import pictures_of
from .request import Asked, prepared
from .rows import rows_of, table_of
from .scores import scores_of


@dataclass(frozen=True)
class Gallery:
    """What became of a folder of photos."""

    path: Path
    """Holds photos.csv and gallery.html."""
    photos: int
    """That were scored."""
    damaged: int
    """That reach the threshold."""
    threshold: float
    """The card's, inclusive."""
    unreadable: int
    figures: tuple[Figures, ...]
    """How well labels are met; empty where there are none."""
    leaks: Leaks
    shown: int
    """Photos on the page."""
    mapped: int
    """Of these, how many have a map."""
    notes: tuple[str, ...]
    """What the page leaves out, and what may flatter the figures."""

    @property
    def code(self) -> int:
        """The exit code of the command line: 4 where photos could not be read."""
        return 4 if self.unreadable else 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "out": str(self.path),
            "photos": self.photos,
            "damaged": self.damaged,
            "threshold": self.threshold,
            "unreadable": self.unreadable,
            "figures": [asdict(found) for found in self.figures],
            "near_duplicates_across_parts": self.leaks.count,
            "shown": self.shown,
            "maps": self.mapped,
        }

    def text(self) -> str:
        """The result, for the command line."""
        lines = [
            f"{self.photos} photos, of which {self.damaged} reach the threshold {self.threshold:.4g}"
        ]
        lines += [f"  {found.text()}" for found in self.figures[:MOST_FIGURES]]
        if self.unreadable:
            lines.append(f"{self.unreadable} could not be read; {TABLE} says why")
        lines += [f"note       {note}" for note in self.notes]
        return "\n".join(
            [*lines, f"table      {self.path / TABLE}", f"page       {self.path / PAGE}"]
        )


def gallery(
    photos: str | os.PathLike[str],
    weights: str | os.PathLike[str],
    out: str | os.PathLike[str],
    method: str | None = None,
    maps: str | None = None,
    device: str = "auto",
    fresh: bool = False,
    quiet: bool = True,
) -> Gallery:
    """Score the photos of a folder and write OUT/photos.csv and OUT/gallery.html.

    `weights` are of deep-disaster or inception-window, or what `method` says; a photo counts as
    damaged from the card's threshold on, inclusive. `maps` is one of MAPS: of deep-disaster, where
    in the photos the damage seems to be; None is vanilla-gradient there. Arithmetic is fp32. Where
    the weights use batch statistics, the photos of a batch are scored together, in the order of
    their paths.

    Scores are kept batch by batch, so that the same call goes on after a kill. Raises
    NothingToAnalyse where no photo can be read, Refused for other weights or folders and for a
    folder `out` of something else, UsageError for unknown maps.
    """
    asked = prepared(photos, weights, method, maps, device, quiet)
    folder = GalleryFolder(Path(out))
    with folder.locked():
        record = folder.begin(asked.facts(), fresh)
        record |= {"versions": versions(), "attempts": record["attempts"] + 1, "state": "running"}
        folder.write(record)
        done = _made(asked, folder, quiet)
        folder.write(record | {"state": "done", "result": done.to_dict()})
    return done


def _made(asked: Asked, folder: GalleryFolder, quiet: bool) -> Gallery:
    photos, card = asked.photos, asked.card
    scores = scores_of(asked.network, card, photos, asked.device, folder.scores, quiet)
    rows = rows_of(photos, scores, card.threshold)
    write_csv(folder.path / TABLE, table_of(photos, rows))
    figures, leaks = figures_of(rows), leaks_of(photos)
    pictures = pictures_of(asked, rows, quiet)
    page = page_of(asked, rows, pictures, figures, leaks)
    write_atomically(folder.path / PAGE, page.encode())
    return Gallery(
        path=folder.path,
        photos=len(rows),
        damaged=sum(row.found for row in rows),
        threshold=card.threshold,
        unreadable=len(photos.unreadable),
        figures=figures,
        leaks=leaks,
        shown=len(pictures),
        mapped=pictures.mapped,
        notes=(*leaks.notes, *pictures.notes),
    )
