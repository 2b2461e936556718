"""Maxar Open Data: an event's images from its GeoJSON, its TSV, or the files of its acquisitions."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from .catalog_item import Unusable
from .errors import Refused
from .reading import MAX_ITEMS, Reading, describe, read_json, read_text

_STAC_TYPES = ("Catalog", "Collection")


def read_maxar(path: str | Path, reading: Reading) -> bool:
    """Read an event's file, or a folder with a file for each acquisition, into `reading`.

    Unions of outlines (`*_union.geojson`) and MosaicJSON of the same acquisitions in a folder are
    passed over, so that nothing is counted twice. Returns False, having read nothing, where the
    path is a STAC catalog or collection instead. Raises Refused for what is neither.
    """
    file = Path(path)
    try:
        is_folder = file.is_dir()
    except OSError as error:
        raise Refused(f"[images] path = {str(path)[:200]!r}: {error.strerror}.") from error
    if is_folder:
        return _read_folder(file, reading)
    if file.suffix.lower() in (".tsv", ".csv"):
        _read_table(file, reading)
        return True
    content = read_json(file)
    if content.get("type") in _STAC_TYPES or _is_stac_item(content):
        return False
    _read_features(file, content, reading)
    return True


def _read_folder(folder: Path, reading: Reading) -> bool:
    """The acquisitions of a folder: GeoJSON where there is one, else TSV, by the file's stem."""
    if any((folder / name).exists() for name in ("collection.json", "catalog.json")):
        return False
    files: dict[str, Path] = {}
    for suffix in (".geojson", ".tsv"):
        for file in sorted(folder.glob(f"*{suffix}")):
            if not file.stem.endswith("_union"):
                files.setdefault(file.stem, file)
    if not files:
        raise Refused(
            f"[images] path = {str(folder)!r} holds no .geojson or .tsv of an acquisition. Give the "
            "event's catalog file, or the folder of its acquisitions."
        )
    for _, file in sorted(files.items()):
        if file.suffix == ".tsv":
            _read_table(file, reading)
        else:
            _read_features(file, read_json(file), reading)
    return True


def _read_features(file: Path, content: Mapping[str, Any], reading: Reading) -> None:
    features = content.get("features")
    if content.get("type") != "FeatureCollection" or not isinstance(features, list):
        raise Refused(
            f"[images] path: {file} is not a catalog of images but {describe(content)}. Give the "
            "event's .geojson or .tsv, or its STAC collection."
        )
    for feature in features:
        reading.take(feature, str(file.absolute()))


def _read_table(file: Path, reading: Reading) -> None:
    """Rows of tab- or comma-separated values, which have no outline but the box of the pixels."""
    try:
        text = read_text(file)
        table = pd.read_csv(
            io.StringIO(text),
            sep="\t" if file.suffix.lower() == ".tsv" else ",",
            dtype=str,
            keep_default_na=False,
            nrows=MAX_ITEMS + 1,
        )
    except (Unusable, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise Refused(f"{file} cannot be read as a table of images: {error}.") from error
    missing = {"datetime", "catalog_id", "proj:epsg", "proj:bbox"} - set(table.columns)
    if missing:
        raise Refused(
            f"{file} is not a table of Maxar Open Data: it has no column {', '.join(sorted(missing))}."
            " Give the event's .tsv or .geojson."
        )
    for row in _rows(table):
        reading.take(row, str(file.absolute()))


def _rows(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    names = [str(name) for name in table.columns]
    for values in table.itertuples(index=False, name=None):
        properties = {k: v for k, v in zip(names, values, strict=True) if v not in ("", None)}
        outline = properties.get("proj:geometry")
        if outline:  # written as a Python literal, with single quotes
            try:
                properties["proj:geometry"] = json.loads(outline.replace("'", '"'))
            except (ValueError, RecursionError):
                properties["proj:geometry"] = None
        yield {"type": "Feature", "geometry": None, "properties": properties}


def _is_stac_item(content: Mapping[str, Any]) -> bool:
    return content.get("type") == "Feature" and "assets" in content
