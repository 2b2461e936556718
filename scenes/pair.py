"""Before and after on one grid, read together by pixel windows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from .errors import Refused
from .grid import area_of_interest, at_resolution, inside, overview_grid
from .raster import MAX_PIXELS
from .scene import Scene, open_tiles

Source = str | Path | Sequence[str | Path]
"""A file, a folder of tiles, or a list of tiles."""


class Pixels(NamedTuple):
    """What a window holds."""

    pre: np.ndarray
    """(bands, h, w); no bands without a before image."""
    post: np.ndarray
    """(bands, h, w)."""
    valid: np.ndarray
    """(h, w) bool: every image has a measurement here."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A before and an after image (or an after image alone) on one grid; picklable, lazy."""

    pre: Scene | None
    post: Scene
    grid: GeoBox
    """The analysis grid: the full raster that windows are anchored to."""
    area: shapely.Geometry | None = None
    """The wanted part, in the grid's CRS; None for all of it."""
    shift: tuple[float, float] = (0.0, 0.0)
    """Rows and columns by which the before image is moved, px, to lie on the after image."""
    colour: tuple[tuple[float, float], ...] = ()
    """Gain and offset per band applied to the before image; empty for none."""

    def read(self, row0: int, col0: int, row1: int, col1: int) -> Pixels:
        """Read half-open pixels of the grid; past its edges nothing is valid. Ignores `area`."""
        post, valid = self.post.read(self.grid, row0, col0, row1, col1)
        if self.pre is None:
            return Pixels(post[:0], post, valid)
        pre, seen = self.pre.read(self._pre_grid, row0, col0, row1, col1)
        return Pixels(self._matched(pre, seen), post, valid & seen)

    def overview(self, side: int = 1024, region: tuple[int, int, int, int] | None = None) -> Pixels:
        """Both images in at most `side` px, over a region (row0, col0, row1, col1) or all of the grid.

        From decimated reads: good for pictures and statistics only. What cannot be read is missing.
        """
        row0, col0, row1, col1 = region or (0, 0, *self.grid.shape)
        post, valid = self.post.overview(overview_grid(self.grid[row0:row1, col0:col1], side))
        if self.pre is None:
            return Pixels(post[:0], post, valid)
        there = overview_grid(self._pre_grid[row0:row1, col0:col1], side)
        pre, seen = self.pre.overview(there)
        return Pixels(self._matched(pre, seen), post, valid & seen)

    def wanted(self, row0: int, col0: int, row1: int, col1: int) -> np.ndarray:
        """Which pixels of a window lie in the area asked for: bool (h, w)."""
        return inside(self.grid, self.area, row0, col0, row1, col1)

    @property
    def images(self) -> tuple[Scene, ...]:
        """The scenes there are."""
        return (self.post,) if self.pre is None else (self.pre, self.post)

    @property
    def _pre_grid(self) -> GeoBox:
        if self.shift == (0.0, 0.0):
            return self.grid
        rows, cols = self.shift
        return GeoBox(
            self.grid.shape, self.grid.affine * Affine.translation(-cols, -rows), self.grid.crs
        )

    def _matched(self, pre: np.ndarray, seen: np.ndarray) -> np.ndarray:
        if not self.colour:
            return pre
        gain, offset = (
            np.array(v, np.float32)[:, None, None] for v in zip(*self.colour, strict=True)
        )
        changed = np.clip(np.rint(pre * gain + offset), 0, 255).astype(pre.dtype)
        return np.where(seen, changed, pre.dtype.type(0))


def make_pair(
    pre: Source | None,
    post: Source,
    *,
    grid: str | GeoBox = "post",
    resolution: float | None = None,
    bbox: tuple[float, float, float, float] | None = None,
    aoi: str | Path | None = None,
    bands: Sequence[int] | None = None,
    scale: tuple[float, float] | None = None,
    crs: str | None = None,
    gcps: bool = False,
    allow_remote: bool = False,
) -> Pair:
    """Open a before and an after image as one pair: headers are checked, nothing is computed.

    `grid` is "post", "pre" or a GeoBox; `resolution` in metres; `bbox` W, S, E, N in EPSG:4326;
    `allow_remote` takes http and https URLs too.
    Raises Refused for inputs that cannot be read, placed or brought together.
    """
    options = {
        "bands": bands,
        "scale": scale,
        "crs": crs,
        "gcps": gcps,
        "allow_remote": allow_remote,
    }
    after = open_tiles(post, **options)  # type: ignore[arg-type]
    before = None if pre is None else open_tiles(pre, **options)  # type: ignore[arg-type]
    if before is not None:
        _check_alike(before, after)
    chosen = _choose_grid(before, after, grid)
    if resolution is not None:
        chosen = at_resolution(chosen, resolution)
    _check_size(chosen, after, resolution)
    if before is not None:
        _check_overlap(before, after)
    return Pair(before, after, chosen, area_of_interest(chosen, bbox, aoi))


def match_colour(pair: Pair) -> Pair:
    """The pair with its before image matched to the after image: mean and spread per band.

    Measured over the valid pixels of one overview of at most 2,048 px.
    """
    if pair.pre is None:
        raise Refused("--match-colour needs a before image, and none was given.")
    seen = pair.overview(2048)
    if not seen.valid.any():
        return pair
    before, after = seen.pre[:, seen.valid].astype(float), seen.post[:, seen.valid].astype(float)
    gain = after.std(axis=1) / np.maximum(before.std(axis=1), 1.0)
    offset = after.mean(axis=1) - gain * before.mean(axis=1)
    return replace(pair, colour=tuple(zip(gain.tolist(), offset.tolist(), strict=True)))


def acquisition_date(scene: Scene) -> str | None:
    """The date in a scene's file or folder name (YYYY-MM-DD or YYYYMMDD), or None."""
    for text in (scene.name, Path(scene.tiles[0].raster.path).parent.name):
        found = re.search(
            r"(?<!\d)((?:19|20)\d\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?!\d)", text
        )
        if found:
            return "-".join(found.groups())
    return None


def _check_alike(pre: Scene, post: Scene) -> None:
    if pre.count != post.count:
        raise Refused(
            f"The before image is read with {pre.count} bands and the after image with "
            f"{post.count}. Choose the same ones with --bands."
        )
    if pre.dtype != post.dtype:
        raise Refused(
            f"The before image holds {pre.dtype} values and the after image {post.dtype}. "
            "Bring both to 0-255 with --scale LOW HIGH."
        )


def _choose_grid(pre: Scene | None, post: Scene, grid: str | GeoBox) -> GeoBox:
    if isinstance(grid, GeoBox):
        return grid
    if grid == "post":
        return post.grid
    if grid == "pre" and pre is not None:
        return pre.grid
    raise Refused(
        f"--grid {grid!r} is not a grid: give 'post' or 'pre' (with a before image), or in Python a GeoBox."
    )


def _check_size(grid: GeoBox, post: Scene, resolution: float | None) -> None:
    """Refuse a grid that no plan can hold: far-flung tiles, or a resolution far too fine."""
    rows, cols = grid.shape
    if rows * cols > MAX_PIXELS:
        cause = (
            f"--resolution {resolution:g} is too fine for it"
            if resolution is not None
            else f"its {len(post.tiles)} tiles may lie far apart; give fewer of them"
        )
        raise Refused(
            f"The analysis grid of {post.name} would have {cols} x {rows} = {rows * cols:.2g} px, "
            f"and at most {MAX_PIXELS:.0e} are planned: {cause}."
        )


def _check_overlap(pre: Scene, post: Scene) -> None:
    there = post.grid.extent.to_crs("EPSG:4326", resolution="auto").boundingbox
    here = pre.grid.extent.to_crs("EPSG:4326", resolution="auto").boundingbox
    if (
        here.left >= there.right
        or here.right <= there.left
        or here.bottom >= there.top
        or here.top <= there.bottom
    ):
        raise Refused(
            "The before and after images do not overlap: before lies at "
            f"{_degrees(here)}, after at {_degrees(there)} (west, south, east, north). "
            "Check that PRE and POST show the same place."
        )


def _degrees(box: object) -> str:
    return ", ".join(f"{value:.5f}" for value in box)  # type: ignore[attr-defined]
