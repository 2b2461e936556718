"""Instances in the COCO format, streamed to disk: one image, which is the run's whole grid."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from .confidence import confidence
from .geojson import plain, write_items
from .legend import LEGEND
from .vectors import replacing

_DECIMALS = 3
"""Decimals of a pixel."""


@dataclass
class CocoCount:
    """What was written."""

    annotations: int = 0
    """Buildings."""
    holes: int = 0
    """Holes that the format cannot hold: they are filled in `segmentation`, not in `area`."""
    image: Mapping[str, Any] = field(default_factory=dict)
    """The entry of the image."""


def write_coco(
    path: Path,
    blocks: Iterable[gpd.GeoDataFrame],
    grid: GeoBox,
    image: str,
    info: Mapping[str, Any],
) -> CocoCount:
    """Write buildings as instances on the pixels of `grid`; category ids are our damage codes.

    `segmentation` holds the outer ring of each part, `bbox` is x, y, width, height, `area` in
    square pixels without holes, `score` the confidence (null where not analysed). The buildings'
    id stands in `building_id`.
    """
    rows, cols = grid.shape
    count = CocoCount(image={"id": 1, "file_name": image, "width": cols, "height": rows})
    head = {
        "info": dict(info),
        "images": [count.image],
        "categories": [
            {"id": row.code, "name": row.name, "supercategory": "building"}
            for row in LEGEND
            if row.code
        ],
    }
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f'{json.dumps(head, ensure_ascii=False)[:-1]}, "annotations": [\n')
        count.annotations = write_items(
            file, (item for block in blocks for item in _annotations(block, grid, count))
        )
        file.write("\n]}\n")
    return count


def _annotations(
    block: gpd.GeoDataFrame, grid: GeoBox, count: CocoCount
) -> Iterator[dict[str, Any]]:
    inverse = ~grid.affine
    pixels = shapely.transform(
        block.to_crs(grid.crs.to_wkt()).geometry.to_numpy(),
        lambda xy: np.round(np.column_stack(inverse * (xy[:, 0], xy[:, 1])), _DECIMALS),
    )
    names = block[block.columns[0]]
    scores = confidence(block)
    corners = np.round(shapely.bounds(pixels), _DECIMALS)
    for shape, name, code, score, bounds in zip(
        pixels, names, block["damage_class"].tolist(), scores, corners.tolist(), strict=True
    ):
        count.holes += int(shapely.get_num_interior_rings(shapely.get_parts(shape)).sum())
        count.annotations += 1
        yield {
            "id": count.annotations,
            "image_id": 1,
            "category_id": code,
            **coco_outline(shape, bounds),
            "score": plain(score),
            "building_id": plain(name),
        }


def coco_outline(shape: shapely.Geometry, bounds: Sequence[float]) -> dict[str, Any]:
    """The outline of an annotation, px, without holes; `bounds` are the shape's, rounded."""
    left, top, right, bottom = bounds
    return {
        "segmentation": [
            np.round(shapely.get_coordinates(part.exterior)[:-1], _DECIMALS).ravel().tolist()
            for part in shapely.get_parts(shape)
        ],
        "bbox": [left, top, round(right - left, _DECIMALS), round(bottom - top, _DECIMALS)],
        "area": round(shape.area, _DECIMALS),
        "iscrowd": 0,
    }
