"""Synthetic scenes: before and after images of a struck town, with exact truth, of any size.

    scene = write("town", Synth(size=4096, seed=3))

Everything is a function of the seed and of a pixel's place in the world, so that a scene is
streamed to disk block by block, a training patch needs no files, and both are the same pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
import shapely
from rasterio.transform import Affine
from rasterio.windows import Window

from .errors import Refused, UsageError
from .layer import NOT_ANALYSED
from .synth_block import Town
from .synth_paint import HALO, Canvas, paint
from .synth_sensor import Look, clouded, sense, shift
from .synth_world import Building

CRS = "EPSG:32637"
CORNER = (316_000.0, 4_162_000.0)
"""Easting and northing of the post image's upper left corner, m."""
BLOCK = 512
"""Pixels per side of a written block and of the files' tiles."""

Which = Literal["pre", "post", "truth"]


@dataclass(frozen=True)
class Synth:
    """What to make: size, seed, pixel size, and whether the dates differ in more than damage."""

    size: int | tuple[int, int] = 2048
    """Height and width of the post image, px."""
    seed: int = 0
    gsd: float = 0.5
    """Pixel size of the post image, m."""
    nuisances: bool = True
    """Residual shifts, another grid for the pre image, seasons, light, clouds, collars, cars, new
    buildings. False: one grid, one light, only damage differs."""

    def __post_init__(self) -> None:
        if not isinstance(self.size, int | float | np.number):
            object.__setattr__(self, "size", tuple(self.size))
        sides = self.shape
        if len(sides) != 2 or any(int(s) != s or s < 64 for s in sides):
            raise UsageError(
                f"A synthetic scene has at least 64 x 64 whole pixels; asked for {self.size}. "
                f"Change size (--size)."
            )
        if not 0.2 <= self.gsd <= 1.0:
            raise UsageError(
                f"Synthetic scenes are made at 0.2 to 1.0 m per pixel; asked for {self.gsd} m. "
                f"Change gsd (--gsd)."
            )
        if int(self.seed) != self.seed or self.seed < 0:
            raise UsageError(
                f"The seed is a whole number from 0; got {self.seed}. Change seed (--seed)."
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the post image, px."""
        if isinstance(self.size, int | np.integer):
            return int(self.size), int(self.size)
        if isinstance(self.size, float):
            return self.size, self.size
        return self.size

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height of the post image, m."""
        return self.shape[1] * self.gsd, self.shape[0] * self.gsd


@dataclass(frozen=True)
class SynthScene:
    """Where a written scene lies."""

    pre: Path
    """Before image: uint8 RGB GeoTIFF, 0 is nodata."""
    post: Path
    """After image, likewise."""
    truth: Path
    """Damage codes on the post grid: 0 background, 1-4, 255 where the after image has no data
    or clouds hide the ground."""
    footprints: Path
    """GeoPackage, layer "buildings": damage_class, building_id, kind; as built before."""


@dataclass(frozen=True)
class Grid:
    """One raster's pixels in the world: size, pixel size, upper left corner in world metres."""

    height: int
    width: int
    gsd: float
    left: float
    top: float

    @property
    def transform(self) -> Affine:
        """Pixel to map coordinates."""
        return Affine(self.gsd, 0, CORNER[0] + self.left, 0, -self.gsd, CORNER[1] - self.top)

    def centres(self, row: int, col: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """World x (w,) and y (h,) of pixel centres, m."""
        x = self.left + (np.arange(col, col + width) + 0.5) * self.gsd
        y = self.top + (np.arange(row, row + height) + 0.5) * self.gsd
        return x, y


def grid(spec: Synth, which: Which) -> Grid:
    """The grid of one of the scene's rasters."""
    height, width = spec.shape
    if which != "pre" or not spec.nuisances:
        return Grid(height, width, spec.gsd, 0.0, 0.0)
    # The before image has coarser pixels, and its corner lies off the after image's pixel grid.
    gsd = round(spec.gsd * 1.2, 6)
    left, top = -12.37 * gsd, -7.71 * gsd
    wide, high = spec.extent
    return Grid(
        int(np.ceil((high - top) / gsd)) + 5, int(np.ceil((wide - left) / gsd)) + 9, gsd, left, top
    )


def render(spec: Synth, which: Which, row: int, col: int, height: int, width: int) -> np.ndarray:
    """Render a window of one raster on that raster's own grid.

    "pre" and "post": (3, height, width) uint8, 0 where the image has no data. "truth":
    (height, width) uint8 damage codes. The pixels do not depend on how the window was chosen.
    """
    if which not in ("pre", "post", "truth"):
        raise UsageError(f"which is pre, post or truth; got {which!r}. Change which.")
    own = grid(spec, which)
    x, y = own.centres(row, col, height, width)
    if which == "truth":
        return _truth(spec, x, y)
    canvas = _canvas(spec, own, row, col, height, width)
    return _develop(spec, canvas, which == "post", row, col)


def render_pair_aligned(
    spec: Synth, row: int, col: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render a window of both dates on the post grid: pre and post (3, h, w), truth (h, w).

    With nuisances the before image keeps its small residual shifts; nothing is written.
    """
    own = grid(spec, "post")
    canvas = _canvas(spec, own, row, col, height, width)
    pre = _develop(spec, canvas, False, row, col)
    post = _develop(spec, canvas, True, row, col)
    return pre, post, _truth(spec, *own.centres(row, col, height, width))


def write(
    folder: str | Path, spec: Synth = Synth(), progress: Callable[[float], None] | None = None
) -> SynthScene:
    """Write pre.tif, post.tif, truth.tif and footprints.gpkg into a folder, block by block.

    Memory does not grow with the scene. Each file appears under its name when it is complete;
    `progress` is called with the finished share, 0-1. Refused where the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".synth-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Refused(
            f"The synthetic scene was to be written to {folder}, but that folder cannot be "
            f"written: {error.strerror or error}. Choose another folder."
        ) from error
    scene = SynthScene(
        folder / "pre.tif", folder / "post.tif", folder / "truth.tif", folder / "footprints.gpkg"
    )
    grids = {which: grid(spec, which) for which in WHICH}
    total = sum(len(list(_windows(g))) for g in grids.values()) + 1
    done = 0
    for which, path in zip(WHICH, (scene.pre, scene.post, scene.truth), strict=True):
        part = path.with_name(f".{path.stem}.part.tif")
        # GDAL would otherwise keep finished blocks in a share of the machine's memory.
        env = rasterio.Env(GDAL_CACHEMAX=64)
        with env, rasterio.open(part, "w", **_profile(grids[which], which)) as target:
            for row, col, height, width in _windows(grids[which]):
                pixels = render(spec, which, row, col, height, width)
                pixels = pixels.reshape(-1, height, width)
                target.write(pixels, window=Window(col, row, width, height))
                done += 1
                if progress is not None:
                    progress(done / total)
        part.replace(path)
    _write_footprints(spec, scene.footprints)
    if progress is not None:
        progress(1.0)
    return scene


WHICH: tuple[Which, ...] = ("pre", "post", "truth")


def _windows(own: Grid) -> Iterator[tuple[int, int, int, int]]:
    for row in range(0, own.height, BLOCK):
        for col in range(0, own.width, BLOCK):
            yield row, col, min(BLOCK, own.height - row), min(BLOCK, own.width - col)


def _profile(own: Grid, which: Which) -> dict[str, object]:
    """Creation options of a raster."""
    profile: dict[str, object] = {
        "driver": "GTiff", "dtype": "uint8", "crs": CRS, "transform": own.transform,
        "height": own.height, "width": own.width, "tiled": True, "blockxsize": BLOCK,
        "blockysize": BLOCK, "compress": "deflate", "zlevel": 4, "BIGTIFF": "IF_SAFER",
    }  # fmt: skip
    if which == "truth":
        return profile | {"count": 1, "nodata": NOT_ANALYSED}
    return profile | {"count": 3, "photometric": "RGB", "predictor": 2, "nodata": 0}


@lru_cache(maxsize=8)
def _world(seed: int, extent: tuple[float, float]) -> Town:
    return Town(seed, extent)


@lru_cache(maxsize=64)
def _looks(spec: Synth) -> tuple[Look, Look]:
    """The looks of the dates before and after."""
    rng = np.random.default_rng([spec.seed, 6])

    def season(after: bool) -> Look:
        turn, high = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 1.5)
        if rng.random() < 0.7:  # most towns lie north of the sun
            turn = rng.normal(-1.4, 0.5)
        brown = rng.random()
        gain = rng.uniform(0.80, 1.16) * (1 + rng.normal(0, 0.035, 3))
        haze = rng.uniform(-12, 16) + rng.normal(0, 4, 3) + np.array((0, 2, 5)) * rng.random()
        leaves = float(rng.choice([0.1, 1.0, 1.0, 1.0, 0.8]))
        green = rng.uniform(0.85, 1.2)
        lush = np.array((104, 118, 76)) * green + rng.normal(0, 5, 3)
        leaf = np.array((72, 90, 56)) * green * rng.uniform(0.8, 1.15) + rng.normal(0, 4, 3)
        clouded = rng.random() < 0.3
        cloud = rng.uniform(1.5, 2.2)
        return Look(
            after, int(rng.integers(900)) + 1000 * after,
            (float(high * np.cos(turn)), float(high * np.sin(turn))),
            float(rng.uniform(0.30, 0.55)), _colour(lush),
            _colour(np.array((150, 138, 102)) + rng.normal(0, 6, 3)), float(0.15 + 0.7 * brown),
            leaves, _colour(leaf), _colour(gain), _colour(haze), float(rng.uniform(0.45, 0.95)),
            float(rng.uniform(0.8, 3.2)), 0.0 if after else float(rng.uniform(0.5, 2.0)),
            float(cloud) if clouded else None, True,
        )  # fmt: skip

    before, after = season(False), season(True)
    if spec.nuisances:
        return before, after
    plain = {**vars(before), "warp": 0.0, "cloud": None, "busy": False}
    return Look(**plain), Look(**(plain | {"after": True}))


def _colour(values: np.ndarray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _canvas(spec: Synth, own: Grid, row: int, col: int, height: int, width: int) -> Canvas:
    world = _world(spec.seed, spec.extent)
    x, y = own.centres(row - HALO, col - HALO, height + 2 * HALO, width + 2 * HALO)
    return Canvas(world, x, y, own.gsd, min(0.5, spec.gsd))


def _develop(spec: Synth, canvas: Canvas, after: bool, row: int, col: int) -> np.ndarray:
    """Paint one date, pass it through its sensor, drop the halo, blank the collar."""
    look = _looks(spec)[int(after)]
    image = shift(paint(canvas, look), look, canvas.x, canvas.y, canvas.gsd)
    rows = np.arange(row - HALO, row - HALO + canvas.y.size)
    cols = np.arange(col - HALO, col - HALO + canvas.x.size)
    keep = slice(HALO, -HALO)
    pixels = np.ascontiguousarray(sense(image, look, rows, cols)[:, keep, keep])
    blank = _collar(spec, canvas.x[keep], canvas.y[keep], after)
    if blank is not None:
        pixels[:, blank] = 0
    return pixels


def _collar(spec: Synth, x: np.ndarray, y: np.ndarray, after: bool) -> np.ndarray | None:
    """Where an image has no data, (h, w): a wedge along one side, as a turned swath leaves."""
    if not spec.nuisances:
        return None
    wide, high = spec.extent
    if after:
        return x[None, :] < 0.035 * (high - y)[:, None] - 0.004 * wide
    return y[:, None] < 0.030 * x[None, :] - 0.010 * wide


def _truth(spec: Synth, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Damage codes of pixel centres: (h, w) uint8."""
    codes = np.zeros((y.size, x.size), np.uint8)
    world = _world(spec.seed, spec.extent)
    for block in world.near(x[0] - 60, y[0] - 60, x[-1] + 60, y[-1] + 60):
        for building in block.buildings:
            _burn(codes, building, x, y)
    hidden = _collar(spec, x, y, after=True), clouded(_looks(spec)[1], x, y)
    for blank in hidden:
        if blank is not None:
            codes[blank] = NOT_ANALYSED
    return codes


def _burn(codes: np.ndarray, building: Building, x: np.ndarray, y: np.ndarray) -> None:
    """Write a building's damage code where pixel centres lie in its footprint."""
    cos, sin = np.cos(building.angle), np.sin(building.angle)
    for px, py, long, wide in building.parts:
        reach = float(np.hypot(long, wide)) + 1
        cols = slice(*np.searchsorted(x, (px - reach, px + reach)))
        rows = slice(*np.searchsorted(y, (py - reach, py + reach)))
        dx, dy = (x[cols] - px)[None, :], (y[rows] - py)[:, None]
        if dx.size and dy.size:
            inside = (abs(cos * dx + sin * dy) <= long) & (abs(cos * dy - sin * dx) <= wide)
            codes[rows, cols][inside] = building.level


def _write_footprints(spec: Synth, path: Path) -> None:
    """Write the buildings that touch the scene, a few streets at a time."""
    import geopandas  # slow to import, and not needed to render

    world, (wide, high) = _world(spec.seed, spec.extent), spec.extent
    part = path.with_name(f".{path.stem}.part.gpkg")
    part.unlink(missing_ok=True)
    scene = shapely.box(CORNER[0], CORNER[1] - high, CORNER[0] + wide, CORNER[1])
    batch: list[tuple[Building, shapely.Polygon]] = []
    begun = False

    def flush() -> None:
        nonlocal begun
        frame = geopandas.GeoDataFrame(
            {
                "damage_class": np.array([b.level for b, _ in batch], np.int32),
                "building_id": np.array([b.building_id for b, _ in batch], np.int64),
                "kind": [b.kind for b, _ in batch],
            },
            geometry=[shape for _, shape in batch],
            crs=CRS,
        )
        frame.to_file(
            part, layer="buildings", driver="GPKG", engine="pyogrio", mode="a" if begun else "w",
            geometry_type="Polygon",
        )  # fmt: skip
        begun = True
        batch.clear()

    for k, l in world.blocks(0, 0, wide, high):  # noqa: E741
        for building in world.block(k, l).buildings:
            shape = outline(building)
            if shape.intersects(scene):
                batch.append((building, shape))
        if len(batch) > 5000:
            flush()
    if batch or not begun:
        flush()
    part.replace(path)


def outline(building: Building) -> shapely.Polygon:
    """A building's footprint as a polygon in map coordinates."""
    corners = [
        shapely.Polygon(np.stack((CORNER[0] + ring[:, 0], CORNER[1] - ring[:, 1]), 1))
        for ring in building.corners()
    ]
    return shapely.union_all(corners)
