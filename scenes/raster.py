"""One raster file: its header checked at the door."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from pyproj import Transformer
from pyproj.exceptions import ProjError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import CRSError
from rasterio.vrt import WarpedVRT

from .errors import Refused
from .handles import GDAL_ERRORS, beside, open_dataset, reason_of, stamp_of
from .handles import close_handles as close_handles
from .remote import RemoteFile, Unreachable, is_remote, look, shown

# GDAL's own default is a twentieth of the machine's memory in each process. Reading by blocks
# needs a few rows of them; whoever reads striped files many blocks wide can set more.
os.environ.setdefault("GDAL_CACHEMAX", "64")

MAX_PIXELS = 100_000_000_000
"""Largest raster that is planned at all; a small sparse file can declare far more than it holds."""

MAX_BLOCK_BYTES = 1 << 30
"""Largest internal block that is read; one block is the least that can be decoded."""

_MAGIC = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"\x00\x00\x00\x0cjP": "JP2OpenJPEG",
}
_LOSSY = {"jpeg", "webp", "jpeg2000", "lerc"}


@dataclass(frozen=True)
class Raster:
    """The header of one raster file, checked; picklable, reopened in each thread."""

    path: str
    """Of the file, or its URL without query."""
    driver: str
    width: int
    height: int
    crs: str
    """WKT."""
    transform: Affine
    """Pixel to `crs`; with `gcps`, that of the image once placed by them."""
    bands: tuple[int, ...]
    """1-based indices of the bands that are read, in the order red, green, blue."""
    dtype: str
    scale: tuple[float, float] | None
    """Source values that become 0 and 255; None keeps the source's own values."""
    nodata: float | None
    masked: bool
    """Whether the file itself says which pixels are valid (nodata, alpha or mask band)."""
    alpha: int
    """1-based index of the alpha band; 0 for none."""
    lossy: bool
    """Whether compression smears values, so that black is not exactly black."""
    gcps: bool
    """Whether the file is placed by its ground control points or RPCs instead of a transform."""
    stamp: tuple[int, ...]
    """Size and modification time of the file (or a digest of what a server says) when its header was
    read, and of the masks and overviews beside it."""
    notes: tuple[str, ...] = field(default=())
    query: str = field(default="", repr=False)
    """What is sent with the URL of a remote file, and shown nowhere."""

    @property
    def remote(self) -> RemoteFile | None:
        """Where the file is read from over the network; None for a local one."""
        return RemoteFile(self.path, self.query) if is_remote(self.path) else None

    @property
    def stored_dtype(self) -> str:
        """The dtype of pixels as read: uint8 once a scale is declared."""
        return "uint8" if self.scale else self.dtype


def open_raster(
    path: str | Path,
    *,
    bands: Sequence[int] | None = None,
    scale: tuple[float, float] | None = None,
    crs: str | None = None,
    gcps: bool = False,
    allow_remote: bool = False,
) -> Raster:
    """Check one raster file's header and describe it; no pixel is read.

    `bands` are 1-based, `scale` = (low, high) source values mapped to 0-255, `crs` supplies a
    missing coordinate system, `gcps` places the image by its control points or RPCs,
    `allow_remote` takes http and https URLs of GeoTIFFs too. Raises Refused, in words, for anything that cannot be read or placed.
    """
    remote = RemoteFile.of(str(path)) if allow_remote and is_remote(path) else None
    file = remote or local_file(path)
    driver, stamp = _recognised(file)
    try:
        with open_dataset(file, driver) as source:
            _check_confined(source, file)
            _check_size(source, file, stamp[0])
            placed = gcps and bool(source.gcps[0] or source.rpcs)
            found_crs, shape, transform = _georeference(source, file, crs, placed)
            chosen, notes = _choose_bands(source, file, bands)
            if gcps and not placed:
                notes += (f"{file.name}: no control points or RPCs, placed by its transform",)
            dtype = source.dtypes[chosen[0] - 1]
            _check_scale(scale, dtype, file)
            if scale is None:
                _check_tags(source, chosen, file)
            alphas = [i for i, c in enumerate(source.colorinterp, 1) if c == ColorInterp.alpha]
            flags = set(source.mask_flag_enums[chosen[0] - 1])
            compression = source.compression.value.lower() if source.compression else ""
            return Raster(
                path=str(file),
                driver=driver,
                width=shape[1],
                height=shape[0],
                crs=found_crs,
                transform=transform,
                bands=chosen,
                dtype=dtype,
                scale=scale,
                nodata=source.nodatavals[chosen[0] - 1],
                masked=bool(alphas) or flags != {MaskFlags.all_valid},
                alpha=alphas[-1] if alphas else 0,
                lossy=compression in _LOSSY,
                gcps=placed,
                stamp=stamp,
                notes=notes + _remote_notes(source, remote),
                query=remote.query if remote else "",
            )
    except GDAL_ERRORS as error:
        if remote:
            raise Unreachable(
                f"{file} begins like a {driver} file but cannot be opened: {reason_of(error)}. "
                "Its header is damaged, or the network failed: try again, or download it."
            ) from None
        raise Refused(
            f"{file} begins like a {driver} file but cannot be opened: {error}. "
            "Its header is damaged or cut off; fetch the file again."
        ) from error


def local_file(path: str | Path) -> Path:
    """The path of an existing local file; network and virtual paths are refused."""
    text = str(path)
    if is_remote(text):
        raise Refused(
            f"{shown(text)[:200]!r} is not a local file. Give --allow-remote to have it read over the "
            "network by range requests, or download it first."
        )
    if "://" in text or text.startswith("/vsi") or text.lstrip().startswith("<"):
        raise Refused(
            f"{shown(text)[:200]!r} is not a local file. Besides those, only http and https URLs are "
            "read, with --allow-remote; download it first and give the file's path."
        )
    try:
        file = Path(text).expanduser()
        if not file.exists():
            raise Refused(f"{file} does not exist. Check the path given for the image.")
        if not file.is_file():
            raise Refused(f"{file} is not a file. Give an image file, or a folder of them.")
        return file.resolve()
    except (OSError, RuntimeError) as error:  # a name too long, or the home of a stranger
        raise Refused(f"{text[:200]!r} is no path that can be looked up: {error}.") from error


def _recognised(file: Path | RemoteFile) -> tuple[str, tuple[int, ...]]:
    """The reader for a file and what is beside it, and the file's stamp."""
    if isinstance(file, RemoteFile):
        found = look(file)
        driver = _driver(file, found.head)
        if driver != "GTiff":
            raise Refused(
                f"{file} is a {driver} file; over the network only GeoTIFFs are read, best cloud "
                "optimised ones. Download it and give the file's path."
            )
        return driver, found.stamp
    driver = _driver(file, _head(file))
    for other in beside(file):
        _driver(other, _head(other))
    return driver, stamp_of(file)


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(16)
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}.") from error


def _driver(file: Path | RemoteFile, head: bytes) -> str:
    """The reader for a file by its first bytes, from a short list of drivers that open nothing else."""
    for magic, driver in _MAGIC.items():
        if head.startswith(magic):
            return driver
    if not head:
        raise Refused(f"{file} is empty (0 bytes); fetch the file again.")
    hint = (
        " A VRT can point at any file, so give its tiles or their folder."
        if b"<VRT" in head
        else ""
    )
    raise Refused(
        f"{file} is not an image that aftermap reads: it starts with {head[:8]!r}. "
        f"GeoTIFF, JPEG 2000, JPEG and PNG are read.{hint}"
    )


def _check_confined(source: rasterio.DatasetReader, file: Path | RemoteFile) -> None:
    """Refuse a file whose metadata send GDAL to files elsewhere, as `OVERVIEW_FILE` can."""
    if isinstance(file, RemoteFile):
        elsewhere = [shown(name) for name in source.files if name != source.name]
    else:
        elsewhere = [name for name in source.files if Path(name).resolve().parent != file.parent]
    if elsewhere:
        raise Refused(
            f"{file} would have {elsewhere[0]} read too, outside its own folder. Remove the "
            f"reference, probably in {file.name}.aux.xml, or rewrite the image with gdal_translate."
        )


def _check_size(source: rasterio.DatasetReader, file: Path | RemoteFile, size: int) -> None:
    pixels = source.width * source.height
    if source.count < 1:
        raise Refused(f"{file} has no bands.")
    if pixels > MAX_PIXELS:
        raise Refused(
            f"{file} declares {source.width} x {source.height} = {pixels:.2g} px in "
            f"{size} bytes; at most {MAX_PIXELS:.0e} px are read. "
            "Cut it into tiles and give their folder."
        )
    rows, cols = source.block_shapes[0]
    item = np.dtype(source.dtypes[0]).itemsize
    # A striped file may give its blocks the image's width; only what lies in the image is decoded.
    block = min(rows, source.height) * cols * item * source.count
    if block > MAX_BLOCK_BYTES or cols > 2 * max(source.width, 1 << 16):
        raise Refused(
            f"{file} stores its pixels in blocks of {cols} x {rows} px ({block:.2g} bytes); "
            f"at most {MAX_BLOCK_BYTES:.0e} bytes are decoded at once. "
            "Rewrite it with tiles, for example gdal_translate -co TILED=YES."
        )


def _remote_notes(source: rasterio.DatasetReader, remote: RemoteFile | None) -> tuple[str, ...]:
    if remote is None or max(source.shape) <= 2048 or source.overviews(1):
        return ()
    return (f"{remote.name} has no overviews: looking at the whole of it fetches all its pixels",)


def _georeference(
    source: rasterio.DatasetReader, file: Path | RemoteFile, crs: str | None, gcps: bool
) -> tuple[str, tuple[int, int], Affine]:
    points, _ = source.gcps
    if gcps:
        return _placed(source, file)
    found = source.crs or (_named_crs(crs) if crs is not None else None)
    if source.transform.is_identity:
        if points or source.rpcs:
            raise Refused(
                f"{file} has no transform, only {len(points)} ground control points"
                f"{' and RPCs' if source.rpcs else ''}. Give --gcps to place it by them."
            )
        raise Refused(
            f"{file} has no georeference: neither a transform, nor control points, nor RPCs. "
            "Put a world file beside it and give its coordinate system with --crs."
        )
    if found is None:
        raise Refused(
            f"{file} has no coordinate system. Give it with --crs, for example --crs EPSG:32637."
        )
    values = list(source.transform)[:6]
    if not all(math.isfinite(v) for v in values) or source.transform.is_degenerate:
        raise Refused(f"{file} has an unusable transform {tuple(values)}: its pixels have no area.")
    _check_place(file, found, source.transform, source.shape)
    return found.to_wkt(), source.shape, source.transform


def _placed(
    source: rasterio.DatasetReader, file: Path | RemoteFile
) -> tuple[str, tuple[int, int], Affine]:
    """The grid on which an image's control points or RPCs place it."""
    points, points_crs = source.gcps
    if points and not points_crs:
        raise Refused(f"{file} has {len(points)} control points without a coordinate system.")
    try:
        with WarpedVRT(source, **placement(source)) as vrt:
            _check_place(file, vrt.crs, vrt.transform, vrt.shape)
            return vrt.crs.to_wkt(), vrt.shape, vrt.transform
    except GDAL_ERRORS as error:
        raise Refused(
            f"{file} cannot be placed by its {f'{len(points)} control points' if points else 'RPCs'}: "
            f"{shown(str(error))}. Correct them, or give a georeferenced image."
        ) from error


def _named_crs(name: str) -> rasterio.CRS:
    """The coordinate system that `--crs` names."""
    try:
        return rasterio.CRS.from_user_input(name)
    except CRSError as error:
        raise Refused(
            f"--crs {name!r} is no coordinate system ({error}). Give an EPSG code, for example "
            "--crs EPSG:32637, or WKT."
        ) from error


def _check_place(
    file: Path | RemoteFile, crs: rasterio.CRS, transform: Affine, shape: tuple[int, int]
) -> None:
    """Refuse an image whose centre is nowhere on earth: a wrong CRS would only show later, as NaN."""
    middle = transform * (shape[1] / 2, shape[0] / 2)
    if crs.is_geographic or crs.is_projected:
        try:
            to_degrees = Transformer.from_crs(crs.to_wkt(), "EPSG:4326", always_xy=True)
            lon, lat = to_degrees.transform(*middle)
        except ProjError:
            lon = lat = math.inf
        if abs(lon) <= 540 and abs(lat) <= 90:
            return
    raise Refused(
        f"{file} cannot be placed on the earth: its centre {middle[0]:.6g}, {middle[1]:.6g} is no "
        f"place in {crs.to_string()[:80]}. Correct the file's coordinate system, "
        "or the one given with --crs."
    )


def placement(source: rasterio.DatasetReader) -> dict[str, object]:
    """The warp options that place an image by its ground control points or, without any, its RPCs."""
    points, points_crs = source.gcps
    if points:
        return {"src_crs": points_crs}
    return {"src_crs": "EPSG:4326", "METHOD": "RPC"}


def _choose_bands(
    source: rasterio.DatasetReader, file: Path | RemoteFile, bands: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Red, green and blue: as asked, as the file declares, or refused; never guessed silently."""
    if bands is not None:
        wrong = [b for b in bands if not 1 <= b <= source.count]
        if wrong or not bands:
            raise Refused(
                f"{file} has {source.count} bands, but --bands asked for {list(bands)}; "
                f"bands are counted from 1."
            )
        return tuple(bands), ()
    colours = list(source.colorinterp)
    wanted = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if all(colour in colours for colour in wanted):
        return tuple(colours.index(colour) + 1 for colour in wanted), ()
    shown = ", ".join(colour.name for colour in colours[:8])
    if source.count == 3:
        return (1, 2, 3), (f"{file.name}: bands 1, 2, 3 taken as red, green, blue ({shown})",)
    raise Refused(
        f"{file} has {source.count} band{'s' if source.count > 1 else ''} ({shown}), and none is "
        "declared as red, green and blue. Say which to use with --bands, for example --bands 1 2 3"
        f"{' or --bands 1 1 1' if source.count == 1 else ''}."
    )


def _check_scale(scale: tuple[float, float] | None, dtype: str, file: Path | RemoteFile) -> None:
    if "complex" in dtype:
        raise Refused(f"{file} holds {dtype} values; aftermap reads real-valued images.")
    if scale is not None and not (scale[1] > scale[0] and all(map(math.isfinite, scale))):
        raise Refused(f"--scale {scale[0]} {scale[1]} is not a range for {file}: give LOW < HIGH.")


def _check_tags(
    source: rasterio.DatasetReader, bands: Sequence[int], file: Path | RemoteFile
) -> None:
    """Refuse stored values that the file says are not the measured ones; they are never guessed."""
    tags = {(source.scales[b - 1], source.offsets[b - 1]) for b in bands}
    if tags != {(1.0, 0.0)}:
        raise Refused(
            f"{file} says that its values stand for others (scale and offset {sorted(tags)}). Say "
            "which stored values are black and white with --scale LOW HIGH."
        )
