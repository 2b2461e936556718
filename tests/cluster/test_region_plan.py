"""The plan of a region: what it says beforehand is what the run then takes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rasterio
import shapely
from aftermap.cluster.regions.file import read_region_file
from aftermap.cluster.regions.plan import RegionPlan, plan_region
from aftermap.cluster.regions.region import run_region
from aftermap.scenes.catalog import CatalogImage, Pairing, ScenePair
from aftermap.scenes.errors import Refused, UsageError
from rasters import write_raster
from regions import write_pair, write_region
from typer.testing import CliRunner

import aftermap as am
from aftermap.cli import app


@pytest.fixture
def file(tmp_path: Path) -> Path:
    pairs = [(name, *write_pair(tmp_path, name, 36, col)) for name, col in (("a", 0), ("b", 1))]
    return write_region(tmp_path, pairs)


def test_the_plan_is_what_the_run_takes(file: Path) -> None:
    plan = plan_region(file)
    assert not (file.parent / "out").exists()
    assert plan.pixels == 2 * 640 * 640
    assert plan.finished == 0
    assert plan.windows == plan.windows_left == 2 * 4  # two by two windows of 512 px each
    assert plan.seconds_per_window > 0
    assert plan.worker_hours == pytest.approx(8 * plan.seconds_per_window / 3600)
    run = run_region(file)
    chunks = [
        json.loads((run.path / "scenes" / name / "run.json").read_text())["plan"]["chunks"]
        for name in "ab"
    ]
    assert plan.chunks == sum(chunks)
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert plan.files * 0.8 <= len(files) <= plan.files
    assert sum(path.stat().st_size for path in files) <= plan.disk_bytes
    after = plan_region(file)
    assert (after.finished, after.windows_left, after.worker_hours) == (2, 0, 0)


def test_the_plan_refuses_what_the_run_refuses_and_counts_what_it_would_do(file: Path) -> None:
    run_region(file)
    file.write_text(file.read_text().replace("chunk = 256", "chunk = 256\nmin_area = 40"))
    for planned in (plan_region, run_region):
        with pytest.raises(Refused, match=r"2 scenes that were made differently.*\n.*min_area"):
            planned(file)
    fresh = plan_region(file, fresh=True)
    assert (fresh.scenes, fresh.finished, fresh.windows_left) == (2, 0, 8)
    one, none = plan_region(file, (2, 2), True), plan_region(file, (3, 3), True)
    assert (one.scenes, one.windows, one.pixels) == (1, 4, 640 * 640)
    assert (none.scenes, none.windows) == (0, 0)


def test_plans_from_catalog_figures_alone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aftermap.cluster.regions import region as module

    box = shapely.box(36, 37, 36.01, 37.02)  # 889.7 m by 2219.9 m at 37.01 degrees north

    def image(
        shape: tuple[int, int] | None, gsd: float | None = 0.5, place: str | None = None
    ) -> CatalogImage:
        href = "https://example.org/a.tif"
        return CatalogImage(href, "a", place, None, box, gsd=gsd, shape=shape)

    images = [
        image((17_408, 17_408)),
        image(None, 0.38, "37/031133012312"),  # a Maxar tile: 16,384 px and twice 512
        image((5_000, 300)),
        image(None),
        image(None, None),
    ]
    pairs = tuple(ScenePair(f"s{k}", i, i, box, "") for k, i in enumerate(images))
    monkeypatch.setattr(module, "find_pairs", lambda *_, **__: Pairing(pairs, (), {"pairs": 5}))
    region = replace(read_region_file(file), memory="4GiB", assess={"method": "difference"})
    plan = plan_region(region)
    outline = 4_440 * 1_780
    assert plan.pixels == pytest.approx(2 * 17_408**2 + 5_000 * 300 + outline, rel=1e-5)
    assert plan.windows == 2 * 34**2 + 10 * 1 + 9 * 4
    assert plan.unknown == 1
    assert "1 scenes are not in these figures" in plan.text()
    coarse = plan_region(replace(region, assess={"method": "difference", "resolution": 1.0}))
    tile = 5_313  # 5,312.5 m
    assert coarse.pixels == pytest.approx(8_704**2 + tile**2 + 2_500 * 150 + outline / 4, rel=1e-4)


def test_a_box_is_planned_smaller_than_the_whole(file: Path) -> None:
    region = read_region_file(file)
    pair = am.open_pair(file.parent / "a-pre.tif", file.parent / "a-post.tif")
    box = pair.odc.geobox.geographic_extent.boundingbox
    half = (box.left, box.bottom, box.right, (box.bottom + box.top) / 2)
    part = plan_region(replace(region, images=replace(region.images, bbox=half)))
    # Half of the first scene, and of what the second one shows of the first one's ground.
    assert part.pixels == pytest.approx((640 + 128) * 320, rel=0.02)


def test_node_hours_follow_the_job_table(file: Path) -> None:
    region = replace(read_region_file(file), job={"walltime": "02:00:00", "workers": 4})
    plan = plan_region(region)
    assert plan.node_hours == pytest.approx(plan.worker_hours / 4)
    assert "node-hours at 4 workers each" in plan.text()
    assert plan_region(read_region_file(file)).node_hours is None


def test_the_command_line_plans_a_region(file: Path) -> None:
    command = [sys.executable, "-m", "aftermap"]
    for words in (["plan", str(file)], ["region", str(file), "--dry-run"]):
        done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "2 pairs listed" in done.stdout
        assert "worker-hours" in done.stdout
        assert "Given as a pair in the list." in done.stdout
    done = subprocess.run(
        [*command, "plan", str(file), "--json"], capture_output=True, text=True, timeout=120
    )
    assert json.loads(done.stdout)["scenes"] == 2
    assert not (file.parent / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--resolution 2", "resolution into [assess]"),
        ("--method difference", "method into [assess]"),
        ("--chunk 512", "chunk into [assess]"),
        ("--halo 64", "halo into [assess]"),
        ("--device cpu", "device into [assess]"),
        ("--precision fp32", "precision into [assess]"),
        ("--grid pre", "grid into [assess]"),
        ("--coregister --match-colour", "coregister into [assess], match_colour into [assess]"),
        ("--compile", "compiled into [assess]"),
        ("--gcps", "gcps into [assess]"),
        ("--bbox 36 37 38 39", "bbox into [images]"),
        ("--aoi area.gpkg", "aoi into [images]"),
    ],
)
def test_options_of_one_scene_are_refused_beside_a_region_file(
    file: Path, words: str, message: str
) -> None:
    done = CliRunner().invoke(app, ["plan", str(file), *words.split()])
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)


def test_options_of_the_region_may_stand_beside_its_file(file: Path) -> None:
    words = ["--cluster", "threads", "--workers", "3", "--memory", "3GiB", "-o", "other", "--json"]
    done = CliRunner().invoke(app, ["plan", str(file), *words])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["workers"] == 3


def test_images_without_a_coordinate_system_are_placed_as_asked(file: Path) -> None:
    for image in file.parent.glob("*.tif"):
        with rasterio.open(image) as source:
            pixels, place = source.read(), source.transform
        image.unlink()
        write_raster(image, pixels, None, place)
    with pytest.raises(Refused, match="no coordinate system"):
        plan_region(file)
    text = file.read_text()
    file.write_text(text.replace("chunk = 256", 'chunk = 256\ncrs = "EPSG:32636"\nresolution = 1'))
    plan = plan_region(file)
    assert (plan.unknown, len(plan.pairing.pairs)) == (0, 2)
    assert plan.pixels == 2 * 320 * 320
    run = run_region(file)
    assert run.exit_code == 0
    assert run.damage_areas.crs.to_epsg() == 32636
    assert len(run.damage_areas) > 0


def test_the_public_plan_takes_both(file: Path) -> None:
    region = am.cluster.plan(file)
    assert isinstance(region, RegionPlan)
    images = file.parent / "a-pre.tif", file.parent / "a-post.tif"
    pair: Any = am.cluster.plan(*images, method="difference")
    assert pair.plan.window_count == 4
    with pytest.raises(UsageError, match="region file"):
        am.cluster.plan(images[0])


def test_a_region_that_cannot_be_is_refused_in_the_plan(file: Path) -> None:
    (file.parent / "pairs.csv").write_text("pre,post\n")
    with pytest.raises(Refused, match="lists no pair"):
        plan_region(file)
