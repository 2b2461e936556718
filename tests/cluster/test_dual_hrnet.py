"""Dual-HRNet through the whole run: blended windows, ensembles and views, buildings on seams once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from aftermap.cluster.budget import make_budget
from aftermap.cluster.client import connected
from aftermap.cluster.command import run_assess
from aftermap.kernels.methods import load_method
from aftermap.scenes.errors import Refused
from aftermap.scenes.plan import Plan
from aftermap.scenes.synth import Synth, write
from distributed import Client
from dual import dual_weights

import aftermap as am


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return write(tmp_path_factory.mktemp("scene"), Synth(size=420, seed=5))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("weights")
    return [dual_weights(folder / f"{seed}.safetensors", seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def threads() -> Iterator[Client]:
    with connected("threads", workers=2) as client:
        yield client


def digests(run: Path) -> dict[str, str]:
    names = ("damage.tif", "p_major.tif", "buildings.gpkg", "buildings.parquet", "summary.csv")
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in names}


def test_chunks_change_no_byte_and_no_building(
    scene: Any, weights: list[Path], threads: Client, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "method": "dual-hrnet", "weights": weights[0], "ensemble": weights[1:], "views": 4,
        "client": threads, "min_area": 5,
    }  # fmt: skip
    small = am.assess(scene.pre, scene.post, out=tmp_path / "small", chunk=96, **options)
    whole = am.assess(scene.pre, scene.post, out=tmp_path / "whole", chunk=480, **options)
    assert digests(small.path) == digests(whole.path)
    assert len(small.buildings) > 0
    record = json.loads((small.path / "run.json").read_text())
    assert record["method"]["ensemble"] == [str(weights[1])]
    assert record["method"]["views"] == 4
    assert record["method"]["weights_sha256"].count("+") == 1
    assert set(small.buildings.weights_sha256) == {record["method"]["weights_sha256"]}


def test_damage_lies_inside_of_buildings_only(
    scene: Any, weights: list[Path], threads: Client, tmp_path: Path
) -> None:
    run = am.assess(
        scene.pre, scene.post, out=tmp_path / "run", method="dual-hrnet", weights=weights[0],
        client=threads, footprints=scene.footprints,
    )  # fmt: skip
    with (
        rasterio.open(run.path / "damage.tif") as damage,
        rasterio.open(run.path / "building_probability.tif") as building,
    ):
        codes, share = damage.read(1), building.read(1)
    seen = codes != 255
    assert (share[seen & (codes > 0)] >= 125).all()
    assert (share[seen & (codes == 0)] <= 125).all()
    # One level per building, whatever its pixels say.
    assert run.buildings.building_id.is_unique
    assert set(run.buildings.damage_class) <= {1, 2, 3, 4, 255}


def test_another_ensemble_is_another_run(
    scene: Any, weights: list[Path], threads: Client, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "out": tmp_path / "run", "method": "dual-hrnet", "weights": weights[0], "client": threads,
    }  # fmt: skip
    am.assess(scene.pre, scene.post, **options)
    with pytest.raises(Refused, match="views"):
        am.assess(scene.pre, scene.post, views=4, **options)
    with pytest.raises(Refused, match="weights_sha256"):
        am.assess(scene.pre, scene.post, ensemble=weights[1:], **options)


def test_the_plan_counts_the_squares_of_every_chunk(
    scene: Any, weights: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {
        "images": [str(scene.pre), str(scene.post)], "method": "dual-hrnet",
        "weights": weights[0], "ensemble": None, "views": 1, "chunk": 192, "dry_run": True,
        "as_json": True, "workers": 1,
    }  # fmt: skip
    assert run_assess(arguments) == 0
    plan = json.loads(capsys.readouterr().out)
    rows, cols = -(-plan["height"] // 96), -(-plan["width"] // 96)
    assert plan["chunks"] == (-(-rows // 2)) * (-(-cols // 2))
    assert plan["windows"] == (rows + -(-rows // 2)) * (cols + -(-cols // 2))
    assert plan["pixels_seen_per_pixel"] == pytest.approx(
        plan["windows"] * 128**2 / (plan["height"] * plan["width"]), abs=1e-3
    )
    assert np.isfinite(plan["estimated_seconds"])


def test_a_large_scene_gets_chunks_of_many_squares(
    weights: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The squares at a chunk's edge are worked on twice: small chunks would double the work."""
    # The plan alone is asked about; its 28 GiB need not be free on the machine of the test.
    monkeypatch.setattr("aftermap.cluster.budget.room_bytes", lambda folder: 1 << 40)
    kernel = load_method("dual-hrnet", weights[0], device="cpu")
    side = 60_000
    budget = make_budget(
        kernel, (side, side), (0, 0, side, side), 2, 8 << 30, None, tmp_path, probe=False
    )
    assert budget.plan.chunk > 4096
    assert budget.peak_bytes <= 8 << 30
    once = Plan.of((side, side), kernel.window, side).overhead
    assert budget.plan.overhead < 1.1 * once
