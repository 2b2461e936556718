"""Synthetic scenes: exact truth, the same pixels however they are cut, and a bounded memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from aftermap.scenes.errors import Refused, UsageError
from aftermap.scenes.synth import (
    Synth,
    SynthScene,
    grid,
    render,
    render_pair_aligned,
    write,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize

SMALL = Synth(size=(640, 700), seed=4)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> SynthScene:
    return write(tmp_path_factory.mktemp("synth"), SMALL)


@pytest.fixture(scope="module")
def whole() -> dict[str, np.ndarray]:
    return {
        which: render(SMALL, which, 0, 0, own.height, own.width)
        for which in ("pre", "post", "truth")
        for own in [grid(SMALL, which)]
    }


def test_same_seed_same_pixels_other_seed_other_pixels() -> None:
    window = (100, 120, 96, 96)
    first = render_pair_aligned(Synth(512, seed=3), *window)
    again = render_pair_aligned(Synth(512, seed=3), *window)
    other = render_pair_aligned(Synth(512, seed=5), *window)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[1], other[1])


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), which=st.sampled_from(["pre", "post", "truth"]))
def test_pixels_do_not_depend_on_the_window(
    whole: dict[str, np.ndarray], data: st.DataObject, which: str
) -> None:
    full = whole[which]
    rows, cols = full.shape[-2:]
    row = data.draw(st.integers(0, rows - 2))
    col = data.draw(st.integers(0, cols - 2))
    height = data.draw(st.integers(1, min(rows - row, 200)))
    width = data.draw(st.integers(1, min(cols - col, 200)))
    part = render(SMALL, which, row, col, height, width)  # type: ignore[arg-type]
    assert np.array_equal(part, full[..., row : row + height, col : col + width])


@pytest.mark.parametrize(("seed", "gsd"), [(15, 0.5), (15, 1.0), (22, 0.8), (17, 0.3)])
def test_other_towns_do_not_depend_on_the_window_either(seed: int, gsd: float) -> None:
    spec = Synth(1024, seed, gsd)
    full = render_pair_aligned(spec, 0, 0, 480, 500)
    rng = np.random.default_rng(seed)
    for _ in range(8):
        row, col = (int(n) for n in rng.integers(0, 420, 2))
        height, width = (int(n) for n in rng.integers(1, 60, 2))
        part = render_pair_aligned(spec, row, col, height, width)
        for piece, all_of_it in zip(part, full, strict=True):
            at = slice(row, row + height), slice(col, col + width)
            assert np.array_equal(piece, all_of_it[..., *at])


def test_the_pair_is_what_the_rasters_hold() -> None:
    spec = Synth(512, seed=2, nuisances=False)
    pre, post, truth = render_pair_aligned(spec, 64, 32, 128, 160)
    assert np.array_equal(pre, render(spec, "pre", 64, 32, 128, 160))
    assert np.array_equal(post, render(spec, "post", 64, 32, 128, 160))
    assert np.array_equal(truth, render(spec, "truth", 64, 32, 128, 160))


def test_files_hold_the_rendered_pixels(scene: SynthScene, whole: dict[str, np.ndarray]) -> None:
    for which, path in (("pre", scene.pre), ("post", scene.post), ("truth", scene.truth)):
        with rasterio.open(path) as source:
            assert np.array_equal(np.squeeze(source.read()), whole[which])
            assert source.profile["blockxsize"] == 512
            assert source.dtypes[0] == "uint8"
            assert source.nodata == (255 if which == "truth" else 0)
    left = [p.name for p in scene.pre.parent.iterdir()]
    assert sorted(left) == ["footprints.gpkg", "post.tif", "pre.tif", "truth.tif"]


def test_dates_lie_on_other_grids_over_the_same_ground(scene: SynthScene) -> None:
    with rasterio.open(scene.pre) as pre, rasterio.open(scene.post) as post:
        assert pre.crs == post.crs == "EPSG:32637"
        assert post.shape == (640, 700)
        assert post.res == (0.5, 0.5)
        assert pre.res == (0.6, 0.6)
        assert ((pre.bounds.left - post.bounds.left) / 0.5) % 1 > 0.05
        assert pre.bounds.left < post.bounds.left
        assert pre.bounds.right > post.bounds.right
        assert pre.bounds.top > post.bounds.top
        assert pre.bounds.bottom < post.bounds.bottom


def test_truth_is_the_footprints_rasterised(scene: SynthScene) -> None:
    buildings = geopandas.read_file(scene.footprints, layer="buildings")
    assert set(buildings.columns) >= {"damage_class", "building_id", "kind"}
    assert buildings.building_id.is_unique
    assert set(buildings.damage_class) <= {1, 2, 3, 4}
    assert buildings.geometry.is_valid.all()
    with rasterio.open(scene.truth) as source:
        truth, transform = source.read(1), source.transform
    pairs = zip(buildings.geometry, buildings.damage_class, strict=True)
    drawn = rasterize(pairs, truth.shape, transform=transform, dtype="uint8")
    seen = truth != 255
    assert 0.005 < 1 - seen.mean() < 0.2
    assert np.array_equal(truth[seen], drawn[seen])
    with rasterio.open(scene.post) as source:
        assert np.array_equal((source.read() == 0).all(0), ~seen)


@pytest.mark.parametrize("seed", [0, 1])
def test_levels_and_their_shares_in_a_default_scene(seed: int) -> None:
    truth = render(Synth(seed=seed), "truth", 0, 0, 2048, 2048)
    shares = (
        np.bincount(truth[(truth > 0) & (truth < 5)], minlength=5)
        / ((truth > 0) & (truth < 5)).sum()
    )
    assert (shares[1:] > 0.01).all(), shares
    assert 0.45 < shares[1] < 0.85, shares


def test_without_nuisances_only_damage_differs() -> None:
    spec = Synth(768, seed=6, nuisances=False)
    assert grid(spec, "pre") == grid(spec, "post")
    pre, post, truth = render_pair_aligned(spec, 0, 0, 768, 768)
    from scipy.ndimage import binary_dilation

    assert truth.max() <= 4
    hit = binary_dilation(truth > 1, iterations=60)
    calm = (truth == 1) & ~hit
    struck = truth == 4
    assert calm.any()
    assert struck.any()
    change = abs(pre.astype(int) - post).mean(0)
    assert change[calm].mean() < 0.5
    assert change[struck].mean() > 15


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 32}, "64 x 64.*32.*--size"),
        ({"size": (64, 12)}, "64 x 64"),
        ({"size": 100.5}, "whole pixels"),
        ({"gsd": 3.0}, "0.2 to 1.0 m.*3.0.*--gsd"),
        ({"gsd": 0.01}, "gsd"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_requests_are_told_in_words(arguments: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Synth(**arguments)


def test_unknown_raster_is_refused() -> None:
    with pytest.raises(UsageError, match="pre, post or truth"):
        render(Synth(64), "after", 0, 0, 8, 8)  # type: ignore[arg-type]


def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(Refused, match=r"cannot be written.*another folder"):
        write(blocked / "scene", Synth(64))


def test_progress_reaches_one(tmp_path: Path) -> None:
    seen: list[float] = []
    write(tmp_path, Synth(64, seed=1), seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.slow
def test_memory_does_not_follow_the_scene(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from aftermap.scenes.synth import Synth, write;"
        "write(sys.argv[1], Synth((512, int(sys.argv[2]))));"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = [
        int(subprocess.check_output([sys.executable, "-c", code, str(tmp_path), str(width)]))
        for width in (1024, 8192)
    ]
    assert peaks[1] < 1.25 * peaks[0], peaks
