"""The store: a chunk is one shard of each layer, so that no two tasks ever write to one file."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr
from affine import Affine
from aftermap.scenes.layer import NOT_ANALYSED, Layer
from aftermap.scenes.plan import Plan, Window
from aftermap.scenes.store import Store
from odc.geo.geobox import GeoBox

LAYERS = (
    Layer("damage", "class"),
    Layer("damage_probability", "probability"),
    Layer("window_score", "probability", every=8),
)


def store(path: Path, plan: Plan) -> Store:
    made = Store(path / "layers.zarr", plan, LAYERS)
    height, width = plan.region_shape
    made.create(GeoBox((height, width), Affine(0.5, 0, 0, 0, -0.5, 0), "EPSG:32637"), {})
    return made


def shards(made: Store) -> dict[str, bytes]:
    return {
        str(file.relative_to(made.path)): file.read_bytes()
        for layer in LAYERS
        for file in (made.path / layer.name).glob("c/*/*")
    }


@pytest.mark.parametrize("shape", [(500, 700), (512, 512), (513, 1025), (40, 40)])
@pytest.mark.parametrize("chunk", [64, 128, 320])
@pytest.mark.parametrize("region", [None, (130, 70, 300, 333)])
def test_each_chunk_writes_one_shard_of_each_layer_and_no_other(
    tmp_path: Path, shape: tuple[int, int], chunk: int, region: tuple[int, int, int, int] | None
) -> None:
    if region is not None and shape == (40, 40):
        region = (0, 0, 20, 40)
    plan = Plan.of(shape, Window(64, 16), chunk, region or (0, 0, *shape))
    made = store(tmp_path, plan)
    rng = np.random.default_rng(chunk)
    whole = {
        layer.name: rng.integers(
            0, 250, [-(-side // layer.every) for side in plan.region_shape], np.uint8
        )
        for layer in LAYERS
    }
    for part in plan:
        before = shards(made)
        cells = {layer.name: made._cells(layer, part) for layer in LAYERS}
        made.write(part, {name: whole[name][where] for name, where in cells.items()})
        after = shards(made)
        i, j = part.index
        assert set(after) - set(before) == {f"{layer.name}/c/{i}/{j}" for layer in LAYERS}
        assert {name: after[name] for name in before} == before
    group = zarr.open_group(made.path, mode="r")
    for layer in LAYERS:
        array = group[layer.name]
        assert array.shards == (plan.chunk // layer.every,) * 2
        np.testing.assert_array_equal(array[:], whole[layer.name])


def test_a_chunk_that_is_not_a_shard_is_never_written(tmp_path: Path) -> None:
    plan = Plan.of((512, 512), Window(64, 16), 128, (0, 0, 512, 512))
    made = store(tmp_path, plan)
    part = plan.at(1, 1)
    values = {
        layer.name: np.zeros((128 // layer.every, 128 // layer.every), np.uint8) for layer in LAYERS
    }
    for wrong in (
        dataclasses.replace(part, row0=part.row0 + 64, row1=part.row1 + 64),
        dataclasses.replace(part, col1=part.col1 + 64),
        dataclasses.replace(part, index=(1, 2)),
    ):
        with pytest.raises(ValueError, match="not in shard"):
            made.write(wrong, values)
    assert shards(made) == {}
    coarse = dataclasses.replace(made, layers=(Layer("damage", "class", every=48),))
    with pytest.raises(ValueError, match="not in shard"):
        coarse._cells(coarse.layers[0], plan.at(1, 1))


def test_what_was_not_written_is_not_analysed(tmp_path: Path) -> None:
    plan = Plan.of((200, 200), Window(64, 16), 64, (0, 0, 200, 200))
    made = store(tmp_path, plan)
    part = plan.at(0, 1)
    made.blank(part)
    assert made.done(part)
    assert made.sound(part)
    assert not made.done(plan.at(0, 0))
    for layer in LAYERS:
        assert (made.read(layer.name, 0, 0, 200, 200) == NOT_ANALYSED).all()


@pytest.mark.parametrize("layer", [layer.name for layer in LAYERS])
def test_a_chunk_without_one_of_its_shards_is_not_done(tmp_path: Path, layer: str) -> None:
    """Zarr reads such a shard as its fill value, 255, and finds nothing wrong with it."""
    plan = Plan.of((200, 200), Window(64, 16), 64, (0, 0, 200, 200))
    made = store(tmp_path, plan)
    hurt, other = plan.at(0, 1), plan.at(1, 1)
    for part in (hurt, other):
        made.blank(part)
    shard = made.path / layer / "c/0/1"
    whole = shard.read_bytes()
    shard.write_bytes(b"")
    assert not made.sound(hurt)
    shard.unlink()
    assert not made.done(hurt)
    assert not made.sound(hurt)
    shard.write_bytes(whole[:-10])
    assert made.done(hurt)  # by its size; only reading tells
    assert not made.sound(hurt)
    shard.write_bytes(whole)
    assert made.sound(hurt)
    assert made.sound(other)


def test_a_store_that_lacks_an_array_is_made_anew_and_a_whole_one_is_kept(tmp_path: Path) -> None:
    plan = Plan.of((200, 200), Window(64, 16), 64, (0, 0, 200, 200))
    made = store(tmp_path, plan)
    part = plan.at(2, 2)
    made.blank(part)
    before = shards(made)
    store(tmp_path, plan)
    assert shards(made) == before != {}
    shutil.rmtree(made.path / "window_score")
    again = store(tmp_path, plan)
    assert shards(again) == {}
    again.blank(part)
    assert shards(again) == before


def test_a_chunk_is_written_wherever_an_event_loop_runs(tmp_path: Path) -> None:
    """A notebook's cells run inside one; a worker's threads and a plain script do not."""
    plan = Plan.of((100, 100), Window(64, 16), 128)
    (chunk,) = plan
    values = {layer.name: np.full((100, 100), 7, np.uint8) for layer in LAYERS}
    values["window_score"] = np.full((13, 13), 9, np.uint8)
    plain, inside = store(tmp_path / "plain", plan), store(tmp_path / "inside", plan)
    plain.write(chunk, values)

    async def cell() -> None:
        inside.write(chunk, values)

    with ThreadPoolExecutor(1) as other:  # this thread may run one itself, after a browser's test
        other.submit(asyncio.run, cell()).result()
    assert shards(inside) == shards(plain) != {}


def test_what_a_killed_process_left_of_a_shard_is_gone_once_the_chunk_is_written(
    tmp_path: Path,
) -> None:
    plan = Plan.of((100, 200), Window(64, 16), 128)
    made = store(tmp_path, plan)
    first, second = plan
    rest = made.path / "damage_probability/c/0/1.59e3ced2241f4f82b3c4404e69ba2784.partial"
    rest.parent.mkdir(parents=True)
    rest.write_bytes(b"half a shard")
    made.blank(first)
    assert rest.exists()  # another chunk's, which someone may be writing
    made.blank(second)
    assert not list(made.path.rglob("*.partial"))
    assert made.done(first)
    assert made.done(second)
