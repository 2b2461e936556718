"""Tags as files for others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse

from ..downloads import written
from ..visitors import Viewer
from .given import TheCatalog, numbered_set, set_name

router = APIRouter(prefix="/api", tags=["export"])

_FILES = {"geojson": "application/geo+json", "csv": "text/csv"}
"""Formats of one file; the others are folders, which leave as ZIP."""


@router.get("/export", response_class=FileResponse)
def export(
    visitor: Viewer,
    catalog: TheCatalog,
    format: Literal["geojson", "csv", "coco", "xbd", "folders"] = "geojson",
    label_set: Annotated[str | None, Query(max_length=80)] = None,
) -> FileResponse:
    """The tags that hold, of a label set's newest version, or of the version whose number is given."""
    from ...cluster.catalog.interchange.exporting import export_tags

    labels = _version(catalog, label_set)
    name = f"tags-{labels.partition(':')[0]}"
    if format in _FILES:
        return written(
            visitor.user.name,
            f"{name}.{format}",
            _FILES[format],
            lambda path: export_tags(catalog, format, path, labels),
        )

    def packed(path: Path) -> None:
        folder = path.with_suffix("")
        export_tags(catalog, format, folder, labels)
        shutil.make_archive(str(folder), "zip", folder)

    return written(visitor.user.name, f"{name}-{format}.zip", "application/zip", packed)


def _version(catalog: TheCatalog, wanted: str | None) -> str:
    """A label set as the export wants it: NAME or NAME:VERSION."""
    with catalog.reading() as session:
        name = set_name(session, wanted)
        found = None if wanted is None else numbered_set(session, wanted)
    return name if found is None else f"{found.name}:{found.version}"
