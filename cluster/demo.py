"""The demo: a synthetic disaster with known truth, mapped by the bundled weights and scored."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from affine import Affine
from rasterio.features import rasterize

from ..models.metrics import DAMAGED, Confusion, building_confusion, confusion, match_buildings
from ..scenes.synth import Synth, SynthScene, write
from .assess import run_request
from .request import Request
from .run import Run


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


def run_demo(out: Path, size: int = 2048, seed: int = 2023) -> str:
    """Make a scene, map it with the bundled weights and with two baselines, and tell the scores."""
    start = time.perf_counter()
    scene = write(out / "scene", Synth(size=size, seed=seed))
    runs = {
        method: _assess(scene, out, method) for method in ("fc-siam-diff", "difference", "texture")
    }
    scores = [score(method, run, scene) for method, run in runs.items()]
    run = runs["fc-siam-diff"]
    return "\n".join(
        [
            f"Synthetic scene, seed {seed}, {size} x {size} px, never trained on; known truth.",
            "",
            f"{'':<14} {'building F1':>11} {'pixel F1':>9} {'precision':>10} {'recall':>7}",
            *[line.line() for line in scores],
            "",
            "difference and texture are what can be done without a network, for comparison.",
            f"{time.perf_counter() - start:.0f} seconds in all.",
            "",
            f"map        {run.path / 'buildings.gpkg'}   (opens coloured in QGIS)",
            f"rasters    {run.path / 'damage.tif'}",
            f"report     {run.report}",
        ]
    )


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


def _assess(scene: SynthScene, out: Path, method: str) -> Run:
    return run_request(
        Request(pre=scene.pre, post=scene.post, out=out / method, method=method, fresh=True)
    )
