"""What a region will cost, worked out before anything runs: pixels, chunks, hours, bytes, files.

Catalogs tell how large their images are, or where their outlines lie, so that nothing is opened but
the headers of local files, and only sums are kept, however many scenes there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import shapely
from odc.geo.geobox import GeoBox
from pyproj import Geod

from ...kernels.baseline import Baseline
from ...kernels.kernel import Kernel
from ...scenes.ard import APRON_METRES, CELL_METRES, ArdCell
from ...scenes.catalog import CatalogImage, Pairing, ScenePair
from ...scenes.errors import Refused, UsageError
from ...scenes.grid import at_resolution
from ...scenes.pair import Source
from ...scenes.raster import open_raster
from ..budget import Budget, make_budget, room_bytes, seconds_per_window
from ..client import worker_count, worker_threads
from ..jobs.options import job_options
from ..machine import worker_memory
from ..prepare import plan as plan_pair
from .file import RegionFile, read_region_file
from .folder import RegionFolder
from .pairs import wanted_area
from .region import describe_pairs, is_finished, prepare_region
from .scenes import check_unchanged, in_share

_FIXED_FILES = 18
"""Files of a scene besides its shards and rasters: records, tables, Zarr's metadata, locks."""

_ARD_METRES = CELL_METRES / 16_384
_ARD_SIDE = round((CELL_METRES + 2 * APRON_METRES) / _ARD_METRES)
"""Pixel size and side of the files of Maxar's tiles, whose catalog does not tell them."""

_MERGED_FILES = 12
"""Files of the region itself, at most."""


@dataclass(frozen=True)
class RegionPlan:
    """The figures that `aftermap plan region.toml` shows."""

    name: str
    pairing: Pairing
    scenes: int
    """Scenes of the share that was asked for, or all of them."""
    finished: int
    """Scenes that are finished already; their hours are not counted, their disk and pixels are."""
    unknown: int
    """Scenes whose size the catalog does not tell, which no figure counts."""
    pixels: int
    chunks: int
    windows: int
    windows_left: int
    """Windows of scenes that are not finished."""
    disk_bytes: int
    """Upper estimate of all run folders and mosaics."""
    free_bytes: int
    """Room on the disk of the region's folder, and what the region takes there already."""
    files: int
    workers: int
    scenes_at_once: int
    device: str
    peak_bytes: int
    """Estimated peak memory of one worker, over all scenes."""
    seconds_per_window: float
    """Measured on one window, here."""
    per_node: int | None = None
    """Workers (or GPUs) that a job takes of a node, where the region file has a [job] table."""

    @property
    def worker_hours(self) -> float:
        """Hours of one worker (a core, or a GPU) for what is left."""
        return self.windows_left * self.seconds_per_window / 3600

    @property
    def hours(self) -> float:
        """Hours that all workers together need for it."""
        return self.worker_hours / self.workers

    @property
    def node_hours(self) -> float | None:
        """Hours of one node for what is left; None without a [job] table."""
        return None if self.per_node is None else self.worker_hours / self.per_node

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for --json."""
        left = {"pairing", "name"}
        figures = {name: value for name, value in asdict(self).items() if name not in left}
        return {
            "region": self.name,
            "pairing": self.pairing.counts,
            **figures,
            "worker_hours": round(self.worker_hours, 3),
            "hours": round(self.hours, 3),
            "node_hours": None if self.node_hours is None else round(self.node_hours, 3),
        }

    def text(self) -> str:
        """The plan in words."""
        unit = "GPU" if self.device == "cuda" else "worker"
        lines = [
            f"region     {self.name}",
            describe_pairs(self.pairing),
            f"scenes     {self.scenes}, {self.finished} of them finished, "
            f"{self.scenes_at_once} at once",
            f"pixels     {self.pixels / 1e6:,.1f} Mpx in {self.chunks:,} chunks "
            f"({self.windows:,} windows)",
            f"workers    {self.workers}, peak memory {self.peak_bytes / 2**30:.2f} GiB each",
            f"disk       up to {self.disk_bytes / 2**30:.1f} GiB of "
            f"{self.free_bytes / 2**30:.1f} GiB, about {self.files:,} files",
            f"time       {self.worker_hours:.2f} {unit}-hours, {self.hours:.2f} h on "
            f"{self.workers} {unit}s ({self.seconds_per_window:.2f} s per window here; reading, "
            "start-up and merging not counted)",
        ]
        if self.node_hours is not None:
            lines.append(
                f"nodes      {self.node_hours:.2f} node-hours at {self.per_node} {unit}s each"
            )
        if self.unknown:
            lines.append(
                f"note       {self.unknown} scenes are not in these figures: the catalog does not "
                "tell their size, or their files cannot be read"
            )
        if self.disk_bytes > self.free_bytes:
            lines.append("note       the disk may be too small; give another folder with -o")
        return "\n".join(lines)


def plan(pre: Source | None, post: Source | None = None, **options: Any) -> Budget | RegionPlan:
    """What assessing a pair, or every pair of a region file, would cost; nothing is written.

    `plan("region.toml")`, or two images with the options of `Request`. Raises what `prepare` and
    `run_region` refuse.
    """
    if post is None and isinstance(pre, str | Path) and Path(pre).suffix == ".toml":
        return plan_region(pre)
    if post is None:
        raise UsageError("Give a before and an after image, or a region file ending in .toml.")
    return plan_pair(pre, post, **options)


def plan_region(
    region: RegionFile | str | Path,
    share: tuple[int, int] | None = None,
    fresh: bool = False,
) -> RegionPlan:
    """What a region, or a share of its scenes, will cost; nothing is written.

    Raises what `run_region` refuses before its first scene, but connects to no cluster.
    """
    region = region if isinstance(region, RegionFile) else read_region_file(region)
    work = prepare_region(region)
    folder = RegionFolder(region.out)
    folder.check_foreign(region.name)
    if not fresh:
        check_unchanged(work, folder, share)
    workers = worker_count(region.cluster, region.workers)
    budget = lru_cache(maxsize=256)(
        partial(_budget, work.kernel, region, workers, worker_memory(region.memory, workers))
    )
    area = wanted_area(region.images.bbox, region.images.aoi)
    sums = dict.fromkeys(("scenes", "finished", "unknown", "pixels", "chunks", "windows"), 0)
    sums |= dict.fromkeys(("windows_left", "disk_bytes", "files", "peak_bytes"), 0)
    layers = len(work.kernel.layers)
    for pair in in_share(work.pairing.pairs, share):
        shape = _shape(pair, region, area)
        sums["scenes"] += 1
        finished = is_finished(work, folder, pair)
        sums["finished"] += finished
        if shape is None:
            sums["unknown"] += 1
            continue
        cost = budget(shape)
        sums["pixels"] += math.prod(shape)
        sums["chunks"] += len(cost.plan)
        sums["windows"] += cost.plan.window_count
        sums["windows_left"] += 0 if finished else cost.plan.window_count
        sums["disk_bytes"] += cost.disk_bytes
        sums["files"] += len(cost.plan) * layers + 2 * layers + _FIXED_FILES
        sums["peak_bytes"] = max(sums["peak_bytes"], cost.peak_bytes)
    sums["files"] += _MERGED_FILES
    return RegionPlan(
        name=region.name,
        pairing=work.pairing,
        free_bytes=room_bytes(region.out),
        workers=workers,
        scenes_at_once=region.scenes_at_once,
        device=str(work.kernel.facts().get("device", "cpu")),
        seconds_per_window=seconds_per_window(_fitted(work.kernel)),
        per_node=_per_node(region),
        **sums,
    )


def _per_node(region: RegionFile) -> int | None:
    """Workers or GPUs of a node that a job takes."""
    if not region.job:
        return None
    job = job_options(region.job)
    return max(1, job.gpus or job.workers)


def _budget(
    kernel: Kernel, region: RegionFile, workers: int, memory: int, shape: tuple[int, int]
) -> Budget:
    chunk = region.assess.get("chunk")
    whole = (0, 0, *shape)
    threads = worker_threads(region.cluster)
    scene = region.out / "scenes" / "next"
    return make_budget(kernel, shape, whole, workers, memory, chunk, scene, False, threads)


def _shape(
    pair: ScenePair, region: RegionFile, area: shapely.Geometry | None
) -> tuple[int, int] | None:
    """Rows and columns that a scene will have; None where nobody tells."""
    on_pre = region.assess.get("grid") == "pre" and pair.pre is not None
    image = pair.pre if on_pre and pair.pre is not None else pair.post
    shape = _resampled(image, region.assess)
    if shape is None or area is None:
        return shape
    west, south, east, north = image.outline.bounds
    inside = shapely.intersection(image.outline, area)
    if inside.is_empty:
        return 1, 1
    left, low, right, high = inside.bounds
    rows = math.ceil(shape[0] * (high - low) / (north - south))
    cols = math.ceil(shape[1] * (right - left) / (east - west))
    return max(1, rows), max(1, cols)


def _resampled(image: CatalogImage, assess: Mapping[str, Any]) -> tuple[int, int] | None:
    """Rows and columns of an image at the resolution asked for; None where nobody tells its size."""
    resolution = assess.get("resolution")
    if "://" not in image.href:
        return _from_header(image, resolution, assess.get("crs"), assess.get("gcps", False))
    tile = image.place is not None and ArdCell.of(image.place) is not None
    metres = _ARD_METRES if tile else image.gsd
    shape = image.shape or ((_ARD_SIDE, _ARD_SIDE) if tile else _from_outline(image))
    if shape is None or resolution is None:
        return shape
    if not metres:
        return None
    rows, cols = (max(1, math.ceil(side * metres / resolution - 1e-6)) for side in shape)
    return rows, cols


def _from_header(
    image: CatalogImage, resolution: float | None, crs: str | None, gcps: bool
) -> tuple[int, int] | None:
    """Rows and columns of a local image; None for a file that cannot be read."""
    if image.shape is not None and resolution is None:
        return image.shape
    try:
        raster = open_raster(image.href, bands=(1,), scale=(0.0, 1.0), crs=crs, gcps=gcps)
    except Refused:
        return None
    grid = GeoBox((raster.height, raster.width), raster.transform, raster.crs)
    rows, cols = (grid if resolution is None else at_resolution(grid, resolution)).shape
    return rows, cols


def _from_outline(image: CatalogImage) -> tuple[int, int] | None:
    """About as many pixels as the image's outline is wide and high."""
    if not image.gsd:
        return None
    west, south, east, north = image.outline.bounds
    geod, middle = Geod(ellps="WGS84"), (south + north) / 2
    width = geod.inv(west, middle, east, middle)[2]
    height = geod.inv(west, south, west, north)[2]
    return max(1, round(height / image.gsd)), max(1, round(width / image.gsd))


def _fitted(kernel: Kernel) -> Kernel:
    """A kernel that can be timed: a baseline's threshold is fitted to each scene later."""
    return replace(kernel, level=1.0) if isinstance(kernel, Baseline) else kernel
