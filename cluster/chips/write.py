"""Pass 2: the chips that survived, written in whole shards or one file each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
import zarr
from distributed import Client
from PIL import Image
from zarr.codecs import BloscCodec

from ...models.chips.ours import STORE
from ...scenes.errors import AftermapError
from ...scenes.zarr_loop import run_here
from ..futures import Failure, run_bounded
from ..progress import RunProgress
from .labels import Labels
from .plan import Cut, Spot, rows_of
from .request import ReadAs
from .screening import read_patch

Kind = Literal["images", "masks"]

_SHARD_BYTES = 1 << 26
"""Pixels of one shard, before compression."""
_MOST = 64
"""Chips in a shard at most, so that small ones make more than one."""


@dataclass(frozen=True, eq=False)
class Part:
    """The chips that one task writes."""

    kind: Kind
    start: int
    """Number of the first."""
    cuts: tuple[Cut, ...]


@dataclass(frozen=True)
class Writer:
    """Where chips go and how; picklable."""

    out: Path
    format: str
    size: int
    read_as: ReadAs
    labels: Labels | None

    def create(self, images: int, masks: int) -> None:
        """Make the empty arrays, or folders, unless they are there."""
        if self.format != "zarr":
            for name in ("pre", "post", *(("mask",) if masks else ())):
                (self.out / name).mkdir(exist_ok=True)
            return
        store, part = self.out / STORE, self.out / f".{STORE}.part"
        if (store / "zarr.json").exists():
            return
        root = zarr.create_group(part, overwrite=True)
        side = self.size
        for kind, count, chip in (
            ("images", images, (3, side, side)),
            ("masks", masks, (side,) * 2),
        ):
            if not count:
                continue
            root.create_array(
                kind,
                shape=(count, *chip),
                dtype="uint8",
                shards=(self.per_part(kind), *chip),  # type: ignore[arg-type]
                chunks=(1, *chip),
                compressors=BloscCodec(cname="zstd", clevel=3, shuffle="noshuffle"),
                fill_value=0,
                dimension_names=("chip", "band", "y", "x")
                if kind == "images"
                else ("chip", "y", "x"),
                config={"write_empty_chunks": True},
            )
        part.rename(store)

    def per_part(self, kind: Kind) -> int:
        """How many chips one task writes: those of a shard."""
        bands = 3 if kind == "images" else 1
        return max(1, min(_MOST, _SHARD_BYTES // (bands * self.size**2)))

    def done(self, part: Part) -> bool:
        """Whether all of a part is there."""
        with suppress(FileNotFoundError):
            return all(file.stat().st_size for file in self._files(part))
        return False

    def write(self, part: Part) -> None:
        """Read or burn the chips of a part, and write them; files appear by rename."""
        if self.format == "zarr":
            run_here(self._shard(part, np.stack([self._pixels(part.kind, c) for c in part.cuts])))
            return
        for cut, file in zip(part.cuts, self._files(part), strict=True):
            if not file.exists():
                _picture(self._pixels(part.kind, cut), cut, file)

    def _pixels(self, kind: Kind, cut: Cut) -> np.ndarray:
        if kind == "images":
            return read_patch(cut.patches, cut.index, cut.shot, self.read_as)
        codes = None if self.labels is None else self.labels.codes(cut)
        if codes is None:
            raise ValueError(f"{cut.name} has no mask any more")
        return codes

    async def _shard(self, part: Part, pixels: np.ndarray) -> None:
        (file,) = self._files(part)
        # What a killed run left makes way: Zarr would read a shard that is not full to write it anew.
        for leftover in (file, *file.parent.glob(f"{file.name}.*.partial")):
            leftover.unlink(missing_ok=True)
        array = await zarr.api.asynchronous.open_array(
            store=self.out / STORE, path=part.kind, mode="r+"
        )
        array = array.with_config({"write_empty_chunks": True})
        await array.setitem(slice(part.start, part.start + len(pixels)), pixels)

    def _files(self, part: Part) -> list[Path]:
        """The files that hold a part."""
        if self.format != "zarr":
            return [self.file_of(part.kind, cut) for cut in part.cuts]
        shard = str(part.start // self.per_part(part.kind))
        rest = "0/0/0" if part.kind == "images" else "0/0"
        return [self.out / STORE / part.kind / "c" / shard / rest]

    def file_of(self, kind: Kind, cut: Cut) -> Path:
        """The file of a chip or of its mask."""
        folder = cut.shot.when if kind == "images" else "mask"
        return self.out / folder / f"{cut.name}.{self.format}"


def write_all(client: Client, writer: Writer, spots: Sequence[Spot], quiet: bool) -> None:
    """Write every chip and mask that is not there yet. Raises AftermapError where one cannot be."""
    images = [cut for _, cut in rows_of(spots)]
    masks = masked(spots)
    writer.create(len(images), len(masks))
    parts = [*_parts(writer, "images", images), *_parts(writer, "masks", masks)]
    missing = [part for part in parts if not writer.done(part)]
    failed: list[str] = []
    done = len(parts) - len(missing)
    with RunProgress(len(parts), done, quiet, "parts") as progress:
        for result in run_bounded(client, _write, missing, writer):
            if isinstance(result, Failure):
                failed.append(f"{type(result.error).__name__}: {result.error}"[:300])
            else:
                progress.advance(result * writer.size**2)
    if failed:
        raise AftermapError(
            f"{len(failed)} of {len(parts)} parts of the chips could not be written: {failed[0]} "
            "What is done is kept: run the same command again."
        )


def masked(spots: Sequence[Spot]) -> list[Cut]:
    """The after images that have a mask, in their order: those of labelled places."""
    return [c for spot in spots if spot.place.label for c in spot.afters]


def _parts(writer: Writer, kind: Kind, cuts: Sequence[Cut]) -> Iterator[Part]:
    step = writer.per_part(kind)
    for start in range(0, len(cuts), step):
        yield Part(kind, start, tuple(cuts[start : start + step]))


def _write(writer: Writer, part: Part) -> int:
    writer.write(part)
    return len(part.cuts)


def _picture(pixels: np.ndarray, cut: Cut, file: Path) -> None:
    """Write an image (3, h, w) or a mask (h, w): as PNG, or as GeoTIFF with its place on the earth."""
    part = file.with_name(f".{file.name}.part")
    if file.suffix == ".png":
        Image.fromarray(np.moveaxis(pixels, 0, -1) if pixels.ndim == 3 else pixels).save(
            part, format="PNG"
        )
    else:
        grid = cut.patches.patch(cut.index)
        bands = pixels if pixels.ndim == 3 else pixels[None]
        with rasterio.open(
            part,
            "w",
            driver="GTiff",
            width=grid.shape[1],
            height=grid.shape[0],
            count=len(bands),
            dtype="uint8",
            crs=grid.crs.to_wkt(),
            transform=grid.affine,
            compress="deflate",
            predictor=2,
            photometric="rgb" if len(bands) == 3 else "minisblack",
        ) as target:
            target.write(bands)
    os.replace(part, file)
