"""The page of a gallery: one file that works offline."""

from __future__ import annotations

from collections.abc import Sequence

from ..report import template
from .figures import Figures, Leaks
from .pictures import SIDE, Pictures
from .request import Asked
from .rows import Row, broken_of

MOST_FIGURES = 40
"""Groups of photos whose figures are in the page."""

MOST_BROKEN = 40
"""Photos that could not be read and are named in the page."""


def page_of(
    asked: Asked,
    rows: Sequence[Row],
    pictures: Pictures,
    figures: Sequence[Figures],
    leaks: Leaks,
) -> str:
    """The HTML; all that comes from file names is escaped."""
    broken = broken_of(asked.photos)
    return template("gallery.html.j2").render(
        name=asked.root.absolute().name,
        card=asked.card,
        maps=asked.maps if asked.drawing else None,
        batches=getattr(asked.network, "batch_statistics", False),
        rows=len(rows),
        found=sum(row.found for row in rows),
        labelled=sum(row.label is not None for row in rows),
        wrong=sum(row.wrong for row in rows),
        pictures=pictures,
        side=SIDE,
        seen=asked.photos.side,
        figures=figures[:MOST_FIGURES],
        more_figures=len(figures[MOST_FIGURES:]),
        leaks=leaks,
        broken=broken[:MOST_BROKEN],
        more_broken=len(broken[MOST_BROKEN:]),
    )
