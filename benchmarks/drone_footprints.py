"""The footprint network on real imagery: drone mosaics with OpenStreetMap's buildings.

    python benchmarks/drone_footprints.py ../shared/data/imagery OUT --test kampala_1 --validation banepa_1

makes chips of the other mosaics at 0.3 m, trains on them, chooses the threshold on the validation area,
draws the polygons of the validation and test areas, and scores them against the map's. With --validation
east it is the eastern quarter of each mosaic that is learnt from. Run again it goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import rasterio.features
import rasterio.warp
import shapely
from affine import Affine
from aftermap.models.checkpoint import load
from aftermap.models.chips.chip import Chip, without_nodata
from aftermap.models.damage_net import SceneNet
from aftermap.models.evaluation import probability_map
from aftermap.models.metrics import confusion, match_buildings
from aftermap.models.presets import train_config
from aftermap.models.training import train
from PIL import Image, ImageDraw
from scipy import ndimage

AREAS = ("zanzibar_0", "nairobi_1", "catanduanes_0", "banepa_1", "kampala_1")
RESOLUTION = 0.3
SIDE = 256
"""Of a chip, px."""
LEAST = 10.0
"""Area of the smallest building, m²."""


@dataclass(frozen=True)
class Area:
    """A mosaic at 0.3 m in its UTM zone, with its buildings."""

    name: str
    chip: Chip
    transform: Affine
    buildings: np.ndarray
    """Polygons in metres, cut to the mosaic."""

    @classmethod
    def read(cls, folder: Path, name: str) -> Area:
        """Warp a mosaic, averaging, and burn its footprints."""
        frame = gpd.read_file(folder / f"{name}_footprints.geojson")
        crs = frame.estimate_utm_crs()
        with rasterio.open(folder / f"{name}.tif") as source:
            box = rasterio.warp.transform_bounds(source.crs, crs, *source.bounds)
            width, height = (int((b - a) / RESOLUTION) for a, b in (box[0::2], box[1::2]))
            transform = Affine(RESOLUTION, 0, box[0], 0, -RESOLUTION, box[3])
            image = np.zeros((3, height, width), np.uint8)
            rasterio.warp.reproject(
                rasterio.band(source, (1, 2, 3)), image, dst_transform=transform, dst_crs=crs,
                resampling=rasterio.warp.Resampling.average,
            )  # fmt: skip
        shapes = shapely.make_valid(frame.to_crs(crs).geometry.values)
        mask = rasterio.features.rasterize(
            [(shape, 1) for shape in shapes], (height, width), transform=transform, dtype="uint8"
        )
        ground = shapely.box(*rasterio.transform.array_bounds(height, width, transform))
        inside = shapely.intersection(shapes, ground)
        codes = without_nodata(image, image, mask)
        chip = Chip(image, image, codes, name=name)
        return cls(name, chip, transform, inside[shapely.area(inside) >= LEAST])

    def cut(self, first: float, last: float) -> Area:
        """A strip of the mosaic from west to east; ends in shares of its width."""
        height, width = self.chip.codes.shape
        left, right = int(first * width), int(last * width)
        columns = np.s_[..., left:right]
        pre, post, codes = (getattr(self.chip, name)[columns] for name in ("pre", "post", "codes"))
        transform = self.transform @ Affine.translation(left, 0)
        ground = shapely.box(*rasterio.transform.array_bounds(height, right - left, transform))
        inside = shapely.intersection(self.buildings, ground)
        name = f"{self.name}-{left}"
        kept = inside[shapely.area(inside) >= LEAST]
        return Area(name, Chip(pre, post, codes, name=name), transform, kept)

    def tiles(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Squares of the image and of the mask, those at the edge moved inwards."""
        height, width = self.chip.codes.shape
        for top in {min(t, max(0, height - SIDE)) for t in range(0, height, SIDE)}:
            for left in {min(s, max(0, width - SIDE)) for s in range(0, width, SIDE)}:
                cut = np.s_[top : top + SIDE, left : left + SIDE]
                yield f"{self.name}-{top}-{left}", self.chip.pre[:, *cut], self.chip.codes[cut]


def write(areas: dict[str, list[Area]], root: Path) -> None:
    """Chips of both dates alike: the network of footprints looks at the one before only."""
    for part, members in areas.items():
        for name, image, mask in (tile for area in members for tile in area.tiles()):
            for folder, array in (("pre", image), ("post", image), ("mask", mask[None])):
                (root / part / folder).mkdir(parents=True, exist_ok=True)
                picture = np.squeeze(array.transpose(1, 2, 0))
                Image.fromarray(picture).save(root / part / folder / f"{name}.png")


def outlined(probability: np.ndarray, threshold: float, transform: Affine) -> np.ndarray:
    """Polygons of what is a building after opening with a cross of 3 px, of 10 m² or more."""
    found = ndimage.binary_opening(probability > threshold, ndimage.generate_binary_structure(2, 1))
    shapes = rasterio.features.shapes(found.astype(np.uint8), found, 4, transform)
    polygons = np.array([shapely.geometry.shape(shape) for shape, _ in shapes], object)
    return polygons[shapely.area(polygons) >= LEAST]


def scored(area: Area, polygons: np.ndarray, probability: np.ndarray) -> dict[str, Any]:
    """How the polygons agree with those of the map, one to one at an IoU of 0.5, and by area."""
    known = area.chip.codes != 255
    burnt = np.zeros(known.shape, bool)
    if len(polygons):
        burnt = rasterio.features.geometry_mask(polygons, known.shape, area.transform, invert=True)
    pixels = confusion(area.chip.codes, burnt, known)
    matches = match_buildings(list(area.buildings), list(polygons))
    recall, precision = (len(matches) / max(len(x), 1) for x in (area.buildings, polygons))
    every = match_buildings(list(area.buildings), list(polygons), iou=1e-6)
    return {
        "area": area.name,
        "buildings": len(area.buildings),
        "polygons": len(polygons),
        "matched": len(matches),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / max(precision + recall, 1e-9),
        "mean_iou_of_matched": float(np.mean([m.iou for m in matches])) if matches else 0.0,
        "mean_iou_of_all_buildings": sum(m.iou for m in every) / max(len(area.buildings), 1),
        "pixel_iou": pixels.iou,
        "pixel_f1": pixels.f1,
        "all_called_building_iou": float((area.chip.codes[known] > 0).mean()),
    }


def picture(area: Area, polygons: np.ndarray, probability: np.ndarray, path: Path) -> None:
    """The image with the map's outlines (green) and the network's (red); beside it the probability."""
    scale = 3
    shown = Image.fromarray(np.ascontiguousarray(area.chip.pre.transpose(1, 2, 0)))
    shown = shown.resize((shown.width * scale, shown.height * scale), Image.Resampling.LANCZOS)
    pen, inverse = ImageDraw.Draw(shown), ~area.transform
    for shapes, colour in ((area.buildings, (60, 230, 60)), (polygons, (255, 50, 50))):
        for shape in shapely.get_parts(shapes):
            if isinstance(shape, shapely.Polygon):
                line = [inverse * point for point in shape.exterior.coords]
                pen.line([(x * scale, y * scale) for x, y in line], fill=colour, width=2)
    grey = Image.fromarray((probability * 255).astype(np.uint8)).resize(shown.size)
    sheet = Image.new("RGB", (2 * shown.width + 8, shown.height), "white")
    sheet.paste(shown, (0, 0))
    sheet.paste(grey, (shown.width + 8, 0))
    sheet.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--validation", default="banepa_1")
    parser.add_argument("--test", default="kampala_1")
    parser.add_argument("--backbone", default="efficientnet-b0")
    parser.add_argument("--augment", default="amatrice")
    parser.add_argument("--encoder", help="timm's safetensors file of the backbone")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--minutes", type=float, help="begin no epoch that would end later")
    asked = parser.parse_args()
    areas = {name: Area.read(asked.data, name) for name in AREAS}
    held = (asked.validation, asked.test)
    learnt = [area for name, area in areas.items() if name not in held]
    if asked.validation == "east":
        validation = [area.cut(0.75, 1) for area in learnt]
        learnt = [area.cut(0, 0.75) for area in learnt]
    else:
        validation = [areas[asked.validation]]
    chips = asked.out / "chips"
    if not chips.is_dir():
        write({"train": learnt, "val": validation, "test": [areas[asked.test]]}, chips)
    config = train_config(
        {
            "out": str(asked.out / "weights"), "method": "unet-footprints", "data": (str(chips),),
            "backbone": asked.backbone, "epochs": asked.epochs, "steps": asked.steps,
            "batch": asked.batch, "augment": asked.augment, "encoder": asked.encoder, "minutes": asked.minutes,
            "schedule": "cosine", "norm_momentum": 0.1, "patience": None,
            "licence": "CC BY 4.0 (imagery: OpenAerialMap), ODbL (buildings: OpenStreetMap)",
        },
        "amatrice",
    )  # fmt: skip
    network, card = load(train(config))
    assert isinstance(network, SceneNet)
    for area in (*validation, areas[asked.test]):
        probability = probability_map(network, area.chip)[0, 0].numpy()
        polygons = outlined(probability, card.threshold, area.transform)
        scores = {"threshold": card.threshold, **scored(area, polygons, probability)}
        print(json.dumps(scores, indent=1))
        (asked.out / f"{area.name}.json").write_text(json.dumps(scores, indent=1))
        picture(area, polygons, probability, asked.out / f"{area.name}.png")


if __name__ == "__main__":
    main()
