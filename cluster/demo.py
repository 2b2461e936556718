"""The demo: a synthetic disaster with known truth, mapped by the bundled weights and scored."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from affine import Affine
from PIL import Image
from rasterio.features import rasterize

from ..models.metrics import DAMAGED, Confusion, building_confusion, confusion, match_buildings
from ..scenes.pair import make_pair
from ..scenes.synth import Synth, SynthScene, write
from .assess import assess
from .client import connected
from .report import damage_picture
from .run import Run

SIZE = 2048
"""Side of the demo's scene, px."""

SEED = 6
"""A suburb in which a fire has burnt whole streets; far from the seeds of training."""

METHODS = ("fc-siam-diff", "difference", "texture")
"""The bundled weights, and what can be done without a network."""


@dataclass(frozen=True)
class Score:
    """How right a damage map is."""

    method: str
    buildings: Confusion
    """Damaged against not, buildings matched at an intersection over union of 0.5."""
    pixels: Confusion
    """Damaged against not, pixels that were analysed."""

    def line(self) -> str:
        """One row of the demo's table."""
        return (
            f"{self.method:<14} {self.buildings.f1:>11.3f} {self.pixels.f1:>9.3f} "
            f"{self.pixels.precision:>10.3f} {self.pixels.recall:>7.3f}"
        )


def run_demo(out: Path, size: int = SIZE, seed: int = SEED) -> str:
    """Make a scene, map it with the bundled weights and with two baselines, and tell the scores."""
    start = time.perf_counter()
    _say(f"making a scene of {size} x {size} px in {out / 'scene'}")
    scene = write(out / "scene", Synth(size=size, seed=seed))
    runs = map_scene(scene, out)
    run = runs[METHODS[0]]
    picture = draw(scene, run, out / "picture.jpg")
    lines = [score(method, run, scene).line() for method, run in runs.items()]
    return "\n".join(
        [
            f"Synthetic scene, seed {seed}, {size} x {size} px, never trained on; known truth.",
            "",
            f"{'':<14} {'building F1':>11} {'pixel F1':>9} {'precision':>10} {'recall':>7}",
            *lines,
            "",
            "difference and texture are what can be done without a network, for comparison.",
            f"{time.perf_counter() - start:.0f} seconds in all.",
            "",
            f"picture    {picture}",
            f"map        {run.path / 'buildings.gpkg'}   (opens coloured in QGIS)",
            f"rasters    {run.path / 'damage.tif'}",
            f"report     {run.report}",
        ]
    )


def map_scene(scene: SynthScene, out: Path) -> dict[str, Run]:
    """Map a synthetic scene with every method of the demo, each from scratch."""
    runs = {}
    with connected("local") as client:
        for method in METHODS:
            _say(f"mapping its damage with {method}")
            runs[method] = assess(
                scene.pre, scene.post, out / method, method, client=client, fresh=True
            )
    return runs


def draw(scene: SynthScene, run: Run, path: Path, side: int = 800) -> Path:
    """Before, after and damage side by side: the middle of a scene at full resolution."""
    pair = make_pair(scene.pre, scene.post)
    row, col = ((n - side) // 2 for n in pair.grid.shape)
    pixels = pair.read(row, col, row + side, col + side)
    pre, post = (image.transpose(1, 2, 0) for image in (pixels.pre, pixels.post))
    codes = run.layers["damage"].values[row : row + side, col : col + side]
    Image.fromarray(np.hstack([pre, post, damage_picture(post, codes)])).save(path, quality=85)
    return path


def score(method: str, run: Run, scene: SynthScene) -> Score:
    """Compare a run with the truth of its scene."""
    truth = gpd.read_file(scene.footprints, layer="buildings")
    found = run.buildings if run.layers.get("p_none") is not None else run.damage_areas
    matches = match_buildings(list(truth.geometry), list(found.geometry))
    with rasterio.open(scene.truth) as source:
        codes = source.read(1)
    with rasterio.open(run.path / "damage.tif") as source:
        damage, transform = source.read(1), source.transform
    seen = (codes != 255) & (damage != 255)
    return Score(
        method,
        building_confusion(matches, _seen_classes(truth, seen, transform), found["damage_class"]),
        confusion(np.isin(codes, list(DAMAGED)), np.isin(damage, list(DAMAGED)), valid=seen),
    )


def _seen_classes(truth: gpd.GeoDataFrame, seen: np.ndarray, transform: Affine) -> np.ndarray:
    """True classes, 255 for buildings of which less than half was analysed."""
    shapes = zip(truth.geometry, range(1, len(truth) + 1), strict=True)
    ids = rasterize(shapes, seen.shape, transform=transform, dtype="int32").ravel()
    size = np.bincount(ids, minlength=len(truth) + 1)[1:]
    analysed = np.bincount(ids, weights=seen.ravel(), minlength=len(truth) + 1)[1:]
    return np.where(2 * analysed >= np.maximum(size, 1), truth["damage_class"], 255)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
