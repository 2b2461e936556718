"""What is asked for: which images, cut how, labelled by what; checked before anything is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distributed import Client

from ...scenes.errors import UsageError
from ...scenes.pair import Source
from ...scenes.patches import SIZE
from ...scenes.screen import Screens
from ..regions.file import Images, read_region_file
from ..regions.region import queue_options

FORMATS = ("zarr", "png", "tif")
"""Ways in which chips are written."""

_LARGEST = 4096


@dataclass(frozen=True)
class ReadAs:
    """How image files are read and placed; see `open_raster`."""

    bands: tuple[int, ...] | None = None
    scale: tuple[float, float] | None = None
    crs: str | None = None
    gcps: bool = False
    allow_remote: bool = False


@dataclass(frozen=True, kw_only=True)
class ChipsRequest:
    """A set of chips to make."""

    out: Path
    region: Path | None = None
    """A region file, whose [images] table names the images; or else `pre` and `post`."""
    pre: Source | None = None
    post: Source | None = None
    size: int = SIZE
    """Side of a chip, px."""
    format: str = "zarr"
    """One of FORMATS."""
    screens: Screens = field(default_factory=Screens)
    labels: Path | None = None
    """Polygons of damage, or a raster of damage codes."""
    column: str | None = None
    """Column of the polygons with their level; None: all of them are damaged, level not graded."""
    labelled_area: Path | None = None
    """Polygons inside which no damage means intact."""
    masks: Path | None = None
    """Folder of the study's masks."""
    seed: int = 0
    """Of the division into training, validation and test."""
    resolution: float | None = None
    """Pixel size, m; None: the images' own."""
    read_as: ReadAs = field(default_factory=ReadAs)
    cluster: str | Client = "auto"
    workers: int | None = None
    memory: str | None = None
    queue: Mapping[str, Any] = field(default_factory=dict)
    """What workers that are batch jobs are asked for."""
    dry_run: bool = False
    fresh: bool = False

    def __post_init__(self) -> None:
        if (self.region is None) == (self.post is None) or (self.pre is None) != (
            self.post is None
        ):
            raise UsageError("Give a region file, or BEFORE and AFTER.")
        if not 8 <= self.size <= _LARGEST:
            raise UsageError(f"--size {self.size} is no side of a chip: give 8 to {_LARGEST} px.")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed} is no seed: give 0 or more.")
        if self.format not in FORMATS:
            raise UsageError(f"--format {self.format!r} is unknown: give {', '.join(FORMATS)}.")
        if self.masks is not None and self.labels is not None:
            raise UsageError("--labels and --masks both say what is damaged: give one of them.")
        if self.labels is None and (self.column is not None or self.labelled_area is not None):
            raise UsageError("--column and --labelled-area go with --labels; give that too.")

    def with_region(self) -> tuple[ChipsRequest, Images]:
        """The request with what its region file says where it says nothing itself, and the images.

        Raises UsageError or Refused for a region file that cannot be used.
        """
        assert self.region is not None
        region = read_region_file(self.region)
        images = region.images
        if self.read_as.allow_remote:
            images = replace(images, allow_remote=True)
        cluster = region.cluster if self.cluster == "auto" else self.cluster
        request = replace(
            self,
            resolution=self.resolution or region.assess.get("resolution"),
            read_as=_filled(self.read_as, region.assess, images.allow_remote),
            cluster=cluster,
            workers=self.workers or region.workers,
            memory=self.memory or region.memory,
            queue=queue_options(region, cluster),
        )
        return request, images

    def options(self) -> dict[str, Any]:
        """What decides about the chips, besides the images and labels themselves."""
        return {
            "size": self.size,
            "format": self.format,
            "screens": vars(self.screens),
            "column": self.column,
            "seed": self.seed,
            "resolution": self.resolution,
            "read_as": vars(self.read_as) | {"allow_remote": None},
        }


def _filled(given: ReadAs, told: Mapping[str, Any], allow_remote: bool) -> ReadAs:
    """The options given, and those of the region file where none were."""
    bands, scale = (getattr(given, k) or told.get(k) for k in ("bands", "scale"))
    return ReadAs(
        bands=None if bands is None else tuple(bands),
        scale=None if scale is None else tuple(scale),
        crs=given.crs or told.get("crs"),
        gcps=given.gcps or bool(told.get("gcps")),
        allow_remote=allow_remote,
    )
