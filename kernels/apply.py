"""The one way a kernel meets pixels: blocks of whole windows, from neighbours or from files.

A block is a chunk with its halo. `apply` takes the halo of lazy arrays from the neighbouring
chunks (`dask.array.map_overlap`); `apply_chunk` reads it with the window from file-backed pairs,
fused into one task. Both hand the same block to `run_block`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from ..scenes.errors import Refused
from ..scenes.layer import NOT_ANALYSED, Layer
from ..scenes.pair import Pair
from ..scenes.plan import Chunk, Plan, Window
from .blend import Blending, blended
from .kernel import Kernel
from .scan import Edges, Scanning, scanned

Block = Mapping[str, np.ndarray]


def run_block(
    kernel: Kernel,
    pre: np.ndarray,
    post: np.ndarray,
    valid: np.ndarray,
    edges: Edges | None = None,
) -> Block:
    """Run a kernel over one block: whole windows side by side, with a halo around them.

    Images are (bands, h, w) uint8 and `valid` (h, w) bool, with h and w a whole number of cores
    plus two halos; `edges` are those of the raster, in pixels of the block; None: it ends with
    the cores. Returns each layer's bytes over the cores; windows without a valid pixel in their
    core are not run, and pixels that are not valid become 255.
    """
    core, halo = kernel.window.core, kernel.window.halo
    down, across = (valid.shape[0] - 2 * halo) // core, (valid.shape[1] - 2 * halo) // core
    kept = valid[halo : halo + down * core, halo : halo + across * core]
    if kernel.window.blended and kept.any():
        assert isinstance(kernel, Blending)
        made = blended(kernel, pre, post, valid)
        return {layer.name: _masked(made[layer.name], kept, layer) for layer in kernel.layers}
    if kernel.window.scan:
        inside = Edges(halo, halo, halo + down * core, halo + across * core)
        return scanned(cast(Scanning, kernel), post, valid, edges or inside)
    places = [
        (i, j)
        for i in range(down)
        for j in range(across)
        if kept[i * core : (i + 1) * core, j * core : (j + 1) * core].any()
    ]
    out = {
        layer.name: np.full(
            (down * core // layer.every, across * core // layer.every), NOT_ANALYSED, np.uint8
        )
        for layer in kernel.layers
    }
    batch = kernel.batch
    while places:
        now, size = places[:batch], kernel.window.size
        try:
            results = kernel(
                _cut(pre, now, core, size),
                _cut(post, now, core, size),
                _cut(valid, now, core, size),
            )
        except MemoryError:
            if batch == 1:
                raise
            batch = math.ceil(batch / 2)
            continue
        for layer in kernel.layers:
            side = core // layer.every
            for n, (i, j) in enumerate(now):
                there = slice(i * side, (i + 1) * side), slice(j * side, (j + 1) * side)
                out[layer.name][there] = results[layer.name][n]
        places = places[batch:]
    return {layer.name: _masked(out[layer.name], kept, layer) for layer in kernel.layers}


def read_block(pair: Pair, plan: Plan, chunk: Chunk) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a chunk with its halo from the files: before, after, validity, whole windows."""
    down, across = plan.windows_in(chunk)
    core, halo = plan.window.core, plan.window.halo
    return pair.read(
        chunk.row0 - halo,
        chunk.col0 - halo,
        chunk.row0 + down * core + halo,
        chunk.col0 + across * core + halo,
    )


def apply_chunk(kernel: Kernel, pair: Pair, plan: Plan, chunk: Chunk) -> Block | None:
    """Read, run and crop one chunk of a file-backed pair; None where nothing can be analysed."""
    pre, post, valid = read_block(pair, plan, chunk)
    height, width = chunk.shape
    halo = plan.window.halo
    core = np.s_[halo : halo + height, halo : halo + width]
    analysed = valid[core] & pair.wanted(chunk.row0, chunk.col0, chunk.row1, chunk.col1)
    if not analysed.any():
        return None
    block = run_block(kernel, pre, post, valid, _edges(plan, chunk))
    return {
        layer.name: _masked(_cells(block[layer.name], layer, height, width), analysed, layer)
        for layer in kernel.layers
    }


def _edges(plan: Plan, chunk: Chunk) -> Edges:
    """Where the raster begins and ends, in pixels of a chunk's block."""
    top, left = (first - plan.window.halo for first in (chunk.row0, chunk.col0))
    return Edges(-top, -left, plan.shape[0] - top, plan.shape[1] - left)


def apply(kernel: Kernel, pair: xr.Dataset, chunk: int = 2048) -> xr.Dataset:
    """Run a kernel over a lazy pair: lazy layers of stored bytes on the pair's coordinates.

    Chunks become whole windows, anchored to the raster the pair was cut from; the halo comes from
    neighbouring chunks by `map_overlap`. Nothing is computed, and token names are deterministic.
    """
    _check_dataset(kernel, pair)
    tiling = Tiling.of(pair, kernel.window, chunk)
    stack = _stack(pair, kernel).rechunk({1: tiling.rows, 2: tiling.cols})
    token = tokenize(kernel, tiling, stack.name)
    depth = {0: 0, 1: tiling.depth(0), 2: tiling.depth(1)}
    packed = da.map_overlap(
        _run_tile,
        stack,
        depth=depth,
        boundary="none",
        trim=False,
        drop_axis=0,
        chunks=(tiling.rows, tiling.cols),
        dtype=object,
        meta=np.empty((0, 0), object),
        name=f"aftermap-block-{token}",
        kernel=kernel,
        tiling=tiling,
    )
    layers = {}
    for layer in kernel.layers:
        values = packed.map_blocks(
            _pick,
            layer.name,
            dtype=np.uint8,
            chunks=tuple(tuple(-(-n // layer.every) for n in axis) for axis in packed.chunks),
            meta=np.empty((0, 0), np.uint8),
            name=f"aftermap-{layer.name}-{token}",
        )
        dims = ("y", "x") if layer.every == 1 else (f"y_{layer.every}", f"x_{layer.every}")
        layers[layer.name] = xr.DataArray(values, dims=dims, attrs={"kind": layer.kind})
    coords = {name: pair.coords[name] for name in ("y", "x", "spatial_ref") if name in pair.coords}
    return xr.Dataset(layers, coords=coords, attrs={"method": kernel.method})


@dataclass(frozen=True)
class Tiling:
    """How a lazy array's rows and columns are cut, and where it lies on the window grid."""

    rows: tuple[int, ...]
    cols: tuple[int, ...]
    origin: tuple[int, int]
    """Row and column of the array's first pixel in the full raster."""
    window: Window

    @classmethod
    def of(cls, pair: xr.Dataset, window: Window, chunk: int) -> Tiling:
        """Cut a pair into chunks of whole windows; a rest smaller than the halo joins its neighbour."""
        origin = _origin(pair)
        side = max(1, -(-max(chunk, window.halo) // window.core)) * window.core
        rows, cols = (
            _axis(pair.sizes[dim], start, side, window.halo)
            for dim, start in zip(("y", "x"), origin, strict=True)
        )
        return cls(rows, cols, origin, window)

    def depth(self, axis: int) -> int:
        """Pixels that chunks lend each other along an axis; none where there is one chunk."""
        return self.window.halo if len((self.rows, self.cols)[axis]) > 1 else 0

    def padding(self, axis: int, index: int) -> tuple[int, int]:
        """Pixels missing before and after chunk `index` of an axis to make whole windows and halos."""
        sizes = (self.rows, self.cols)[axis]
        first = self.origin[axis] + sum(sizes[:index])
        last = first + sizes[index]
        lent = self.depth(axis)
        core, halo = self.window.core, self.window.halo
        before = first % core + halo - (lent if index > 0 else 0)
        after = -last % core + halo - (lent if index < len(sizes) - 1 else 0)
        return before, after

    def edges(self, i: int, j: int) -> Edges:
        """Where the array begins and ends, in pixels of the block of chunk (i, j)."""
        (top, bottom), (left, right) = (self._ends(axis, n) for axis, n in enumerate((i, j)))
        return Edges(top, left, bottom, right)

    def _ends(self, axis: int, index: int) -> tuple[int, int]:
        sizes, origin = (self.rows, self.cols)[axis], self.origin[axis]
        core = self.window.core
        begin = (origin + sum(sizes[:index])) // core * core - self.window.halo
        return origin - begin, origin + sum(sizes) - begin


def _axis(length: int, start: int, side: int, halo: int) -> tuple[int, ...]:
    """Chunk sizes of one axis: cut at multiples of `side` counted from the full raster's edge."""
    first = min(length, side - start % side)
    sizes = [first] + [side] * ((length - first) // side)
    if rest := length - sum(sizes):
        sizes.append(rest)
    if len(sizes) > 1 and sizes[-1] < halo:
        last = sizes.pop()
        sizes[-1] += last
    if len(sizes) > 1 and sizes[0] < halo:
        first = sizes.pop(0)
        sizes[0] += first
    return tuple(sizes)


def _origin(pair: xr.Dataset) -> tuple[int, int]:
    """Where the pair's first pixel lies in the raster that its windows are anchored to.

    `open_pair` and `open_scene` record that raster's corner; a pair made otherwise is its own.
    """
    if "anchor" not in pair.attrs:
        return 0, 0
    x0, y0 = pair.attrs["anchor"]
    transform = pair.rio.transform(recalc=True)
    return round((transform.f - y0) / transform.e), round((transform.c - x0) / transform.a)


def _stack(pair: xr.Dataset, kernel: Kernel) -> da.Array:
    """Images and validity as one array (bands, y, x), so that they are cut and lent together."""
    arrays = [pair[name].data for name in ("pre", "post") if name in kernel.inputs]
    stacked = da.concatenate([*map(da.asarray, arrays), da.asarray(pair["valid"].data)[None]])
    return stacked.rechunk({0: -1})


def _run_tile(
    stack: np.ndarray, *, kernel: Kernel, tiling: Tiling, block_info: dict | None = None
) -> np.ndarray:
    """Pad one overlapped chunk to whole windows and run it; the layers travel in one object cell."""
    if block_info is None or stack.size == 0:
        return np.empty((0, 0), object)
    _, i, j = block_info[0]["chunk-location"]
    pads = tiling.padding(0, i), tiling.padding(1, j)
    padded = np.pad(stack, ((0, 0), *pads))
    images, valid = padded[:-1], padded[-1].astype(bool)
    pre, post = (
        (images[: kernel.bands], images[kernel.bands :])
        if len(images) > kernel.bands
        else (images[:0], images)
    )
    block = run_block(kernel, pre, post, valid, tiling.edges(i, j))
    height, width = tiling.rows[i], tiling.cols[j]
    top, left = (
        (tiling.origin[0] + sum(tiling.rows[:i])) % kernel.window.core,
        (tiling.origin[1] + sum(tiling.cols[:j])) % kernel.window.core,
    )
    packed = np.empty((1, 1), object)
    packed[0, 0] = {
        layer.name: block[layer.name][
            top // layer.every : -(-(top + height) // layer.every),
            left // layer.every : -(-(left + width) // layer.every),
        ]
        for layer in kernel.layers
    }
    return packed


def _pick(packed: np.ndarray, name: str) -> np.ndarray:
    return packed[0, 0][name] if packed.size else np.empty((0, 0), np.uint8)


def _cut(block: np.ndarray, places: list[tuple[int, int]], core: int, size: int) -> np.ndarray:
    cuts = [block[..., i * core : i * core + size, j * core : j * core + size] for i, j in places]
    return cuts[0][None] if len(cuts) == 1 else np.stack(cuts)


def _cells(values: np.ndarray, layer: Layer, height: int, width: int) -> np.ndarray:
    return values[: -(-height // layer.every), : -(-width // layer.every)]


def _masked(values: np.ndarray, valid: np.ndarray, layer: Layer) -> np.ndarray:
    """A layer's bytes with 255 where pixels, or most pixels of a cell, are not valid."""
    if valid.all():
        return values
    if layer.every > 1:
        rows, cols = (np.arange(0, n, layer.every) for n in valid.shape)
        seen = np.add.reduceat(np.add.reduceat(valid, rows, axis=0, dtype=np.int64), cols, axis=1)
        sizes = [
            np.diff(np.append(starts, n))
            for starts, n in zip((rows, cols), valid.shape, strict=True)
        ]
        valid = 2 * seen >= np.outer(*sizes)
    return np.where(valid, values, np.uint8(NOT_ANALYSED))


def _check_dataset(kernel: Kernel, pair: xr.Dataset) -> None:
    missing = [name for name in (*kernel.inputs, "valid") if name not in pair]
    if missing:
        raise Refused(
            f"{kernel.method} needs {' and '.join(kernel.inputs)}, but the dataset has no "
            f"{' and no '.join(missing)}. Open both images with open_pair(pre, post)."
        )
    for name in kernel.inputs:
        array = pair[name]
        if array.dtype != np.uint8 or array.sizes.get("band") != kernel.bands:
            raise Refused(
                f"{kernel.method} reads {kernel.bands} bands of uint8, but {name!r} has "
                f"{array.sizes.get('band')} of {array.dtype}. Choose bands= and scale=(low, high) "
                "when opening it."
            )
