"""Images and pairs as a catalog describes them: where, when, how cloudy; no pixel is read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import shapely


@dataclass(frozen=True)
class CatalogImage:
    """One image of a catalog."""

    href: str
    """Where its pixels are: a local path, or an https URL without its query."""
    name: str
    """What the catalog calls it: an acquisition's id, or the file's stem."""
    place: str | None
    """The cell of a fixed tiling, such as "37/031133012312" (UTM zone and quadkey); None without one."""
    time: datetime | None
    """When it was taken, UTC."""
    outline: shapely.Geometry
    """Where it has pixels, EPSG:4326."""
    cell: shapely.Geometry | None = None
    """The tile of its place without the apron that it shares with its neighbours, EPSG:4326."""
    cloud: float | None = None
    """Cloud cover, percent."""
    off_nadir: float | None = None
    """View angle, degrees."""
    gsd: float | None = None
    """Native ground sample distance, m."""
    epsg: int | None = None
    """Its coordinate system."""
    shape: tuple[int, int] | None = None
    """Rows and columns, where the catalog tells them."""
    copy_of: str | None = None
    """What the catalog gives as its address, where `href` is a local copy."""


@dataclass(frozen=True)
class ScenePair:
    """The images that are assessed as one scene of a region."""

    scene_id: str
    """Unique in the region and stable: letters, digits, '-' and '_' only."""
    pre: CatalogImage | None
    """None for methods that need the after image alone."""
    post: CatalogImage
    core: shapely.Geometry
    """The ground that this scene answers for, EPSG:4326; no two scenes' cores share an area."""
    why: str
    """How the two images were chosen, in a sentence."""

    @property
    def remote(self) -> bool:
        """Whether an image lies on the network."""
        return any("://" in image.href for image in (self.pre, self.post) if image is not None)


@dataclass(frozen=True)
class Pairing:
    """Which pairs were made of a catalog, and what was left out."""

    pairs: tuple[ScenePair, ...]
    """Ordered by scene_id."""
    left_out: tuple[str, ...]
    """What is not used: a line for each reason, with how many images or places share it and a few names."""
    counts: dict[str, int]
    """Figures to show: images found, before, after, duplicates, places, pairs and so on."""
