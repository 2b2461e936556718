"""region.toml: which images, assessed how, on what; checked before anything is opened."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, get_type_hints

from ...scenes.errors import Refused, UsageError
from ..request import Request
from .values import check_values

KINDS = ("folder", "list", "stac", "maxar")
"""Where the images of a region can come from."""

_PATHS = (
    "path",
    "before",
    "after",
    "root",
    "aoi",
    "districts",
    "weights",
    "ensemble",
    "footprints",
    "gazetteer",
    "teacher",
)
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
        check_values("images", vars(self), get_type_hints(Images))
        if self.kind not in KINDS:
            raise UsageError(
                f"[images] kind = {self.kind!r} is unknown. Give one of {', '.join(KINDS)}."
            )
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
    tables and keys that do not exist, and for values of another type or outside their limits."""
    file = Path(path).absolute()
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"The region file {path} cannot be read: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"{path} is not a TOML file: {error}.") from error
    try:
        return _region(content, file)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _region(content: Mapping[str, Any], file: Path) -> RegionFile:
    """A region from the tables of its file."""
    _check_tables(content)
    if "images" not in content:
        raise UsageError("there is no [images] table: it says which images there are.")
    if "kind" not in content["images"]:
        raise UsageError(f"[images] needs kind = one of {', '.join(KINDS)}.")
    region, cluster, districts = (content.get(t, {}) for t in ("region", "cluster", "districts"))
    name = region.get("name", file.stem)
    return RegionFile(
        file=file,
        name=name,
        out=file.parent / region.get("out", f"{name}-region"),
        images=Images(**_resolved(content["images"], file.parent)),
        assess=_resolved(content.get("assess", {}), file.parent),
        cluster=cluster.get("kind", "local"),
        workers=cluster.get("workers"),
        memory=cluster.get("memory"),
        scenes_at_once=cluster.get("scenes_at_once", 2),
        districts=file.parent / districts["path"] if "path" in districts else None,
        district_column=districts.get("column", "name"),
        job=content.get("job", {}),
    )


def _check_tables(content: Mapping[str, Any]) -> None:
    """Check the names of tables and keys, and every value. What [job] holds is a job's to check."""
    _check_names("tables", content, (*_KEYS, "job"))
    for table, values in content.items():
        if not isinstance(values, dict):
            raise UsageError(f"[{table}] must be a table with keys of its own; found {values!r}.")
        if table in _KEYS:
            _check_names(f"keys of [{table}]", values, _KEYS[table])
            check_values(table, values, _KEYS[table])


def _check_names(what: str, found: Mapping[str, Any], known: Collection[str]) -> None:
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise UsageError(
            f"there are {what} that do not exist: {', '.join(unknown)}. "
            f"There are: {', '.join(sorted(known))}."
        )


def _resolved(table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The table with its file names taken relative to the region file's folder."""

    def placed(value: Any) -> Any:
        if isinstance(value, list):
            return [placed(one) for one in value]
        return str(folder / value) if isinstance(value, str) and "://" not in value else value

    return {key: placed(value) if key in _PATHS else value for key, value in table.items()}


_KEYS: dict[str, dict[str, Any]] = {
    "region": {"name": str, "out": Path},
    "images": get_type_hints(Images),
    "assess": {k: v for k, v in get_type_hints(Request).items() if k not in _NOT_HERE},
    "cluster": {"kind": str, "workers": int, "memory": str, "scenes_at_once": int},
    "districts": {"path": Path, "column": str},
}
"""The tables and the types of their keys; [job] has its own, see `jobs.options`."""
