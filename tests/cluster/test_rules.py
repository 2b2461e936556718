"""The rule of a run from the command line to the table, and back in what run.json says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import pytest
import shapely
from aftermap.cluster.client import connected
from aftermap.scenes.errors import Refused, UsageError
from distributed import Client
from rasters import UTM, texture, write_raster

import aftermap as am


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with connected("threads", workers=1) as client:
        yield client


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A pair with a large and a small changed block; footprints on, half on and off the large one."""
    folder = tmp_path_factory.mktemp("images")
    pre = texture(600, 600)
    post = pre.copy()
    for block in (slice(200, 300), slice(420, 444)):
        post[:, block, block] = 255 - post[:, block, block]
    boxes = [shapely.box(c, 220, c + 60, 280) for c in (220, 266, 400)]
    placed = [shapely.affinity.affine_transform(b, [0.5, 0, 0, -0.5, UTM.c, UTM.f]) for b in boxes]
    frame = gpd.GeoDataFrame({"id": [0, 1, 2]}, geometry=placed, crs="EPSG:32637")
    frame.to_file(folder / "houses.gpkg")
    before, after = write_raster(folder / "pre.tif", pre), write_raster(folder / "post.tif", post)
    return before, after, folder / "houses.gpkg"


def assess(files: tuple[Path, Path, Path], out: Path, client: Client, **options: object) -> am.Run:
    return am.assess(
        *files[:2], out, method="difference", footprints=files[2], client=client, **options
    )


def test_the_rule_decides_and_is_part_of_the_run(
    files: tuple[Path, Path, Path], client: Client, tmp_path: Path
) -> None:
    low = assess(files, tmp_path / "low", client, rule="threshold", damage_threshold=0.1)
    high = assess(files, tmp_path / "high", client, rule="threshold", damage_threshold=0.9)
    assert low.buildings["damage_class"].tolist() == [5, 5, 1]
    assert high.buildings["damage_class"].tolist()[1:] == [1, 1]
    share = low.buildings["damage_frac"].tolist()
    assert share[0] > share[1] > 0.3 > share[2]
    options = low.record["facts"]["options"]
    assert (options["rule"], options["damage_threshold"]) == ("threshold", 0.1)
    assert low.record["run_id"] != high.record["run_id"]
    with pytest.raises(Refused, match=r"made differently[\s\S]*damage_threshold"):
        assess(files, tmp_path / "low", client, rule="threshold", damage_threshold=0.2)
    with pytest.raises(Refused, match=r"made differently[\s\S]*footprints_on"):
        assess(
            files, tmp_path / "low", client,
            rule="threshold", damage_threshold=0.1, footprints_on="after",
        )  # fmt: skip


def test_flags_and_areas_follow_their_options(
    files: tuple[Path, Path, Path], client: Client, tmp_path: Path
) -> None:
    given = assess(files, tmp_path / "given", client, flags=(0.2, 0.2))
    score = given.buildings["damage_score"]
    assert given.buildings["likely_damaged"].tolist() == (score >= 0.2).tolist()
    found = am.assess(
        *files[:2], tmp_path / "all", method="difference", client=client, min_area=0.0
    ).damage_areas
    most = am.assess(
        *files[:2], tmp_path / "large", method="difference", client=client, min_area=200.0
    ).damage_areas
    assert 0 < len(most) == (found["area_m2"] >= 200).sum() < len(found)


def test_what_cannot_be_is_refused_in_words(
    files: tuple[Path, Path, Path], client: Client, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match="knows no levels"):
        assess(files, tmp_path / "run", client, rule="worst")
    with pytest.raises(UsageError, match="the before or the after image"):
        assess(files, tmp_path / "run", client, footprints_on="both")
    command = [sys.executable, "-m", "aftermap", "assess", *map(str, files[:2])]
    command += ["-o", str(tmp_path / "run"), "--rule", "median"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert "majority, worst, mean, threshold" in told.stderr
    assert not (tmp_path / "run").exists()
