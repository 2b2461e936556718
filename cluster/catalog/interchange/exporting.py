"""Tags out of the catalog."""

from __future__ import annotations

from pathlib import Path

from ....scenes.errors import UsageError
from ...exports import Exported
from ..catalog import Catalog
from ..labels import PLAIN
from .formats import FORMATS
from .marks import Marks, find_labels
from .target import place


def export_tags(
    catalog: Catalog, to: str, out: Path, labels: str = PLAIN, overwrite: bool = False
) -> Exported:
    """Write the tags that hold as `to`, one of `FORMATS`, to a file or folder.

    `labels` is the label set: NAME in its newest version, or NAME:VERSION. What is there already is
    kept and the export refused, unless `overwrite`; it is replaced only when the new one is whole. The same
    tags give the same bytes. Raises UsageError for an unknown format or a wrong suffix, Refused for an
    unknown label set and a place that cannot be written.
    """
    if to not in FORMATS:
        raise UsageError(f"There is no format {to!r}. Choose one with --to: {', '.join(FORMATS)}.")
    form = FORMATS[to]
    path = place(Path(out), to, form.suffixes, catalog.folder, overwrite)
    left_out: list[str] = []
    with catalog.reading() as session:
        marks = Marks(session, find_labels(session, labels))
        counts = form.write(catalog, marks, path, left_out)
        if others := marks.of_other_sets():
            told = f"{marks.labels.name} version {marks.labels.version}"
            left_out.append(f"{others} tags of other label sets or versions than {told}")
    return Exported(to, path, counts, tuple(left_out))
