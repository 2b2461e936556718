"""One damage map per coordinate system: a VRT over the scenes' rasters, and a small COG of all.

A VRT is a list of files with the window of each that is shown. Where a scene's core is a box on
its own grid, as the cells of a tiling are, that window is the core, and no pixel is shown twice.
Other cores are shown by their bounding box; a scene's own pixels are put over its neighbours' in
the order of scene ids, and what a scene has not analysed hides nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.shutil import copy
from rasterio.windows import Window

from ...scenes.layer import NOT_ANALYSED
from ...scenes.legend import TITLE, VERSION, colour_table
from ...scenes.styles import raster_qml
from ...scenes.vectors import replacing
from .merge import Merge
from .parts import Part

SIDE = 8192
"""Longest side of an overview, px."""

_BLOCK = 512
_ALIGNED = 1e-3
"""Share of its bounding box that a core may lack and still count as a box."""


@dataclass(frozen=True)
class Placed:
    """What is shown of one scene's raster."""

    file: str
    """Relative to the mosaic."""
    shape: tuple[int, int]
    """Rows and columns of the raster."""
    window: tuple[float, float, float, float]
    """Column, row, width and height of what is shown of it, px."""
    bounds: tuple[float, float, float, float]
    """West, south, east and north of that, map units."""
    pixel: tuple[float, float]
    """Width and height of a pixel, map units."""
    box: bool
    """Whether that is the core and nothing else."""


def write_mosaics(merge: Merge) -> list[str]:
    """Write `damage-<epsg>.vrt` and its overview for each coordinate system; the files' names.

    Mosaics of coordinate systems that the region no longer has are removed. One without an EPSG code goes by a digest.
    """
    out = merge.folder.path
    groups: dict[str, str] = {}
    for part in merge.every():
        groups.setdefault(_name(part), part.crs)
    names = []
    for name, crs in sorted(groups.items()):
        shown = [p for part in merge.every() if _name(part) == name for p in _placed(part, out)]
        if not shown:
            continue
        grid = _grid(shown, crs)
        names += [f"{name}.vrt", f"{name}-overview.tif"]
        for stem in (name, f"{name}-overview"):
            with replacing(out / f"{stem}.qml") as style:
                style.write_text(raster_qml() + "\n", encoding="utf-8", newline="\n")
        with replacing(out / names[-2]) as part_file:
            part_file.write_bytes(_vrt(shown, grid))
        _write_overview(out, out / names[-1], shown, grid)
    _remove_others(out, names)
    return names


def _name(part: Part) -> str:
    epsg = part.grid.crs.to_epsg()
    return f"damage-{epsg or hashlib.sha256(part.crs.encode()).hexdigest()[:8]}"


def _placed(part: Part, out: Path) -> Iterator[Placed]:
    """The window of a scene's raster over its core; nothing where they do not touch."""
    file = part.run.path / "damage.tif"
    with rasterio.open(file) as source:
        affine, shape = source.transform, source.shape
    core = shapely.transform(part.core, lambda xy: np.column_stack(~affine * tuple(xy.T)))
    core = shapely.intersection(core, shapely.box(0, 0, shape[1], shape[0]))
    if core.is_empty or not core.area:
        return
    left, top, right, bottom = (math.floor(edge + 0.5) for edge in core.bounds)
    if right <= left or bottom <= top:
        return
    box = 1 - core.area / shapely.box(*core.bounds).area < _ALIGNED
    corners = affine * (left, top), affine * (right, bottom)
    yield Placed(
        file.relative_to(out).as_posix(),
        (int(shape[0]), int(shape[1])),
        (left, top, right - left, bottom - top),
        (corners[0][0], corners[1][1], corners[1][0], corners[0][1]),
        (affine.a, -affine.e),
        bool(box),
    )


def _grid(shown: list[Placed], crs: str) -> GeoBox:
    """The finest pixels of all, over everything; anchored to the first scene's pixels."""
    width, height = (min(p.pixel[k] for p in shown) for k in (0, 1))
    west, south = (min(p.bounds[k] for p in shown) for k in (0, 1))
    east, north = (max(p.bounds[k] for p in shown) for k in (2, 3))
    x0, y0 = shown[0].bounds[0], shown[0].bounds[3]
    west = x0 - math.ceil((x0 - west) / width - 1e-6) * width
    north = y0 + math.ceil((north - y0) / height - 1e-6) * height
    shape = math.ceil((north - south) / height - 1e-6), math.ceil((east - west) / width - 1e-6)
    return GeoBox(shape, Affine(width, 0, west, 0, -height, north), crs)


def _vrt(shown: list[Placed], grid: GeoBox) -> bytes:
    """The mosaic as GDAL's XML; see the VRT driver's page in GDAL's documentation."""
    rows, cols = grid.shape
    root = ElementTree.Element("VRTDataset", rasterXSize=str(cols), rasterYSize=str(rows))
    ElementTree.SubElement(root, "SRS", dataAxisToSRSAxisMapping="1,2").text = grid.crs.to_wkt()
    a, b, c, d, e, f = grid.affine[:6]
    numbers = ", ".join(repr(float(value)) for value in (c, a, b, f, d, e))
    ElementTree.SubElement(root, "GeoTransform").text = numbers
    band = ElementTree.SubElement(root, "VRTRasterBand", dataType="Byte", band="1")
    ElementTree.SubElement(band, "Description").text = "damage"
    ElementTree.SubElement(band, "NoDataValue").text = str(NOT_ANALYSED)
    ElementTree.SubElement(band, "ColorInterp").text = "Palette"
    colours = ElementTree.SubElement(band, "ColorTable")
    known = colour_table()
    for code in range(256):
        values = zip(("c1", "c2", "c3", "c4"), known.get(code, (0, 0, 0, 0)), strict=True)
        ElementTree.SubElement(colours, "Entry", {name: str(value) for name, value in values})
    for placed in shown:
        band.append(_source(placed, grid))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=False) + b"\n"


def _source(placed: Placed, grid: GeoBox) -> ElementTree.Element:
    source = ElementTree.Element("SimpleSource" if placed.box else "ComplexSource")
    name = ElementTree.SubElement(source, "SourceFilename", relativeToVRT="1")
    name.text = placed.file
    ElementTree.SubElement(source, "SourceBand").text = "1"
    ElementTree.SubElement(
        source,
        "SourceProperties",
        RasterXSize=str(placed.shape[1]),
        RasterYSize=str(placed.shape[0]),
        DataType="Byte",
        BlockXSize=str(_BLOCK),
        BlockYSize=str(_BLOCK),
    )
    for tag, window in (("SrcRect", placed.window), ("DstRect", _there(placed, grid))):
        sides = zip(("xOff", "yOff", "xSize", "ySize"), map(_number, window), strict=True)
        ElementTree.SubElement(source, tag, dict(sides))
    if not placed.box:
        ElementTree.SubElement(source, "NODATA").text = str(NOT_ANALYSED)
    return source


def _there(placed: Placed, grid: GeoBox) -> tuple[float, float, float, float]:
    """Column, row, width and height of a scene's window on the mosaic."""
    west, south, east, north = placed.bounds
    left, top = ~grid.affine * (west, north)
    right, bottom = ~grid.affine * (east, south)
    return left, top, right - left, bottom - top


def _number(value: float) -> str:
    """Whole pixels as whole numbers, whatever the last digits of map coordinates say."""
    near = round(value)
    return str(near) if abs(value - near) < 1e-4 else repr(round(value, 6))


def _write_overview(out: Path, path: Path, shown: list[Placed], grid: GeoBox) -> None:
    """The commonest code in every cell of a coarse grid, as a COG; scenes are read reduced."""
    factor = max(1, math.ceil(max(grid.shape) / SIDE))
    shape = -(-grid.shape[0] // factor), -(-grid.shape[1] // factor)
    affine = grid.affine * Affine.scale(factor)
    cells = np.full(shape, NOT_ANALYSED, np.uint8)
    coarse = GeoBox(shape, affine, grid.crs)
    for placed in shown:
        _paint(cells, out / placed.file, placed, coarse)
    plain = path.with_name(f".{path.stem}.plain.tif")
    profile = {
        "driver": "GTiff", "height": shape[0], "width": shape[1], "count": 1, "dtype": "uint8",
        "nodata": NOT_ANALYSED, "crs": grid.crs.to_wkt(), "transform": affine, "tiled": True,
        "blockxsize": _BLOCK, "blockysize": _BLOCK, "compress": "zstd",
    }  # fmt: skip
    try:
        with rasterio.open(plain, "w", **profile) as target:
            target.set_band_description(1, "damage")
            target.update_tags(
                legend=f"{TITLE}, version {VERSION}",
                not_analysed=str(NOT_ANALYSED),
                pixels_per_cell=str(factor),
            )
            target.write_colormap(1, colour_table())
            target.write(cells, 1)
        with replacing(path) as part:
            copy(
                plain, part, driver="COG", compress="ZSTD", blocksize=_BLOCK,
                overview_resampling="MODE", overviews="IGNORE_EXISTING",
            )  # fmt: skip
    finally:
        plain.unlink(missing_ok=True)


def _paint(cells: np.ndarray, file: Path, placed: Placed, coarse: GeoBox) -> None:
    """Put one scene into the coarse picture: the cells whose centres its window holds."""
    left, top, width, height = _there(placed, coarse)
    col0, row0 = max(0, math.ceil(left - 0.5)), max(0, math.ceil(top - 0.5))
    col1 = min(cells.shape[1], math.ceil(left + width - 0.5))
    row1 = min(cells.shape[0], math.ceil(top + height - 0.5))
    if col1 <= col0 or row1 <= row0:
        return
    across, down = placed.window[2] / width, placed.window[3] / height
    first_col = placed.window[0] + (col0 - left) * across
    first_row = placed.window[1] + (row0 - top) * down
    # Cells at the rim reach past the raster: read what there is of them.
    x0, y0 = max(0.0, first_col), max(0.0, first_row)
    x1 = min(float(placed.shape[1]), first_col + (col1 - col0) * across)
    y1 = min(float(placed.shape[0]), first_row + (row1 - row0) * down)
    with rasterio.open(file) as source:
        seen = source.read(
            1,
            window=Window(x0, y0, x1 - x0, y1 - y0),
            out_shape=(row1 - row0, col1 - col0),
            resampling=Resampling.mode,
        )
    here = cells[row0:row1, col0:col1]
    here[:] = seen if placed.box else np.where(seen == NOT_ANALYSED, here, seen)


def _remove_others(out: Path, names: list[str]) -> None:
    """Remove mosaics of an earlier merge that this one has not written."""
    for file in (*out.glob("damage-*.vrt"), *out.glob("damage-*-overview.tif")):
        if file.name not in names:
            file.unlink()
            file.with_suffix(".qml").unlink(missing_ok=True)
