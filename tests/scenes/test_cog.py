"""COGs are valid, exact, coloured, reproducible, and written by one writer."""

from pathlib import Path
from threading import Event, Thread, current_thread

import numpy as np
import pytest
import rasterio
from affine import Affine
from aftermap.scenes import cog
from aftermap.scenes.cog import write_cog
from aftermap.scenes.errors import AftermapError
from aftermap.scenes.layer import Layer
from aftermap.scenes.legend import colour_table
from aftermap.scenes.plan import Plan, Window
from aftermap.scenes.store import Store
from odc.geo.geobox import GeoBox
from rio_cogeo.cogeo import cog_validate

LAYERS = (
    Layer("damage", "class"),
    Layer("damage_probability", "probability"),
    Layer("window_score", "probability", every=4),
)
GRID = Affine(0.5, 0, 316000, 0, -0.5, 4162000)


def stored(folder: Path, shape: tuple[int, int], chunk: int = 256) -> tuple[Store, GeoBox, dict]:
    """A store of random bytes."""
    rng = np.random.default_rng(0)
    plan = Plan.of(shape, Window(64, 0), chunk)
    grid = GeoBox(shape, GRID, "EPSG:32637")
    store = Store(folder / f"layers{chunk}.zarr", plan, LAYERS)
    store.create(grid, {})
    cells = tuple(-(-side // 4) for side in shape)
    values = {
        "damage": rng.choice(np.array([0, 0, 0, 1, 4, 255], np.uint8), shape),
        "damage_probability": rng.integers(0, 251, shape, dtype=np.uint8),
        "window_score": rng.integers(0, 251, cells, dtype=np.uint8),
    }
    values["damage_probability"][:, : shape[1] // 2] = 255
    for part in plan:
        cut = {}
        for layer in LAYERS:
            n = layer.every
            rows = slice(part.row0 // n, -(-part.row1 // n))
            cut[layer.name] = values[layer.name][rows, part.col0 // n : -(-part.col1 // n)]
        store.write(part, cut)
    return store, grid, values


@pytest.mark.parametrize("shape", [(1237, 1411), (64, 2049), (5, 3)])
@pytest.mark.parametrize("name", ["damage", "damage_probability", "window_score"])
def test_a_valid_cog_on_the_exact_grid(tmp_path: Path, shape: tuple[int, int], name: str) -> None:
    store, grid, values = stored(tmp_path, shape)
    path = tmp_path / f"{name}.tif"
    write_cog(store, name, grid, path, {"run_id": "abc"})
    valid, errors, warnings = cog_validate(path, strict=True)
    assert valid, (errors, warnings)
    with rasterio.open(path) as file:
        assert (file.read(1) == values[name]).all()
        every = 4 if name == "window_score" else 1
        assert file.transform == Affine(0.5 * every, 0, 316000, 0, -0.5 * every, 4162000)
        assert file.crs == "EPSG:32637"
        assert file.nodata == 255
        assert file.tags()["run_id"] == "abc"
        if name == "damage":
            colours = file.colormap(1)
            wanted = {k: v for k, v in colour_table().items() if k not in (0, 255)}
            assert {k: colours[k] for k in wanted} == wanted
    assert [p.name for p in tmp_path.glob("*.tif*")] == [path.name]
    assert not list(tmp_path.glob(".*"))


def test_overviews_take_the_commonest_class_and_the_mean_of_what_is_known(tmp_path: Path) -> None:
    store, grid, values = stored(tmp_path, (1200, 1400))
    for name in ("damage", "damage_probability"):
        write_cog(store, name, grid, tmp_path / f"{name}.tif")
    with rasterio.open(tmp_path / "damage.tif", overview_level=0) as file:
        seen = file.read(1)
    assert set(np.unique(seen)) <= {0, 1, 4, 255}
    with rasterio.open(tmp_path / "damage_probability.tif", overview_level=0) as file:
        mean = file.read(1)
    assert (mean[:, :350] == 255).all()
    right = values["damage_probability"][:, 700:].astype(float)
    blocks = right.reshape(600, 2, 350, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(mean[:, 350:], blocks, atol=1)


def test_the_same_bytes_again_and_under_another_chunk_size(tmp_path: Path) -> None:
    seen = set()
    for chunk in (256, 256, 448):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        store, grid, _ = stored(folder, (700, 900), chunk)
        write_cog(store, "damage", grid, folder / "damage.tif")
        seen.add((folder / "damage.tif").read_bytes())
    assert len(seen) == 1


def test_a_region_is_read_from_its_own_corner(tmp_path: Path) -> None:
    plan = Plan.of((300, 400), Window(64, 0), 64, region=(64, 128, 256, 384))
    grid = GeoBox(plan.region_shape, GRID, "EPSG:32637")
    store = Store(tmp_path / "layers.zarr", plan, LAYERS[:1])
    store.create(grid, {})
    whole = np.arange(300 * 400, dtype=np.uint32).reshape(300, 400) % 6
    for part in plan:
        cut = whole[part.row0 : part.row1, part.col0 : part.col1].astype(np.uint8)
        store.write(part, {"damage": cut})
    write_cog(store, "damage", grid, tmp_path / "damage.tif")
    with rasterio.open(tmp_path / "damage.tif") as file:
        assert (file.read(1) == whole[64:256, 128:384]).all()


def test_a_failure_leaves_the_old_file_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, grid, _ = stored(tmp_path, (100, 100))
    (tmp_path / "damage.tif").write_text("old")

    def fail(*_args: object, **_options: object) -> None:
        raise rasterio.errors.RasterioIOError("No space left on device")

    monkeypatch.setattr(cog, "copy", fail)
    with pytest.raises(AftermapError, match="No space left on device"):
        write_cog(store, "damage", grid, tmp_path / "damage.tif")
    assert (tmp_path / "damage.tif").read_text() == "old"
    assert [p.name for p in tmp_path.glob("*.tif*")] == ["damage.tif"]
    assert not list(tmp_path.glob(".*"))


def test_a_writer_that_was_left_behind_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its client was killed; another run has the folder, and writes the same file meanwhile.
    old, grid, _ = stored(tmp_path, (300, 300))
    new, _, values = stored(tmp_path, (300, 300), chunk=128)
    path = tmp_path / "damage.tif"
    original, at_work, go_on = cog._copy_to_cog, Event(), Event()

    def copy_late(plain: Path, part: Path, layer: Layer) -> None:
        if current_thread() is behind:
            at_work.set()
            go_on.wait(60)
        original(plain, part, layer)

    told: list[str] = []

    def write_behind() -> None:
        with pytest.raises(AftermapError) as error:
            write_cog(old, "damage", grid, path, {"run_id": "old"}, wanted=lambda: False)
        told.append(str(error.value))

    monkeypatch.setattr(cog, "_copy_to_cog", copy_late)
    behind = Thread(target=write_behind)
    behind.start()
    assert at_work.wait(60)
    write_cog(new, "damage", grid, path, {"run_id": "new"})
    before = path.read_bytes()
    go_on.set()
    behind.join()
    assert told
    assert path.read_bytes() == before
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), values["damage"])
        assert file.tags()["run_id"] == "new"
    assert not list(tmp_path.glob(".*"))


def test_a_file_that_is_not_wanted_any_more_is_not_put_in_place(tmp_path: Path) -> None:
    store, grid, _ = stored(tmp_path, (100, 100))
    path = tmp_path / "damage.tif"
    write_cog(store, "damage", grid, path, {"run_id": "new"})
    before = path.read_bytes()
    with pytest.raises(AftermapError, match="another run"):
        write_cog(store, "damage", grid, path, {"run_id": "old"}, wanted=lambda: False)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    store, grid, _ = stored(tmp_path, (100, 100))
    for name in (".damage.0123abcd.plain.tif", ".damage.0123abcd.part.tif.ovr.tmp"):
        (tmp_path / name).touch()
    other = tmp_path / ".damage_probability.0123abcd.plain.tif"
    other.touch()
    write_cog(store, "damage", grid, tmp_path / "damage.tif")
    assert list(tmp_path.glob(".*")) == [other]
