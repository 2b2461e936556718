"""Images given as files: two folders, or a list of pairs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from odc.geo.geobox import GeoBox
from pyproj import CRS

from .catalog import CatalogImage
from .catalog_item import Unusable, polygons_on_earth, utc_time
from .errors import Refused
from .left_out import printable
from .raster import open_raster
from .reading import Reading, read_text

SUFFIXES = (".tif", ".tiff", ".jp2", ".jpg", ".jpeg", ".png")
"""Files of a folder that are taken for images; all others are passed over."""

_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")


@dataclass(frozen=True)
class Placing:
    """How files that do not say themselves where they lie are placed."""

    crs: str | None = None
    """The coordinate system of files that name none."""
    gcps: bool = False
    """Whether files are placed by their control points or RPCs."""


def read_folder(folder: str | Path, reading: Reading, placing: Placing) -> None:
    """Read the headers of the images of a folder, and of the folders in it, into `reading`.

    Files whose header is refused are left out with the reason. Raises Refused for a folder that
    is none, or holds no image at all.
    """
    place = Path(folder)
    if not place.is_dir():
        raise Refused(
            f"[images] {str(folder)[:200]!r} is not a folder. Give one with images in it."
        )
    files = sorted(f for f in place.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
    if not files:
        raise Refused(
            f"[images] the folder {str(folder)!r} holds no image ({', '.join(SUFFIXES)})."
        )
    for file in files:
        reading.count()
        try:
            reading.images.append(image_of(file, placing))
        except (Refused, Unusable) as reason:
            reading.left_out.add(_without(str(reason), file), str(file.relative_to(place)))


def read_list(
    path: str | Path, reading: Reading, placing: Placing, *, needs_before: bool = True
) -> list[tuple[str, CatalogImage | None, CatalogImage]]:
    """The pairs (scene_id, before, after) of a CSV with columns pre, post and optionally scene_id.

    Paths are relative to the CSV; scene_id is empty where none is given. Pairs whose files cannot
    be read are left out with the reason. Raises Refused for a file that is no such list.
    """
    file = Path(path)
    pairs = []
    for number, row in _rows(file):
        reading.count()
        try:
            pairs.append(_pair(row, file.absolute().parent, placing, needs_before))
        except (Refused, Unusable) as reason:
            reading.left_out.add(str(reason), f"line {number}", "pair")
            continue
        reading.images.extend(image for image in pairs[-1][1:] if image is not None)
    return pairs


def image_of(file: Path, placing: Placing) -> CatalogImage:
    """What a raster's header and name say about an image.

    Which bands are read, and on what scale, is no matter here: that is checked when the pair is
    opened.
    Raises Refused for a file that cannot be read, Unusable for one that lies nowhere on earth.
    """
    raster = open_raster(file, bands=(1,), scale=(0.0, 1.0), crs=placing.crs, gcps=placing.gcps)
    grid = GeoBox((raster.height, raster.width), raster.transform, raster.crs)
    extent = grid.extent.to_crs("EPSG:4326", resolution="auto", wrapdateline=True)
    return CatalogImage(
        href=raster.path,
        name=file.stem,
        place=None,
        time=date_in_name(file),
        outline=polygons_on_earth(extent.geom),
        epsg=CRS.from_wkt(raster.crs).to_epsg(),
        shape=(raster.height, raster.width),
    )


def date_in_name(file: Path) -> datetime | None:
    """The date in a file's name, or else in its folder's: 2023-02-06, 2023_02_06 or 20230206."""
    for text in (file.stem, file.parent.name):
        found = _DATE.search(text)
        if found:
            try:
                return utc_time(f"{found[1]}-{found[3]}-{found[4]}")
            except Unusable:  # the 30th of February
                continue
    return None


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        reader = csv.DictReader(io.StringIO(read_text(file)), skipinitialspace=True)
        names = [str(name).strip().lower() for name in reader.fieldnames or ()]
        if not {"pre", "post"} <= set(names):
            found = ", ".join(printable(name, 30) for name in names[:6]) or "nothing"
            raise Refused(
                f"[images] path: {file} is not a list of pairs: its first line has {found}, and "
                "columns pre and post are needed (and scene_id, if you like)."
            )
        reader.fieldnames = names
        for row in reader:
            yield reader.line_num, {k: (v or "").strip() for k, v in row.items() if k in names}
    except (Unusable, csv.Error) as error:
        raise Refused(f"[images] path: {file} cannot be read as a list: {error}.") from error


def _pair(
    row: dict[str, str], folder: Path, placing: Placing, needs_before: bool
) -> tuple[str, CatalogImage | None, CatalogImage]:
    for column in ("pre", "post"):
        if "://" in row[column]:
            raise Unusable("a list names local files; describe remote ones with a STAC catalog")
    if not row["post"]:
        raise Unusable("no after image")
    if not row["pre"] and needs_before:
        raise Unusable("no before image, and the method needs one")
    before = image_of(folder / row["pre"], placing) if row["pre"] and needs_before else None
    return row.get("scene_id", ""), before, image_of(folder / row["post"], placing)


def _without(reason: str, file: Path) -> str:
    """A refusal without the file's own path, so that equal reasons can be counted together."""
    return reason.replace(str(file.resolve()), "the file").replace(str(file), "the file")
