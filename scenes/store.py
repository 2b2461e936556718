"""The Zarr store of a run: one array per layer, one shard per chunk, `damage` written last.

A chunk is done when its shards exist; nothing else has to be remembered to resume.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import zarr
from odc.geo.geobox import GeoBox
from zarr.codecs import BloscCodec

from .layer import NOT_ANALYSED, Layer
from .plan import Chunk, Plan
from .zarr_loop import run_here

LAST = "damage"
"""The layer whose shard says that a chunk is done."""

_INNER = 2048
"""Largest side of the blocks inside a shard, cells: Zarr takes a millisecond for each, in Python."""


@dataclass(frozen=True)
class Store:
    """The layers of one run on disk; picklable, opened anew in each process."""

    path: Path
    plan: Plan
    layers: tuple[Layer, ...]

    def create(self, grid: GeoBox, attributes: Mapping[str, object]) -> None:
        """Make the empty arrays, unless they are there; `grid` is the plan's region on the earth.

        They are made beside their place and appear in it at once, whole. What is left of a store
        that lacks one of them makes way: no chunk of it is whole.
        """
        arrays = (self.path / layer.name for layer in self.layers)
        if self.whole() and all((array / "zarr.json").exists() for array in arrays):
            return
        part = self.path.with_name(f".{self.path.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        root = zarr.create_group(part, attributes=dict(attributes))
        height, width = self.plan.region_shape
        for layer in self.layers:
            side = self.plan.chunk // layer.every
            root.create_array(
                layer.name,
                shape=(-(-height // layer.every), -(-width // layer.every)),
                dtype="uint8",
                shards=(side, side),
                chunks=(_inner(side), _inner(side)),
                compressors=BloscCodec(cname="zstd", clevel=1, shuffle="noshuffle"),
                fill_value=NOT_ANALYSED,
                dimension_names=("y", "x")
                if layer.every == 1
                else (f"y_{layer.every}", f"x_{layer.every}"),
                attributes={
                    "kind": layer.kind,
                    "every": layer.every,
                    "grid_mapping": "spatial_ref",
                },
                config={"write_empty_chunks": True},
            )
        _georeference(root, grid)
        shutil.rmtree(self.path, ignore_errors=True)
        part.rename(self.path)

    @cached_property
    def _arrays(self) -> dict[str, zarr.Array]:
        root = zarr.open_group(self.path, mode="r+")
        return {
            layer.name: root[layer.name].with_config({"write_empty_chunks": True})
            for layer in self.layers
        }

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "plan": self.plan, "layers": self.layers}

    def write(self, chunk: Chunk, values: Mapping[str, np.ndarray]) -> None:
        """Write one chunk's layers (uint8, at each layer's own resolution), `damage` last.

        What a killed run left of the chunk is removed first: at the raster's edge Zarr would
        otherwise read the old shard to write the new one.
        """
        self.discard(chunk)
        run_here(self._write(chunk, values))

    async def _write(self, chunk: Chunk, values: Mapping[str, np.ndarray]) -> None:
        group = await zarr.api.asynchronous.open_group(self.path, mode="r+")
        for layer in sorted(self.layers, key=lambda layer: layer.name == LAST):
            array = (await group.getitem(layer.name)).with_config({"write_empty_chunks": True})
            await array.setitem(self._cells(layer, chunk), values[layer.name])

    def blank(self, chunk: Chunk) -> None:
        """Write a chunk in which there is nothing to analyse."""
        cells = {layer.name: self._cells(layer, chunk) for layer in self.layers}
        self.write(
            chunk,
            {
                name: np.full([s.stop - s.start for s in where], NOT_ANALYSED, np.uint8)
                for name, where in cells.items()
            },
        )

    def whole(self) -> bool:
        """Whether the store is still there, and not only shards written after its removal."""
        return (self.path / "zarr.json").exists()

    def done(self, chunk: Chunk) -> bool:
        """Whether a chunk's `damage` shard exists, and with it those of all layers, none of them empty.

        Cheap: `sound` tells whether they can be read. Zarr reads fill values where there is no shard.
        """
        try:
            return all(self._shard(layer, chunk).stat().st_size for layer in self.layers)
        except FileNotFoundError:
            return False

    def sound(self, chunk: Chunk) -> bool:
        """Whether a chunk is done and all of its layers can be read.

        A machine that went down may leave an empty or cut shard behind, and whoever clears a disk
        none at all.
        """
        if not self.done(chunk):
            return False
        try:
            for layer in self.layers:
                self.read_chunk(layer.name, chunk)
        except Exception:  # Zarr's codecs raise whatever their libraries do
            return False
        return True

    def discard(self, chunk: Chunk) -> None:
        """Remove what an unfinished chunk left behind: it reads as not analysed everywhere."""
        i, j = chunk.index
        for layer in self.layers:
            row = self.path / layer.name / "c" / str(i)
            # Zarr writes a shard beside its place first; a killed process leaves that there.
            for leftover in (row / str(j), *row.glob(f"{j}.*.partial")):
                leftover.unlink(missing_ok=True)

    def _shard(self, layer: Layer, chunk: Chunk) -> Path:
        """The file that holds one layer of one chunk."""
        i, j = chunk.index
        return self.path / layer.name / "c" / str(i) / str(j)

    def read(self, name: str, row0: int, col0: int, row1: int, col1: int) -> np.ndarray:
        """Stored bytes of one layer in half-open pixels of the full raster, cut to the region."""
        layer = next(layer for layer in self.layers if layer.name == name)
        return self._arrays[name][self._slices(layer, row0, col0, row1, col1)]

    def read_chunk(self, name: str, chunk: Chunk) -> np.ndarray:
        """Stored bytes of one layer in one chunk."""
        return self.read(name, chunk.row0, chunk.col0, chunk.row1, chunk.col1)

    def _cells(self, layer: Layer, chunk: Chunk) -> tuple[slice, slice]:
        """Where a chunk lies in a layer's array: in the one shard that has its index."""
        where = self._slices(layer, chunk.row0, chunk.col0, chunk.row1, chunk.col1)
        side = self.plan.chunk // layer.every
        for cells, index in zip(where, chunk.index, strict=True):
            if cells.start != index * side or cells.stop > (index + 1) * side:
                # Two tasks would write to one shard, and each lose what the other wrote.
                raise ValueError(
                    f"chunk {chunk.index} lies in cells {cells.start}-{cells.stop} of {layer.name}, "
                    f"not in shard {index} of {side} cells"
                )
        return where

    def _slices(
        self, layer: Layer, row0: int, col0: int, row1: int, col1: int
    ) -> tuple[slice, slice]:
        top, left, bottom, right = self.plan.region
        rows = max(row0 - top, 0), min(row1, bottom) - top
        cols = max(col0 - left, 0), min(col1, right) - left
        return (
            slice(rows[0] // layer.every, -(-rows[1] // layer.every)),
            slice(cols[0] // layer.every, -(-cols[1] // layer.every)),
        )


def _inner(side: int) -> int:
    """The largest power-of-two fraction of a shard's side that is at most 2,048 cells."""
    inner = side
    while inner > _INNER and inner % 2 == 0:
        inner //= 2
    return inner


def _georeference(root: zarr.Group, grid: GeoBox) -> None:
    """Write pixel-centre coordinates and a CF `spatial_ref`, so that rioxarray knows the place."""
    for name, values in (
        ("y", grid.coords[grid.dims[0]].values),
        ("x", grid.coords[grid.dims[1]].values),
    ):
        array = root.create_array(
            name, shape=values.shape, dtype="float64", dimension_names=(name,)
        )
        array[:] = values
    transform = " ".join(repr(float(v)) for v in grid.affine.to_gdal())
    root.create_array(
        "spatial_ref",
        shape=(),
        dtype="int32",
        attributes={
            "crs_wkt": grid.crs.to_wkt(),
            "spatial_ref": grid.crs.to_wkt(),
            "GeoTransform": transform,
        },
    )
