"""region.toml: which images, assessed how, on what; checked before anything is opened."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any

from ...scenes.errors import Refused, UsageError
from ..request import Request

KINDS = ("folder", "list", "stac", "maxar")
"""Where the images of a region can come from."""

_PATHS = ("path", "before", "after", "root", "aoi", "districts", "weights", "footprints")
"""Options that name files; taken relative to the region file's folder."""

_NOT_HERE = {"pre", "post", "out", "cluster", "workers", "memory", "fresh", "bbox", "aoi"}
"""Options of an assessment that belong to another table of the file, or to each scene."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """The `[images]` table: which images there are and which of them are good enough."""

    kind: str
    """One of KINDS."""
    path: str | None = None
    """maxar: catalog file or folder; stac: catalog, collection, item collection or API address;
    list: CSV with columns pre, post and optionally scene_id."""
    before: str | None = None
    """folder: the folder of images from before the event."""
    after: str | None = None
    """folder: the folder of images from after the event."""
    root: str | None = None
    """Folder with local copies of a catalog's files, under the last parts of their addresses."""
    collections: tuple[str, ...] = ()
    """stac: the collections to search."""
    asset: str = "visual"
    """stac, maxar: the asset to read."""
    event_date: date | None = None
    """First day that counts as after."""
    bbox: tuple[float, float, float, float] | None = None
    """W, S, E, N in EPSG:4326."""
    aoi: str | None = None
    """Polygons of the area wanted, in any CRS."""
    max_cloud: float = 50.0
    """Cloudier images are left out, percent."""
    max_off_nadir: float = 45.0
    """More oblique images are left out, degrees."""
    allow_remote: bool = False
    """Whether catalogs and pixels may be read over the network."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(
                f"[images] kind = {self.kind!r} is unknown. Give one of {', '.join(KINDS)}."
            )
        self._check_types()
        object.__setattr__(self, "collections", tuple(self.collections))
        if self.bbox is not None:
            object.__setattr__(self, "bbox", tuple(self.bbox))
        if self.kind == "folder" and not (self.before and self.after):
            raise UsageError('[images] kind = "folder" needs before = "..." and after = "...".')
        if self.kind != "folder" and not self.path:
            raise UsageError(f'[images] kind = "{self.kind}" needs path = "...".')
        if self.kind in ("maxar", "stac") and self.event_date is None:
            raise UsageError(
                f'[images] kind = "{self.kind}" needs event_date = 2023-02-06, the first day after.'
            )

    def _check_types(self) -> None:
        """TOML has types of its own: a date in quotes is text, and one text is no list of texts."""
        names, box = self.collections, self.bbox or (0, 0, 0, 0)
        if not isinstance(self.event_date, date | None):
            raise _wrong("event_date", "a date without quotes, such as 2023-02-06", self.event_date)
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise _wrong("collections", 'a list of texts, such as ["a", "b"]', names)
        if len(box) != 4 or not all(type(n) in (int, float) for n in box):
            raise _wrong("bbox", "four numbers: west, south, east, north", box)
        for key in ("max_cloud", "max_off_nadir"):
            if type(getattr(self, key)) not in (int, float):
                raise _wrong(key, "a number", getattr(self, key))


@dataclass(frozen=True, kw_only=True)
class RegionFile:
    """A region as its file describes it."""

    file: Path
    """The file itself, absolute."""
    name: str
    """What the region is called in reports; the file's stem by default."""
    out: Path
    """The region's folder; `<name>-region` beside the file by default."""
    images: Images
    assess: Mapping[str, Any] = field(default_factory=dict)
    """Options of `assess` that hold for every scene, by the names of `Request`."""
    cluster: str = "local"
    workers: int | None = None
    memory: str | None = None
    scenes_at_once: int = 2
    """Scenes in flight: one is finished while the next one's chunks run."""
    districts: Path | None = None
    """Polygons for which totals are told."""
    district_column: str = "name"
    job: Mapping[str, Any] = field(default_factory=dict)
    """The `[job]` table: what a job script needs to know; see `jobs.options`."""


def read_region_file(path: str | Path) -> RegionFile:
    """Read and check a region file. Raises Refused for a file that cannot be read, UsageError for
    tables and keys that do not exist or do not fit."""
    file = Path(path).absolute()
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"The region file {path} cannot be read: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"{path} is not a TOML file: {error}.") from error
    tables = ("region", "images", "assess", "cluster", "districts", "job")
    _check_names(path, "tables", content, tables)
    if "images" not in content:
        raise UsageError(f"{path} has no [images] table: it says which images there are.")
    region, cluster, districts = (content.get(t, {}) for t in ("region", "cluster", "districts"))
    _check_names(path, "keys of [region]", region, ("name", "out"))
    _check_names(
        path, "keys of [cluster]", cluster, ("kind", "workers", "memory", "scenes_at_once")
    )
    _check_names(path, "keys of [districts]", districts, ("path", "column"))
    images = _made(path, "images", Images, _resolved(content["images"], file.parent))
    options = [f.name for f in fields(Request) if f.name not in _NOT_HERE]
    _check_names(path, "keys of [assess]", content.get("assess", {}), options)
    name = str(region.get("name", file.stem))
    out = Path(region.get("out", f"{name}-region"))
    return RegionFile(
        file=file,
        name=name,
        out=file.parent / out,
        images=images,
        assess=_resolved(content.get("assess", {}), file.parent),
        cluster=cluster.get("kind", "local"),
        workers=cluster.get("workers"),
        memory=cluster.get("memory"),
        scenes_at_once=cluster.get("scenes_at_once", 2),
        districts=file.parent / districts["path"] if "path" in districts else None,
        district_column=districts.get("column", "name"),
        job=content.get("job", {}),
    )


def _wrong(key: str, needed: str, found: object) -> UsageError:
    return UsageError(f"[images] {key} must be {needed}; found {found!r}.")


def _made(path: str | Path, table: str, kind: type, values: Mapping[str, Any]) -> Any:
    _check_names(path, f"keys of [{table}]", values, [f.name for f in fields(kind)])
    try:
        return kind(**values)
    except TypeError as error:
        raise UsageError(f"{path}: [{table}] is incomplete: {error}.") from None


def _check_names(path: str | Path, what: str, found: Any, known: Any) -> None:
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise UsageError(
            f"{path} has {what} that do not exist: {', '.join(unknown)}. "
            f"There are: {', '.join(sorted(known))}."
        )


def _resolved(table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The table with its file names taken relative to the region file's folder."""
    return {
        key: str(folder / value)
        if key in _PATHS and isinstance(value, str) and "://" not in value
        else value
        for key, value in table.items()
    }
