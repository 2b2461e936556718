"""Options that only decide what becomes of a run's layers: chunks are kept, results written anew."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import rasterio
import shapely
import xarray as xr
from aftermap.cluster.assess import run_request
from aftermap.cluster.client import connected
from aftermap.cluster.request import Request
from aftermap.scenes.errors import Refused
from distributed import Client
from pyproj import Transformer
from rasters import texture, write_raster
from scored import scored

import aftermap as am


@pytest.fixture(scope="module")
def threads() -> Iterator[Client]:
    with connected("threads", workers=1) as client:
        yield client


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small image after the event, and weights that score its squares."""
    folder, image = tmp_path_factory.mktemp("town"), texture(128, 160)
    weights = scored(folder, "inception-window", image, overlap=4)
    return write_raster(folder / "after.tif", image), weights


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gazetteers of one place of a name."""
    folder = tmp_path_factory.mktemp("names")

    def named(name: str) -> Path:
        frame = gpd.GeoDataFrame(
            {"name": [name]}, geometry=[shapely.Point(300_050, 4_099_950)], crs=32637
        )
        frame.to_file(folder / f"{name}.gpkg")
        return folder / f"{name}.gpkg"

    return named


def outputs(run: Path) -> dict[str, str]:
    """Digest of every file that must not depend on how a run came about."""
    free = {"run.json", "report.html", ".lock"}
    return {
        str(file.relative_to(run)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in run.rglob("*")
        if file.is_file() and file.name not in free
    }


def shards(run: Path) -> dict[str, int]:
    """When each shard was written."""
    found = (run / "layers.zarr").glob("*/c/*/*")
    return {str(file.relative_to(run)): file.stat().st_mtime_ns for file in found}


def compare(
    files: tuple[Path | None, Path],
    client: Client,
    folder: Path,
    first: dict[str, Any],
    then: dict[str, Any],
    **shared: Any,
) -> tuple[am.Run, am.Run]:
    """A run with other options in the end, and one that had them from the start: the same files."""
    asked: dict[str, Any] = {"chunk": 150, "client": client, **shared}
    one = am.assess(*files, folder / "changed", **asked, **first)
    kept = shards(one.path)
    assert kept
    before = one.record
    changed = am.assess(*files, folder / "changed", **asked, **then)
    assert shards(changed.path) == kept
    assert changed.record["chunks_run"] == 0
    assert changed.record["layers_id"] == before["layers_id"]
    assert changed.record["run_id"] != before["run_id"]
    fresh = am.assess(*files, folder / "fresh", **asked, **then)
    assert changed.record["run_id"] == fresh.record["run_id"]
    assert outputs(changed.path) == outputs(fresh.path)
    assert xr.open_zarr(changed.path / "layers.zarr", consolidated=False).attrs == {
        "layers_id": before["layers_id"]
    }
    with rasterio.open(changed.path / "damage.tif") as source:
        assert source.tags()["run_id"] == fresh.record["run_id"]
    return changed, fresh


@pytest.mark.slow
def test_another_gazetteer_and_suppression_keep_the_scores(
    town: tuple[Path, Path], threads: Client, towns: Callable[[str], Path], tmp_path: Path
) -> None:
    changed, _ = compare(
        (None, town[0]),
        threads, tmp_path, {"gazetteer": towns("Here")},
        {"gazetteer": towns("There"), "nms": 0.5, "nms_rule": "malisiewicz"},
        method="inception-window", weights=town[1], device="cpu",
    )  # fmt: skip
    found = gpd.read_file(changed.path / "buildings.gpkg", layer="damage_areas")
    assert len(found) > 3
    assert set(found["address"]) == {"There"}


def test_what_decides_anything_else_is_refused_and_told_alone(
    town: tuple[Path, Path], threads: Client, towns: Callable[[str], Path], tmp_path: Path
) -> None:
    asked: dict[str, Any] = {
        "method": "inception-window", "weights": town[1], "device": "cpu", "client": threads,
    }  # fmt: skip
    run = am.assess(None, town[0], tmp_path / "run", gazetteer=towns("Here"), **asked)
    before = outputs(run.path)
    with pytest.raises(Refused, match=r"region") as refused:
        am.assess(
            None, town[0], tmp_path / "run", gazetteer=towns("There"),
            bbox=_west(run.record), **asked,
        )  # fmt: skip
    assert "gazetteer" not in str(refused.value)
    assert outputs(run.path) == before


def _west(record: dict[str, Any]) -> tuple[float, float, float, float]:
    """The western half of a run's scene, degrees."""
    grid = record["facts"]["grid"]
    a, _, left, _, e, top = grid["transform"]
    height, width = grid["shape"]
    corners = Transformer.from_crs(grid["crs"], "EPSG:4326", always_xy=True)
    return corners.transform_bounds(left, top + e * height, left + a * width / 2, top)


@pytest.mark.slow
def test_it_is_told_and_a_stopped_run_goes_on_with_other_options(
    town: tuple[Path, Path], threads: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {
        "method": "inception-window", "weights": town[1], "device": "cpu", "chunk": 80,
    }  # fmt: skip
    fresh = am.assess(None, town[0], tmp_path / "fresh", client=threads, nms=0.5, **asked)
    run = am.assess(None, town[0], tmp_path / "run", client=threads, **asked)
    record = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(record | {"state": "running"}))
    gone = next((run.path / "layers.zarr" / "damage" / "c").glob("0/*"))
    gone.unlink()
    request = Request(pre=None, post=town[0], out=run.path, cluster=threads, nms=0.5, **asked)
    again = run_request(request, quiet=False)
    told = capsys.readouterr().err
    assert "options.nms: was" in told
    assert "Its chunks are kept" in told
    assert again.record["chunks_run"] == 1
    assert outputs(again.path) == outputs(fresh.path)
    run_request(request, quiet=False)
    assert "complete already" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_while_it_is_written_anew_it_goes_on_with_either_options(
    town: tuple[Path, Path], threads: Client, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    asked: dict[str, Any] = {
        "method": "inception-window", "weights": town[1], "device": "cpu", "client": threads,
    }  # fmt: skip
    first = am.assess(None, town[0], out, **asked)
    kept, before = shards(out), outputs(out)
    command = [sys.executable, "-m", "aftermap", "assess", str(town[0]), "-o", str(out)]
    command += ["--method", "inception-window", "--weights", str(town[1]), "--device", "cpu"]
    command += ["--cluster", "threads", "--nms", "0.5"]
    stamp = (out / "damage.tif").stat().st_mtime_ns
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while (out / "damage.tif").stat().st_mtime_ns == stamp and process.poll() is None:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert json.loads((out / "run.json").read_text())["state"] == "running"
    back = am.assess(None, town[0], out, **asked)
    assert outputs(out) == before
    assert back.record["run_id"] == first.record["run_id"]
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert shards(out) == kept
    fresh = am.assess(None, town[0], tmp_path / "fresh", nms=0.5, **asked)
    assert outputs(out) == outputs(fresh.path)
