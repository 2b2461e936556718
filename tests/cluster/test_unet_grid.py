"""Footprints and grid cells from end to end: buildings with one class each, on seams once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from aftermap.cluster.client import connected
from aftermap.cluster.evaluate import evaluate
from aftermap.scenes.errors import Refused
from aftermap.scenes.synth import Synth, write
from distributed import Client
from exactextract import exact_extract
from grids import grid_weights, random_weights
from scipy import ndimage
from typer.testing import CliRunner

import aftermap as am
from aftermap.cli import app


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return write(tmp_path_factory.mktemp("scene"), Synth(size=400, seed=5))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grid_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def threads() -> Iterator[Client]:
    with connected("threads", workers=2) as client:
        yield client


def assess(scene: Any, weights: Path, client: Client, out: Path, **options: Any) -> am.Run:
    return am.assess(
        scene.pre,
        scene.post,
        out=out,
        method="unet-grid",
        weights=weights,
        client=client,
        **options,
    )


def test_chunks_change_no_byte_and_buildings_come_out_once(
    scene: Any, weights: Path, threads: Client, tmp_path: Path
) -> None:
    small = assess(scene, weights, threads, tmp_path / "small", chunk=128, min_area=0)
    whole = assess(scene, weights, threads, tmp_path / "whole", chunk=512, min_area=0)
    for name in ("damage.tif", "damage_probability.tif", "buildings.gpkg", "summary.csv"):
        one, other = ((run.path / name).read_bytes() for run in (small, whole))
        assert hashlib.sha256(one).digest() == hashlib.sha256(other).digest()
    with rasterio.open(small.path / "damage.tif") as source:
        damage = source.read(1)
    _, count = ndimage.label((damage == 1) | (damage == 5), np.ones((3, 3)))
    assert len(small.buildings) == count
    assert set(small.buildings.damage_class) <= {1, 5, 255}
    assert small.buildings.p_minor.isna().all()
    assert set(small.buildings.det_method) == {"components of classes 1 and 5"}
    record = json.loads((small.path / "run.json").read_text())
    assert record["totals"]["damage_areas"]["total"] == 0
    assert (small.path / "report.html").stat().st_size > 10_000


def test_the_probability_of_cells_goes_to_footprints_by_area(
    scene: Any, weights: Path, threads: Client, tmp_path: Path
) -> None:
    run = assess(
        scene,
        weights,
        threads,
        tmp_path / "run",
        footprints=scene.footprints,
        footprints_on="after",
    )
    table = run.buildings[run.buildings.damage_class != 255]
    assert len(table) > 10
    shares = exact_extract(
        str(run.path / "damage_probability.tif"), table, "mean", output="pandas"
    )["mean"]
    # Whole pixels against areas of pixels: a house has some hundred of them.
    assert abs(shares.to_numpy() / 250 - table.damage_score.to_numpy()).max() < 0.05
    threshold = json.loads((run.path / "run.json").read_text())["method"]["classes"][1]
    assert ((table.damage_class == 5) == (table.damage_score >= threshold)).all()


def test_the_command_joins_and_refuses_in_words(tmp_path: Path) -> None:
    buildings = random_weights(tmp_path / "a.safetensors", "unet-footprints")
    cells = random_weights(tmp_path / "b.safetensors", "grid-classifier")
    out = tmp_path / "joined"
    done = CliRunner().invoke(app, ["weights", "join", str(buildings), str(cells), "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert (out / "unet-grid.json").is_file()


def test_chips_say_nothing_of_four_cells_around_a_middle(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"holds unet-grid, which is not evaluated on chips"):
        evaluate(weights, tmp_path, tmp_path / "out")
