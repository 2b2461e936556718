"""The run from end to end: outputs, layouts, resume after kill -9, quarantine, provenance."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from aftermap.cluster.assess import run_request
from aftermap.cluster.client import connected
from aftermap.cluster.request import Request
from aftermap.scenes.errors import Refused
from aftermap.scenes.plan import Chunk
from aftermap.scenes.store import Store
from distributed import Client
from rasters import texture, write_raster

import aftermap as am


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """900 x 1100 px with three changed blocks, one of them across chunk seams, and a nodata corner."""
    folder = tmp_path_factory.mktemp("images")
    pre = texture(900, 1100)
    post = pre.copy()
    for rows, cols in (
        (slice(100, 160), slice(200, 300)),
        (slice(490, 560), slice(480, 600)),
        (slice(700, 720), slice(900, 930)),
    ):
        post[:, rows, cols] = 255 - post[:, rows, cols]
    post[:, :80, :120] = 0
    return write_raster(folder / "pre.tif", pre), write_raster(folder / "post.tif", post, nodata=0)


@pytest.fixture(scope="module")
def threads() -> Any:
    with connected("threads", workers=2) as client:
        yield client


def outputs(run: Path) -> dict[str, str]:
    """Digest of every file of a run that must not depend on how it was made."""
    free = {"run.json", "report.html", ".lock"}
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in free
    }


def assess(files: tuple[Path, Path], out: Path, client: Client, **options: Any) -> am.Run:
    return am.assess(
        *files, out=out, method="difference", client=client, **{"chunk": 512} | options
    )


@pytest.fixture(scope="module")
def reference(
    files: tuple[Path, Path], threads: Client, tmp_path_factory: pytest.TempPathFactory
) -> am.Run:
    return assess(files, tmp_path_factory.mktemp("run") / "run", threads)


def test_a_run_finds_what_changed_and_says_what_it_could_not_see(reference: am.Run) -> None:
    with rasterio.open(reference.path / "damage.tif") as source:
        damage = source.read(1)
        assert source.nodata == 255
    assert damage.shape == (900, 1100)
    assert (damage[:80, :120] == 255).all()
    assert (damage[110:150, 210:290] == 5).mean() > 0.6
    assert (damage[300:440, 100:400] == 0).all()
    assert len(reference.damage_areas) >= 3
    assert len(reference.buildings) == 0
    summary = reference.summary.set_index("figure")["value"]
    assert summary["not analysed area"].max() == pytest.approx(80 * 120 * 0.25 / 1e6, rel=0.02)
    assert reference.report.exists()


def test_every_file_of_the_run_folder_is_there(reference: am.Run) -> None:
    names = {path.name for path in reference.path.iterdir()}
    assert names >= {
        "run.json",
        "layers.zarr",
        "damage.tif",
        "damage_probability.tif",
        "buildings.gpkg",
        "buildings.parquet",
        "summary.csv",
        "report.html",
    }
    assert not [name for name in names if "part" in name or name == ".job"]


def test_provenance_names_everything_that_decided_the_result(
    reference: am.Run, files: tuple[Path, Path]
) -> None:
    record = reference.record
    assert record["state"] == "done"
    assert record["facts"]["inputs"]["pre"][0]["path"] == str(files[0])
    assert record["facts"]["inputs"]["post"][0]["bytes"] == files[1].stat().st_size
    assert record["method"]["level"] > 0
    assert record["plan"]["chunks"] == 6
    assert record["versions"]["aftermap"] == am.__version__
    assert record["shift"]["confidence"] > 0.9
    assert len(record["run_id"]) == 16


def test_layers_are_read_lazily_with_their_place(reference: am.Run) -> None:
    layers = reference.layers
    assert layers["damage"].dtype == np.uint8
    assert layers["damage_probability"].dtype == np.float32
    assert layers.rio.crs.to_epsg() == 32637
    probability = layers["damage_probability"].values
    assert np.isnan(probability[:80, :120]).all()
    assert np.nanmax(probability) <= 1


@pytest.mark.parametrize("chunk", [100, 1024, 4000])
def test_chunk_size_changes_no_byte_of_the_results(
    files: tuple[Path, Path], threads: Client, reference: am.Run, tmp_path: Path, chunk: int
) -> None:
    run = assess(files, tmp_path / "run", threads, chunk=chunk)
    mine, theirs = outputs(run.path), outputs(reference.path)
    same = {name for name in mine if not name.startswith("layers.zarr")}
    assert {name: mine[name] for name in same} == {
        name: value for name, value in theirs.items() if not name.startswith("layers.zarr")
    }
    for name in reference.layers:
        np.testing.assert_array_equal(run.layers[name].values, reference.layers[name].values)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_processes_give_the_same_bytes_as_threads(
    files: tuple[Path, Path], reference: am.Run, tmp_path: Path, workers: int
) -> None:
    run = am.assess(
        *files,
        out=tmp_path / "run",
        method="difference",
        chunk=512,
        cluster="local",
        workers=workers,
    )
    assert outputs(run.path) == outputs(reference.path)


def test_predict_gives_the_pixels_of_assess(files: tuple[Path, Path], reference: am.Run) -> None:
    level = reference.record["method"]["level"]
    layers = am.predict(am.open_pair(*files, chunks=300), am.load_method("difference", level=level))
    for name in layers:
        np.testing.assert_array_equal(layers[name].values, reference.layers[name].values)


def test_a_complete_run_is_not_run_again(
    files: tuple[Path, Path], threads: Client, reference: am.Run
) -> None:
    before = (reference.path / "damage.tif").stat().st_mtime_ns
    assess(files, reference.path, threads)
    assert (reference.path / "damage.tif").stat().st_mtime_ns == before


def test_only_missing_chunks_are_computed(
    files: tuple[Path, Path], threads: Client, reference: am.Run, tmp_path: Path
) -> None:
    run = assess(files, tmp_path / "run", threads)
    record = json.loads((run.path / "run.json").read_text())
    record["state"] = "running"
    (run.path / "run.json").write_text(json.dumps(record))
    (run.path / "layers.zarr/damage/c/1/2").unlink()
    kept = (run.path / "layers.zarr/damage/c/0/0").stat().st_mtime_ns
    again = assess(files, run.path, threads)
    assert again.record["chunks_run"] == 1
    assert again.record["attempts"] == 2
    assert (run.path / "layers.zarr/damage/c/0/0").stat().st_mtime_ns == kept
    assert outputs(run.path) == outputs(reference.path)


COMMAND = [sys.executable, "-m", "aftermap", "assess"]


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["threads", "local"])
def test_kill_9_at_random_moments_then_resume_gives_the_same_bytes(
    files: tuple[Path, Path], reference: am.Run, tmp_path: Path, cluster: str
) -> None:
    out = tmp_path / "run"
    command = [
        *COMMAND,
        *map(str, files),
        "-o",
        str(out),
        "--method",
        "difference",
        "--chunk",
        "512",
        "--cluster",
        cluster,
    ]
    rng = random.Random(cluster)
    # Once as the first chunks are written, once between chunks, once while the files are written.
    for landmark in ("layers.zarr", "layers.zarr/damage/c/1/0", "damage.tif"):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while not (out / landmark).exists() and process.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert json.loads((out / "run.json").read_text())["state"] == "running"
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert outputs(out) == outputs(reference.path)


def test_what_changed_is_refused_by_name(
    files: tuple[Path, Path], threads: Client, reference: am.Run
) -> None:
    with pytest.raises(Refused, match=r"options\.match_colour: was false, now true"):
        assess(files, reference.path, threads, match_colour=True)
    record = reference.path / "run.json"
    complete = record.read_text()
    record.write_text(complete.replace('"state": "done"', '"state": "running"'))
    with pytest.raises(Refused, match=r"--chunk 1024"):
        assess(files, reference.path, threads, chunk=1024)
    record.write_text(complete)


def test_footprints_get_a_class_each(
    files: tuple[Path, Path], threads: Client, tmp_path: Path
) -> None:
    from shapely.geometry import box

    def pixels(row0: int, col0: int, row1: int, col1: int) -> Any:
        return box(
            300_000 + col0 / 2, 4_100_000 - row1 / 2, 300_000 + col1 / 2, 4_100_000 - row0 / 2
        )

    frame = gpd.GeoDataFrame(
        {"osm_id": ["a", "b", "c"]},
        geometry=[pixels(110, 210, 150, 290), pixels(300, 300, 340, 350), pixels(10, 10, 60, 60)],
        crs="EPSG:32637",
    ).to_crs("EPSG:4326")
    frame.to_file(tmp_path / "footprints.geojson")
    run = assess(files, tmp_path / "run", threads, footprints=tmp_path / "footprints.geojson")
    buildings = run.buildings.set_index("source_id")
    assert buildings["damage_class"].to_dict() == {"a": 5, "b": 1, "c": 255}
    assert buildings.loc["c", "valid_frac"] == 0
    assert list(run.buildings["building_id"]) == ["0", "1", "2"]


def test_an_area_of_interest_leaves_the_rest_not_analysed(
    files: tuple[Path, Path], threads: Client, reference: am.Run, tmp_path: Path
) -> None:
    with rasterio.open(files[1]) as source:
        west, south, east, north = rasterio.warp.transform_bounds(
            source.crs, "EPSG:4326", *source.bounds
        )
    middle = (
        west + 0.4 * (east - west),
        south + 0.2 * (north - south),
        east,
        north - 0.3 * (north - south),
    )
    run = assess(files, tmp_path / "run", threads, bbox=middle)
    inner = run.layers["damage"]
    whole = reference.layers["damage"].sel(x=inner.x, y=inner.y)
    seen = inner.values != 255
    assert 0.3 < seen.mean() < 0.9
    np.testing.assert_array_equal(inner.values[seen], whole.values[seen])


def test_empty_and_cut_shards_are_computed_again(
    files: tuple[Path, Path], threads: Client, reference: am.Run, tmp_path: Path
) -> None:
    run = assess(files, tmp_path / "run", threads)
    record = run.path / "run.json"
    record.write_text(record.read_text().replace('"state": "done"', '"state": "running"'))
    (run.path / "layers.zarr/damage/c/0/1").write_bytes(b"")
    cut = run.path / "layers.zarr/damage_probability/c/1/2"
    cut.write_bytes(cut.read_bytes()[:-100])
    (run.path / "layers.zarr/damage_probability/c/0/0").write_bytes(b"")
    (run.path / "layers.zarr/damage_probability/c/1/0").unlink()
    assert assess(files, run.path, threads).record["chunks_run"] == 4
    assert outputs(run.path) == outputs(reference.path)


def test_resuming_reads_what_is_there_on_the_workers_and_counts_it_as_done(
    files: tuple[Path, Path], threads: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = assess(files, tmp_path / "run", threads)
    record = run.path / "run.json"
    record.write_text(record.read_text().replace('"state": "done"', '"state": "running"'))
    (run.path / "layers.zarr/damage/c/1/2").unlink()
    cut = run.path / "layers.zarr/damage/c/0/0"
    cut.write_bytes(cut.read_bytes()[:-100])
    readers: set[str] = set()
    sound = Store.sound

    def watched(store: Store, chunk: Chunk) -> bool:
        readers.add(threading.current_thread().name)
        return sound(store, chunk)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "sound", watched)
        request = Request(
            pre=files[0],
            post=files[1],
            out=run.path,
            method="difference",
            chunk=512,
            cluster=threads,
        )
        again = run_request(request, quiet=False)
    assert again.record["chunks_run"] == 2
    assert readers
    assert threading.main_thread().name not in readers
    assert "chunks 6/6, " in (told := capsys.readouterr().err)
    assert "chunks 7" not in told


@pytest.mark.parametrize(
    ("gone", "chunks"),
    [
        ("layers.zarr", 6),
        ("layers.zarr/damage", 6),
        ("layers.zarr/damage_probability", 6),
        ("layers.zarr/damage_probability/c/1", 3),
    ],
)
def test_a_complete_run_whose_layers_are_gone_is_made_whole_again(
    files: tuple[Path, Path],
    threads: Client,
    reference: am.Run,
    tmp_path: Path,
    gone: str,
    chunks: int,
) -> None:
    run = assess(files, tmp_path / "run", threads)
    shutil.rmtree(run.path / gone)
    again = assess(files, run.path, threads)
    assert (again.record["chunks_run"], again.record["state"]) == (chunks, "done")
    assert outputs(run.path) == outputs(reference.path)


def test_a_complete_run_whose_files_are_gone_is_finished_again(
    files: tuple[Path, Path], threads: Client, reference: am.Run, tmp_path: Path
) -> None:
    run = assess(files, tmp_path / "run", threads)
    (run.path / "damage.tif").unlink()
    (run.path / "summary.csv").unlink()
    assert assess(files, run.path, threads).record["chunks_run"] == 0
    assert outputs(run.path) == outputs(reference.path)


def test_another_placement_of_an_image_is_another_run(
    files: tuple[Path, Path], threads: Client, tmp_path: Path
) -> None:
    for name in ("pre", "post"):
        with rasterio.open(files[name == "post"]) as source:
            write_raster(tmp_path / f"{name}.tif", source.read(), crs=None)
    bare = tmp_path / "pre.tif", tmp_path / "post.tif"
    assess(bare, tmp_path / "run", threads, crs="EPSG:32637")
    with pytest.raises(Refused, match="placement"):
        assess(bare, tmp_path / "run", threads, crs="EPSG:32636")


def test_starting_over_keeps_the_footprints_that_lie_in_the_run_folder(
    files: tuple[Path, Path], threads: Client, tmp_path: Path
) -> None:
    from shapely.geometry import box

    out = tmp_path / "run"
    assess(files, out, threads)
    mine = out / "buildings.geojson"
    gpd.GeoDataFrame(
        geometry=[box(300_050, 4_099_800, 300_090, 4_099_850)], crs="EPSG:32637"
    ).to_file(mine)
    (out / ".layers.zarr.part").mkdir()
    run = assess(files, out, threads, footprints=mine, fresh=True)
    assert len(run.buildings) == 1
    assert mine.exists()
    assert not (out / ".layers.zarr.part").exists()


def test_only_footprints_in_the_area_asked_for_are_counted(
    files: tuple[Path, Path], threads: Client, tmp_path: Path
) -> None:
    from shapely.geometry import box

    squares = [
        box(x, y, x + 8, y + 8)
        for x in range(300_080, 300_500, 40)
        for y in range(4_099_600, 4_099_990, 40)
    ]
    gpd.GeoDataFrame(geometry=squares, crs="EPSG:32637").to_file(tmp_path / "all.geojson")
    area = box(300_100, 4_099_700, 300_200, 4_099_800)
    gpd.GeoDataFrame(geometry=[area], crs="EPSG:32637").to_file(tmp_path / "aoi.geojson")
    run = assess(
        files,
        tmp_path / "run",
        threads,
        footprints=tmp_path / "all.geojson",
        aoi=tmp_path / "aoi.geojson",
    )
    assert len(run.buildings) == sum(square.intersects(area) for square in squares)


def test_an_area_with_a_spike_is_its_polygon(
    files: tuple[Path, Path], threads: Client, tmp_path: Path
) -> None:
    from shapely.geometry import Polygon

    spike = Polygon(
        [
            (300_100, 4_099_700),
            (300_200, 4_099_700),
            (300_200, 4_099_800),
            (300_200, 4_099_990),
            (300_200, 4_099_800),
            (300_100, 4_099_800),
        ]
    )
    gpd.GeoDataFrame(geometry=[spike], crs="EPSG:32637").to_file(tmp_path / "aoi.gpkg")
    run = assess(files, tmp_path / "run", threads, aoi=tmp_path / "aoi.gpkg")
    assert (run.layers["damage"].values != 255).sum() == 200 * 200
