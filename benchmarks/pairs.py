"""The benchmarks' own scenes: one synthetic town repeated, deterministic, of any multiple of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
from affine import Affine
from aftermap.scenes.pair import Pair, make_pair
from aftermap.scenes.synth import Synth, render
from rasterio.windows import Window

SIDE = 1024
"""Side of the town that is repeated, px."""
TRANSFORM = Affine(0.5, 0, 316_000, 0, -0.5, 4_162_000)
_TOWN = Synth(size=SIDE, seed=7, nuisances=False)

Kind = Literal["plain", "nodata", "collar"]
"""Without a mask; with nodata declared, which no pixel has; with an undeclared black corner."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of deflate-compressed GeoTIFFs of 3 bands and 512 px tiles, in one folder."""

    folder: Path

    @cached_property
    def town(self) -> dict[str, np.ndarray]:
        """The town before and after, (3, SIDE, SIDE), and its damage codes, (SIDE, SIDE)."""
        return {name: render(_TOWN, name, 0, 0, SIDE, SIDE) for name in ("pre", "post", "truth")}

    def files(self, side: int, kind: Kind = "plain") -> tuple[Path, Path]:
        """Paths of a before and an after image of `side` px, written when they are first asked for."""
        before, after = (
            self._file(self.folder / f"{name}-{side}-{kind}.tif", self.town[name], side, kind)
            for name in ("pre", "post")
        )
        return before, after

    def pair(self, side: int, kind: Kind = "plain") -> Pair:
        """The pair of `side` px, opened."""
        return make_pair(*self.files(side, kind))

    def _file(self, path: Path, image: np.ndarray, side: int, kind: Kind) -> Path:
        if path.exists():
            return path
        profile = {
            "driver": "GTiff",
            "height": side,
            "width": side,
            "count": 3,
            "dtype": "uint8",
            "crs": "EPSG:32637",
            "transform": TRANSFORM,
            "photometric": "rgb",
            "tiled": True,
            "blockxsize": 512,
            "blockysize": 512,
            "compress": "deflate",
            "nodata": 0 if kind == "nodata" else None,
        }
        times = -(-side // SIDE)
        strip = np.tile(image, (1, 1, times))[:, :, :side]
        with rasterio.Env(GDAL_CACHEMAX=64), rasterio.open(path, "w", **profile) as target:
            for row in range(0, side, SIDE):
                height = min(SIDE, side - row)
                pixels = strip[:, :height]
                if kind == "collar":
                    place = np.add.outer(np.arange(row, row + height), np.arange(side))
                    pixels = np.where(place < side // 3, np.uint8(0), pixels)
                target.write(pixels, window=Window(0, row, side, height))
        return path
