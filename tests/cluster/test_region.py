"""Regions from end to end: shares, resume after kill -9, set aside, refusals, exit codes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from aftermap.cluster.client import connected
from aftermap.cluster.regions.folder import RegionFolder
from aftermap.cluster.regions.region import RegionRun, run_region
from aftermap.scenes.errors import AftermapError, Refused, UsageError
from filelock import FileLock
from pyproj import Geod, Transformer
from rasters import texture, write_raster
from regions import CHANGED, GSD, STEP, ZONES, digests, write_pair, write_region
from sabotage import killed, site

SCENES = ("z36-a", "z36-b", "z37-a", "z37-b")
COMMAND = [sys.executable, "-m", "aftermap", "region"]


def make_images(folder: Path) -> list[tuple[str, Path, Path]]:
    """Two overlapping pairs in each of two UTM zones."""
    return [
        (name, *write_pair(folder, name, int(name[1:3]), "ab".index(name[-1]), int(name[1:3])))
        for name in SCENES
    ]


@pytest.fixture(scope="module")
def threads() -> Any:
    with connected("threads", workers=2) as client:
        yield client


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images and the region file; tests copy it."""
    folder = tmp_path_factory.mktemp("original")
    write_region(folder, make_images(folder))
    return folder


@pytest.fixture
def fresh(original: Path, tmp_path: Path) -> Path:
    """The region file in a folder of its own, the images where all runs find them."""
    text = (original / "region.toml").read_text()
    file = tmp_path / "region.toml"
    file.write_text(text.replace('"pairs.csv"', f'"{original / "pairs.csv"}"'))
    return file


@pytest.fixture(scope="module")
def reference(original: Path, threads: Any, tmp_path_factory: pytest.TempPathFactory) -> RegionRun:
    """The region, done in one go."""
    file = tmp_path_factory.mktemp("reference") / "region.toml"
    text = (original / "region.toml").read_text()
    file.write_text(text.replace('"pairs.csv"', f'"{original / "pairs.csv"}"'))
    return run_region(file, client=threads)


def start(file: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, str(file), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def squares(zone: int) -> np.ndarray:
    """Centres of the changed squares that two overlapping images show whole, map coordinates."""
    x, y = ZONES[zone]
    places = [
        (x + (k * STEP + col + 20) * GSD, y - (row + 20) * GSD)
        for k in range(2)
        for row, col in CHANGED
    ]
    return np.array(places)


def test_every_changed_square_is_found_once_in_two_zones(reference: RegionRun) -> None:
    assert reference.exit_code == 0
    assert dict(reference.counts) == {"done": 4}
    areas = reference.damage_areas
    assert areas.crs.to_epsg() == 4326
    assert areas["area_id"].is_unique
    for zone in ZONES:
        here = areas[areas["scene_id"].str.startswith(f"z{zone}")].to_crs(f"EPSG:326{zone}")
        for x, y in squares(zone):
            hit = here.geometry.contains(gpd.points_from_xy([x], [y])[0])
            assert hit.sum() == 1, (zone, x, y)
        # One more square begins at the right edge of the second image.
        assert len(here) == len(squares(zone)) + 1


def test_a_merged_row_is_the_scenes_row(reference: RegionRun) -> None:
    areas = reference.damage_areas.set_index("area_id")
    seen: list[str] = []
    for scene in SCENES:
        own = gpd.read_file(
            reference.path / "scenes" / scene / "buildings.gpkg", layer="damage_areas"
        )
        for _, row in own.set_index("area_id").iterrows():
            if row.name in areas.index:
                seen.append(str(row.name))
                merged = areas.loc[row.name]
                assert merged["area_m2"] == row["area_m2"]
                assert merged["damage_score"] == row["damage_score"]
                assert merged["scene_id"] == scene
    assert sorted(seen) == sorted(areas.index)
    assert len(seen) >= len(ZONES) * 2 * len(CHANGED)


def test_areas_and_totals_are_those_of_the_ground(reference: RegionRun) -> None:
    summary = reference.summary.set_index("figure")["value"]
    per_zone = []
    for zone, (x, y) in ZONES.items():
        width, height = (STEP + 640) * GSD, 640 * GSD
        ring = [(x, y), (x + width, y), (x + width, y - height), (x, y - height)]
        lon, lat = Transformer.from_crs(f"EPSG:326{zone}", "EPSG:4326", always_xy=True).transform(
            *zip(*ring, strict=True)
        )
        per_zone.append(abs(Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)[0]) / 1e6)
    assert summary["analysed area"] == pytest.approx(sum(per_zone), rel=1e-4)
    assert summary["not analysed area"].max() == pytest.approx(0, abs=1e-4)
    areas = reference.damage_areas
    number = reference.summary.query("figure == 'damage areas, number' and damage_class == 5")
    assert number["value"].item() == len(areas)
    assert summary["scenes, done"] == 4


def test_the_folder_of_a_region(reference: RegionRun) -> None:
    names = {path.name for path in reference.path.iterdir() if not path.name.startswith(".")}
    assert names >= {"region.json", "buildings.gpkg", "buildings.parquet", "summary.csv", "scenes"}
    assert not [p for p in reference.path.rglob("*") if ".part" in p.name or p.name == ".job"]
    record = reference.record
    assert record["state"] == "done"
    assert record["pairing"]["pairs"] == 4
    assert set(record["scenes"]) == set(SCENES)
    scene = record["scenes"]["z36-a"]
    assert (scene["state"], scene["attempts"]) == ("done", 1)
    assert scene["images"]["post"][0]["bytes"] > 0


def test_finished_scenes_are_skipped_in_milliseconds(
    reference: RegionRun, original: Path, threads: Any
) -> None:
    file = next(reference.path.parent.glob("*.toml"))
    before = {
        scene: (reference.path / "scenes" / scene / "run.json").stat().st_mtime_ns
        for scene in SCENES
    }
    files = digests(reference.path)
    again = run_region(file, client=threads)
    assert again.exit_code == 0
    assert digests(reference.path) == files
    for scene, stamp in before.items():
        assert (reference.path / "scenes" / scene / "run.json").stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_an_image_that_no_method_reads_is_set_aside_and_tried_again(
    original: Path, fresh: Path, threads: Any, reference: RegionRun
) -> None:
    folder = fresh.parent
    for name in ("pre", "post"):
        for scene in SCENES:
            shutil.copy(original / f"{scene}-{name}.tif", folder)
    write_region(folder, [(s, folder / f"{s}-pre.tif", folder / f"{s}-post.tif") for s in SCENES])
    good = folder / "z36-b-post.tif"
    with rasterio.open(good) as source:
        pixels, profile = source.read(), source.profile
    good.unlink()
    write_raster(
        good, pixels.astype(np.uint16) * 8, profile["crs"].to_string(), profile["transform"]
    )
    run = run_region(folder / "region.toml", client=threads)
    assert run.exit_code == 4
    assert dict(run.counts) == {"done": 3, "failed": 1}
    assert "uint16" in run.record["scenes"]["z36-b"]["reason"]
    unseen = gpd.read_file(run.path / "buildings.gpkg", layer="not_analysed")
    lost = unseen[unseen["scene_id"] == "z36-b"]
    assert lost["reason"].str.startswith("the scene failed").all()
    assert lost["area_m2"].sum() == pytest.approx(STEP * 640 * GSD**2, rel=0.3)
    told = run.summary[run.summary["figure"] == "not analysed area: the scene failed"]
    assert told["value"].item() == pytest.approx(lost["area_m2"].sum() / 1e6, rel=1e-3)
    # With the image mended, the same call does the one scene that is missing.
    shutil.copy(original / "z36-b-post.tif", good)
    stamp = (run.path / "scenes/z36-a/run.json").stat().st_mtime_ns
    run = run_region(folder / "region.toml", client=threads)
    assert run.exit_code == 0
    assert (run.path / "scenes/z36-a/run.json").stat().st_mtime_ns == stamp
    assert len(run.damage_areas) == len(reference.damage_areas)


@pytest.mark.slow
def test_a_scene_without_a_valid_pixel_is_no_failure(
    original: Path, tmp_path: Path, threads: Any
) -> None:
    pairs = make_images(tmp_path)[:2]
    with rasterio.open(pairs[1][2]) as source:
        profile = source.profile
    pairs[1][2].unlink()
    blank = np.zeros((3, profile["height"], profile["width"]), np.uint8)
    write_raster(pairs[1][2], blank, profile["crs"].to_string(), profile["transform"], nodata=0)
    run = run_region(write_region(tmp_path, pairs), client=threads)
    assert run.exit_code == 0
    assert dict(run.counts) == {"done": 1, "nothing": 1}
    reasons = run.record["totals"]["not_analysed"]
    assert list(reasons) == ["no pixel of the scene could be analysed"]
    alone = tmp_path / "alone"
    alone.mkdir()
    for file in pairs[1][1:]:
        shutil.copy(file, alone)
    only = [("b", alone / pairs[1][1].name, alone / pairs[1][2].name)]
    done = subprocess.run(
        [*COMMAND, str(write_region(alone, only))], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 5, done.stderr


@pytest.mark.slow
def test_kill_9_at_any_time_then_the_same_command_gives_the_same_bytes(
    fresh: Path, reference: RegionRun
) -> None:
    out = fresh.parent / "out"
    for landmark in (
        "scenes/z36-a/layers.zarr/damage/c/0/0",
        "scenes/z36-b/damage.tif",
        "scenes/z37-a.json",
        "buildings.parquet",
    ):
        process = start(fresh)
        while not (out / landmark).exists() and process.poll() is None:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    done = subprocess.run([*COMMAND, str(fresh)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert digests(out) == digests(reference.path)
    assert not [p for p in out.rglob("*") if ".part" in p.name]


@pytest.mark.slow
def test_shares_in_two_processes_then_finish_equal_one_run(
    fresh: Path, reference: RegionRun
) -> None:
    out = fresh.parent / "out"
    shares = [start(fresh, "--scenes", f"{k}/2") for k in (1, 2)]
    for process in shares:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    assert not (out / "region.json").exists()
    done = subprocess.run(
        [*COMMAND, str(fresh), "--finish", "--json"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"] == {"done": 4}
    assert digests(out) == digests(reference.path)


@pytest.mark.slow
def test_finish_merges_what_is_there_and_says_what_is_missing(
    fresh: Path, threads: Any, reference: RegionRun
) -> None:
    part = run_region(fresh, client=threads, share=(1, 2))
    assert part.exit_code == 0
    assert dict(part.counts) == {"done": 2}
    run = run_region(fresh, client=threads, finish_only=True)
    assert run.exit_code == 4
    assert dict(run.counts) == {"done": 2, "missing": 2}
    assert set(run.damage_areas["scene_id"]) <= {"z36-a", "z37-a"}
    assert run.record["state"] == "incomplete"
    assert "not been assessed" in next(iter(run.record["totals"]["not_analysed"]))
    whole = run_region(fresh, client=threads)
    assert whole.exit_code == 0
    assert digests(run.path) == digests(reference.path)


@pytest.mark.slow
def test_changed_options_are_refused_by_name_and_started_over_with_fresh(
    fresh: Path, threads: Any
) -> None:
    run_region(fresh, client=threads, share=(1, 2))
    files = digests(fresh.parent / "out")
    fresh.write_text(fresh.read_text().replace("chunk = 256", "chunk = 256\nmin_area = 350"))
    with pytest.raises(Refused, match=r"2 scenes that were made differently(.|\n)*z36-a.*min_area"):
        run_region(fresh, client=threads)
    assert digests(fresh.parent / "out") == files
    run = run_region(fresh, client=threads, fresh=True)
    assert run.exit_code == 0
    assert run.record["scenes"]["z36-a"]["attempts"] == 2
    assert (run.damage_areas["area_m2"] >= 350).all()
    stamp = (run.path / "scenes/z36-a/run.json").stat().st_mtime_ns
    run_region(fresh, client=threads, fresh=True)
    assert (run.path / "scenes/z36-a/run.json").stat().st_mtime_ns == stamp


def test_a_changed_image_is_refused(original: Path, tmp_path: Path, threads: Any) -> None:
    pairs = make_images(tmp_path)[:1]
    file = write_region(tmp_path, pairs)
    run_region(file, client=threads)
    with rasterio.open(pairs[0][2], "r+") as target:
        target.write(texture(640, 640, 5))
    with pytest.raises(Refused, match=r"z36-a: images\.post"):
        run_region(file, client=threads)


def test_two_runs_of_one_region_the_second_is_refused(fresh: Path, threads: Any) -> None:
    out = fresh.parent / "out"
    out.mkdir()
    (out / "scenes").mkdir()
    with FileLock(out / ".lock"), pytest.raises(Refused, match="another process"):
        run_region(fresh, client=threads)
    with FileLock(out / ".share-1-of-2.lock"):
        with pytest.raises(Refused, match="share 1/2"):
            run_region(fresh, client=threads, share=(1, 2))
        assert run_region(fresh, client=threads, share=(2, 2)).exit_code == 0


def test_a_scene_that_another_process_works_on_is_left_to_it(fresh: Path, threads: Any) -> None:
    out = fresh.parent / "out"
    (out / "scenes").mkdir(parents=True)
    with FileLock(out / "scenes" / ".z36-b.lock"):
        run = run_region(fresh, client=threads)
    assert run.exit_code == 4
    assert dict(run.counts) == {"done": 3, "missing": 1}


def test_finish_and_fresh_do_not_go_together(fresh: Path, threads: Any) -> None:
    with pytest.raises(UsageError, match=r"--finish merges scenes as they are, and --fresh"):
        run_region(fresh, client=threads, finish_only=True, fresh=True)
    words = [*COMMAND, str(fresh), "--finish", "--fresh"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert not (fresh.parent / "out").exists()


@pytest.fixture
def copied(fresh: Path, reference: RegionRun) -> Path:
    """The region file of a folder in which the region is done."""
    shutil.copytree(reference.path, fresh.parent / "out")
    return fresh


@pytest.mark.parametrize("content", ['{"state": ', "[]", "{}"])
def test_a_scene_whose_record_cannot_be_read_is_begun_anew(
    copied: Path,
    threads: Any,
    reference: RegionRun,
    capfd: pytest.CaptureFixture[str],
    content: str,
) -> None:
    scenes = copied.parent / "out" / "scenes"
    (scenes / "z36-b" / "run.json").write_text(content)
    kept = (scenes / "z36-a" / "run.json").stat().st_mtime_ns
    merged = run_region(copied, client=threads, finish_only=True)
    assert dict(merged.counts) == {"done": 3, "missing": 1}
    assert list(merged.record["totals"]["not_analysed"])[-1].startswith("the scene's results are")
    run = run_region(copied, client=threads, quiet=False)
    assert run.exit_code == 0
    assert "z36-b done: its run.json could not be read" in capfd.readouterr().err
    assert (scenes / "z36-a" / "run.json").stat().st_mtime_ns == kept
    assert digests(run.path) == digests(reference.path)


def test_what_only_the_run_itself_notices_is_told_and_started_over_with_fresh(
    copied: Path, threads: Any, reference: RegionRun
) -> None:
    scene = copied.parent / "out" / "scenes" / "z36-b"
    record = json.loads((scene / "run.json").read_text())
    record["facts"]["options"]["match_colour"] = True
    (scene / "run.json").write_text(json.dumps(record | {"state": "running"}))
    state = scene.with_suffix(".json")
    state.write_text(state.read_text().replace('"state": "done"', '"state": "running"'))
    run = run_region(copied, client=threads)
    assert dict(run.counts) == {"done": 3, "failed": 1}
    assert "options.match_colour: was true, now false" in run.record["scenes"]["z36-b"]["reason"]
    run = run_region(copied, client=threads, fresh=True)
    assert run.exit_code == 0
    assert digests(run.path) == digests(reference.path)


def test_tasks_of_one_process_number_make_one_folder_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in containers on several nodes, where every task is process 7."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    folder = RegionFolder(tmp_path / "out")
    with ThreadPoolExecutor(4) as pool:
        for made in [pool.submit(folder.make, "region") for _ in range(400)]:
            made.result()
    assert sorted(path.name for path in folder.path.iterdir()) == [".region", "scenes"]


def test_a_folder_that_holds_something_else_is_refused(fresh: Path, threads: Any) -> None:
    out = fresh.parent / "out"
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    with pytest.raises(Refused, match=r"holds no region \(letter\.txt\)"):
        run_region(fresh, client=threads)
    assert [path.name for path in out.iterdir()] == ["letter.txt"]


def test_another_region_in_the_same_folder_is_refused(
    fresh: Path, threads: Any, reference: RegionRun
) -> None:
    text = fresh.read_text().replace('out = "out"', f'out = "{reference.path}"')
    fresh.write_text(text.replace('name = "region"', 'name = "Hatay"'))
    files = digests(reference.path)
    with pytest.raises(Refused, match=r"holds the region 'region', and this one is called 'Hatay'"):
        run_region(fresh, client=threads)
    assert digests(reference.path) == files


@pytest.mark.slow
def test_a_cluster_that_is_gone_stops_the_region_in_words(
    fresh: Path, reference: RegionRun, tmp_path: Path
) -> None:
    out = fresh.parent / "out"
    with site(tmp_path / "site") as here:
        (here.sabotage.folder / "pace").write_text("0.5")
        process = start(fresh, "--cluster", str(here.file))
        while not list(out.glob("scenes/*/layers.zarr/damage/c/0/0")) and process.poll() is None:
            time.sleep(0.01)
        killed(here.scheduler)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert "run the same command again" in said
    assert "Traceback" not in said
    done = subprocess.run([*COMMAND, str(fresh)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert digests(out) == digests(reference.path)


@pytest.mark.slow
def test_a_full_disk_stops_the_region_and_keeps_what_is_done(
    fresh: Path, reference: RegionRun, threads: Any, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        fresh.write_text(fresh.read_text().replace('out = "out"', f'out = "{disk / "out"}"'))
        run_region(fresh, client=threads, share=(1, 4))
        (disk / "ballast").write_bytes(bytes(17 << 20))
        # A cluster of its own: its worker may not outlive tasks that are cancelled on a full disk.
        with (
            connected("threads", workers=2) as own,
            pytest.raises(AftermapError, match="free"),
        ):
            run_region(fresh, client=own)
        states = {file.stem for file in (disk / "out/scenes").glob("*.json")}
        assert "z37-b" not in states  # the last one was not begun
        (disk / "ballast").unlink()
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        run = run_region(fresh, client=threads)
        assert run.exit_code == 0
        assert run.record["scenes"]["z36-a"]["attempts"] == 1
        assert digests(run.path) == digests(reference.path)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_options_are_checked_before_anything_is_written(fresh: Path, threads: Any) -> None:
    good = fresh.read_text()
    for wrong, kind, words in (
        ('method = "nonsense"', UsageError, "Unknown method"),
        ('method = "difference"\nscene = "x"', UsageError, "scene"),
        ('method = "difference"\nrule = "worst"', Refused | UsageError, "rule"),
        ('method = "difference"\nfootprints = "none.gpkg"', Refused, "does not exist"),
    ):
        fresh.write_text(good.replace('method = "difference"', wrong))
        with pytest.raises(kind if isinstance(kind, type) else (Refused, UsageError), match=words):
            run_region(fresh, client=threads)
    assert not (fresh.parent / "out").exists()


@pytest.mark.slow
def test_an_interrupt_stops_in_words_and_keeps_what_is_done(
    fresh: Path, reference: RegionRun
) -> None:
    out = fresh.parent / "out"
    process = start(fresh)
    while not (out / "scenes/z36-a.json").exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Run the same command again" in said
    done = subprocess.run([*COMMAND, str(fresh)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert digests(out) == digests(reference.path)


@pytest.mark.slow
def test_an_interrupt_does_not_wait_for_a_scene_that_is_being_written(
    fresh: Path, reference: RegionRun, tmp_path: Path
) -> None:
    out = fresh.parent / "out"
    with site(tmp_path / "site") as here:
        faults = here.sabotage.folder
        (faults / "hold-writing").touch()
        process = start(fresh, "--cluster", str(here.file))
        while not list(faults.glob("writing-*")) and process.poll() is None:
            time.sleep(0.05)
        began = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        assert time.monotonic() - began < 20
        assert process.returncode == 130, said
        assert not list(out.glob("scenes/*/damage.tif"))
        # Whoever was kept from writing writes on beside those of the next run.
        (faults / "hold-writing").unlink()
        done = subprocess.run(
            [*COMMAND, str(fresh), "--cluster", str(here.file)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    assert digests(out) == digests(reference.path)
    assert not [path for path in out.rglob("*") if ".part" in path.name]


def test_one_scene_at_a_time_gives_the_same_bytes(
    fresh: Path, threads: Any, reference: RegionRun
) -> None:
    fresh.write_text(fresh.read_text().replace("[cluster]", "[cluster]\nscenes_at_once = 1"))
    run = run_region(fresh, client=threads)
    assert digests(run.path) == digests(reference.path)


def test_no_more_scenes_are_in_flight_than_asked_for(
    fresh: Path, threads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aftermap.cluster.regions import scenes

    running: list[int] = []
    most: list[int] = []
    lock = threading.Lock()
    real = scenes.run_request

    def counted(*arguments: Any, **options: Any) -> Any:
        with lock:
            running.append(1)
            most.append(len(running))
        try:
            return real(*arguments, **options)
        finally:
            with lock:
                running.pop()

    monkeypatch.setattr(scenes, "run_request", counted)
    run = run_region(fresh, client=threads)
    assert run.exit_code == 0
    assert max(most) == 2
