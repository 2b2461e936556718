"""Options that say nothing to a method: each that was given is refused by its name, or heard."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import shapely
from aftermap.cluster.client import connected
from aftermap.cluster.regions.region import run_region
from aftermap.kernels.methods import load_method
from aftermap.scenes.errors import UsageError
from distributed import Client
from rasters import UTM, texture, write_raster
from scored import SIDE, scored

import aftermap as am

OF_NETWORKS: dict[str, Any] = {
    "halo": 16,
    "views": 4,
    "ensemble": ["w.safetensors"],
    "compiled": True,
}
OF_A_PAIR: dict[str, Any] = {"coregister": True, "match_colour": True, "footprints_on": "after"}
OF_BUILDINGS: dict[str, Any] = {"rule": "threshold", "min_area": 40.0, "regularise": True}
OF_DETECTIONS: dict[str, Any] = {"nms": 0.4, "nms_rule": "malisiewicz", "geocoder": "photon"}


@pytest.fixture(scope="module")
def threads() -> Iterator[Client]:
    with connected("threads", workers=1) as client:
        yield client


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair, footprints on and off a bright field, and weights of both methods that score squares."""
    folder = tmp_path_factory.mktemp("scene")
    pre = texture(128, 160)
    post = pre.copy()
    post[:, 30:90, 40:110] = 255 - post[:, 30:90, 40:110]
    write_raster(folder / "pre.tif", pre)
    write_raster(folder / "post.tif", post)
    boxes = [shapely.box(50, 40, 80, 70), shapely.box(120, 95, 150, 125)]
    placed = [shapely.affinity.affine_transform(b, [0.5, 0, 0, -0.5, UTM.c, UTM.f]) for b in boxes]
    gpd.GeoDataFrame(geometry=placed, crs="EPSG:32637").to_file(folder / "houses.gpkg")
    for method in ("inception-window", "deep-disaster"):
        scored(folder, method, post)
    return folder


def assess(folder: Path, out: Path, client: Client, method: str, **options: Any) -> am.Run:
    images = folder / "pre.tif", folder / "post.tif"
    if method in ("inception-window", "deep-disaster"):
        options["weights"] = folder / f"{method}.safetensors"
    return am.assess(*images, out, method, client=client, device="cpu", chunk=128, **options)


MEANINGLESS = [
    *(("inception-window", {k: v}) for k, v in (OF_NETWORKS | OF_A_PAIR | OF_BUILDINGS).items()),
    *(("deep-disaster", {k: v}) for k, v in (OF_NETWORKS | OF_A_PAIR | OF_DETECTIONS).items()),
    ("deep-disaster", {"rule": "threshold"}),
    *(("difference", {k: v}) for k, v in (OF_NETWORKS | OF_DETECTIONS | {"overlap": 8}).items()),
    ("difference", {"precision": "fp32"}),
    *(("fc-siam-diff", {k: v}) for k, v in (OF_DETECTIONS | {"overlap": 8}).items()),
]


@pytest.mark.parametrize(("method", "asked"), MEANINGLESS)
def test_what_says_nothing_is_refused_by_its_name(
    folder: Path, threads: Client, tmp_path: Path, method: str, asked: dict[str, Any]
) -> None:
    (name,) = asked
    flag = {"compiled": "compile"}.get(name, name).replace("_", "-")
    with pytest.raises(
        UsageError, match=rf"^--{flag} means nothing to {method}: .*\. Leave it out\.$"
    ):
        assess(folder, tmp_path / "run", threads, method, **asked)
    assert not (tmp_path / "run").exists()


def test_the_command_line_says_it_with_exit_code_2(folder: Path, tmp_path: Path) -> None:
    words = ["assess", folder / "post.tif", "-o", tmp_path / "run", "--method", "inception-window",
             "--weights", folder / "inception-window.safetensors", "--halo", "8"]  # fmt: skip
    told = subprocess.run(
        [sys.executable, "-m", "aftermap", *map(str, words)], capture_output=True, text=True
    )
    assert told.returncode == 2
    assert told.stderr.strip() == (
        "aftermap: --halo means nothing to inception-window: it scores whole squares, which need none. "
        "Leave it out."
    )


@pytest.mark.slow
def test_what_footprints_give_a_meaning_is_heard(
    folder: Path, threads: Client, tmp_path: Path
) -> None:
    """Footprints have a class, by a rule, of squares too; then there are no detections."""
    houses = folder / "houses.gpkg"
    for method in ("inception-window", "deep-disaster"):
        shares = {}
        for share in (0.01, 1.0):
            out = tmp_path / f"{method}-{share}"
            run = assess(
                folder,
                out,
                threads,
                method,
                footprints=houses,
                rule="threshold",
                damage_threshold=share,
            )
            assert len(run.buildings) == 2
            shares[share] = (run.buildings["damage_class"] == 5).sum()
            damaged = run.buildings["damage_frac"] >= share
            assert (run.buildings["damage_class"] == 5).tolist() == damaged.tolist()
        assert shares[0.01] >= shares[1.0]
    for name, value in (OF_DETECTIONS | {"min_area": 40.0}).items():
        with pytest.raises(UsageError, match="footprints get a class each"):
            assess(
                folder,
                tmp_path / "no",
                threads,
                "inception-window",
                footprints=houses,
                **{name: value},
            )


@pytest.mark.slow
def test_what_is_heard_decides(folder: Path, threads: Client, tmp_path: Path) -> None:
    areas = [
        assess(folder, tmp_path / f"{k}", threads, "deep-disaster", min_area=least).damage_areas
        for k, least in enumerate((0.0, SIDE**2 * 0.25 * 3))
    ]
    assert 0 < len(areas[1]) < len(areas[0])
    flagged = assess(
        folder, tmp_path / "f", threads, "inception-window", flags=(0.0, 1.0)
    ).damage_areas
    assert flagged["possibly_damaged"].all()
    assert not flagged["likely_damaged"].any()


def test_defaults_said_aloud_are_no_options(folder: Path, threads: Client, tmp_path: Path) -> None:
    run = assess(
        folder, tmp_path / "run", threads, "inception-window", rule="majority", min_area=15.0, views=1,
        footprints_on="before", coregister=False,
    )  # fmt: skip
    assert run.record["state"] == "done"


def test_a_region_refuses_them_before_any_image_is_looked_at(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "region.toml"
    file.write_text(
        f'[region]\nname = "here"\nout = "out"\n[images]\nkind = "folder"\nbefore = "{folder}/pre.tif"\nafter = "{folder}/post.tif"\n'
        '[assess]\nmethod = "difference"\nnms = 0.3\n'
    )
    with pytest.raises(UsageError, match=r"\[assess\] --nms means nothing to difference"):
        run_region(file)
    assert not (tmp_path / "out").exists()


def test_options_that_no_method_has(folder: Path) -> None:
    with pytest.raises(
        UsageError, match=r"difference does not take the option 'colour'. Its options: level"
    ):
        load_method("difference", colour="red")
    weights = folder / "inception-window.safetensors"
    with pytest.raises(
        UsageError, match=r"does not take the option 'side'\. Its options: overlap, prec"
    ):
        load_method("inception-window", weights, side=64)
