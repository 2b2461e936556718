"""What was asked for, checked and turned into something that can run; nothing is computed yet."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import shapely
from distributed import Client
from rasterio import CRS

from ..kernels.buildings import MIN_AREA_M2, Rules
from ..kernels.detections import LAYER, Suppression
from ..kernels.kernel import PATHS, Kernel
from ..kernels.methods import DEFAULT, SCANNED, check_resolution, load_method
from ..kernels.verdict import FLAGS, RULES, Verdict
from ..scenes.align import LARGE, Shift, measure_tiles
from ..scenes.errors import NothingToAnalyse, Refused, UsageError
from ..scenes.footprints import FootprintFile, open_footprints
from ..scenes.geocoder import Geocoder
from ..scenes.grid import region_of
from ..scenes.handles import beside
from ..scenes.pair import Pair, Source, make_pair, match_colour
from ..scenes.plan import Plan
from ..scenes.raster import Raster
from ..scenes.remote import RemoteFile
from ..scenes.scene import ReadError, Scene
from ..scenes.shift_field import SURE, ShiftField
from ..scenes.vector_file import check_vector_file
from .budget import Budget, make_budget
from .client import HERE, check_cluster, worker_count, worker_threads
from .fingerprint import fingerprint_input, parts_of, sha256_file
from .machine import worker_memory

CHECKED = 2048
"""Side of the pieces in which a scene is searched for a valid pixel, px."""

FOOTPRINTS_ON = ("before", "after")
"""The images that footprints may have been drawn on."""

_VERSIONS = ("aftermap", "torch", "dask", "zarr", "rasterio", "numpy")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One assessment as asked for; the names are those of the command line."""

    pre: Source | None = None
    post: Source
    out: Path = Path("run")
    method: str = DEFAULT
    weights: Path | None = None
    ensemble: Sequence[Path] = ()
    """Further weights of the method, whose probabilities are averaged with those of `weights`."""
    views: int = 1
    """Ways in which every window is turned: 1, 4 (flips) or 8 (quarter turns too)."""
    footprints: Path | None = None
    footprints_on: str = FOOTPRINTS_ON[0]
    """The image that the footprints were drawn on, "before" or "after"."""
    aoi: Path | None = None
    bbox: tuple[float, float, float, float] | None = None
    grid: str = "post"
    resolution: float | None = None
    bands: Sequence[int] | None = None
    scale: tuple[float, float] | None = None
    crs: str | None = None
    gcps: bool = False
    allow_remote: bool = False
    """Read http and https URLs of images, by range requests."""
    coregister: bool = False
    match_colour: bool = False
    rule: str = RULES[0]
    damage_threshold: float | None = None
    flags: tuple[float, float] = FLAGS
    min_area: float = MIN_AREA_M2
    regularise: bool = False
    chunk: int | None = None
    halo: int | None = None
    overlap: int | None = None
    """Of neighbouring squares that a method scores, px."""
    nms: float = Suppression.overlap
    """What two detections may have in common, as a share of their union."""
    nms_rule: str = Suppression.rule
    gazetteer: Path | None = None
    """File of names that detections get addresses from: an extract of OpenStreetMap, for example."""
    geocoder: str | None = None
    """Service on the network that is asked for them instead; see Geocoder."""
    cluster: str | Client = "auto"
    workers: int | None = None
    memory: str | int | None = None
    device: str = "auto"
    precision: str = "auto"
    compiled: bool = False
    """Let `torch.compile` rewrite the network."""
    hash_inputs: bool = False
    """Record the SHA-256 of whole input files too."""
    fresh: bool = False
    scene: str | None = None
    """What the ids of its detected buildings start with; the after image's name by default."""

    def __post_init__(self) -> None:
        for name in ("out", "weights", "footprints", "aoi", "gazetteer"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Path(value))
        object.__setattr__(self, "ensemble", tuple(map(Path, self.ensemble or ())))


@dataclass(frozen=True)
class Prepared:
    """A request that passed every check."""

    request: Request
    kernel: Kernel
    pair: Pair
    budget: Budget
    footprints: FootprintFile | None
    shifts: ShiftField | None
    """How far the before image lies from the after image; None without a before image."""
    rules: Rules
    """How pixels become buildings and classes."""

    @property
    def suppression(self) -> Suppression:
        """How squares become detections."""
        return Suppression(self.request.nms, self.request.nms_rule)

    @property
    def shift(self) -> Shift | None:
        """The one shift of the whole pair; None without a before image."""
        return None if self.shifts is None else self.shifts.whole

    @property
    def footprint_shifts(self) -> ShiftField | None:
        """By what supplied footprints are moved; None where they lie on the after image.

        The shift was measured between the images as they came, and footprints drawn on the before
        image are off by just that. `--coregister` moves the pixels of the before image, not the
        footprints, so that they have as far to go with it as without it.
        """
        return None if self.request.footprints_on == "after" else self.shifts

    def facts(self) -> dict[str, object]:
        """What makes this run this run: two runs with the same facts have the same outputs.

        The chunk size and the cluster are left out: they change no bit.
        """
        kernel = {k: v for k, v in self.kernel.facts().items() if k not in PATHS}
        request, pair = self.request, self.pair
        return {
            "aftermap": version("aftermap"),
            "inputs": self.inputs(),
            # Beside the file itself: a world file or --crs may have placed it.
            "placement": {
                f"{role} {n}": _placement(raster)
                for role, scene in self._scenes().items()
                for n, raster in enumerate(scene.rasters)
            },
            "method": kernel,
            "window": {"core_px": self.kernel.window.core, "halo_px": self.kernel.window.halo},
            "grid": {
                "crs": pair.grid.crs.to_wkt(),
                "transform": list(pair.grid.affine)[:6],
                "shape": list(pair.grid.shape),
                "region": list(self.budget.plan.region),
            },
            "area": None if pair.area is None else shapely.to_wkt(pair.area, rounding_precision=9),
            "options": {
                "scale": request.scale,
                "coregister": request.coregister,
                "match_colour": request.match_colour,
                "footprints_on": request.footprints_on,
                "min_area_m2": self.rules.min_area_m2,
                "regularise": self.rules.regularise,
                **({} if request.scene is None else {"scene": request.scene}),
                **({"nms": [request.nms, request.nms_rule]} if self.kernel.window.scan else {}),
                **({} if request.geocoder is None else {"geocoder": request.geocoder}),
                **self.rules.verdict.facts(),
            },
        }

    def notes(self) -> list[str]:
        """What the user should know before trusting the result."""
        notes = [n for scene in self.pair.images for raster in scene.rasters for n in raster.notes]
        shift = self.shift
        if shift and shift.confidence and shift.length_px > LARGE and not self.request.coregister:
            notes.append(
                f"before and after are {shift.length_px:.1f} px apart; --coregister corrects that"
            )
        moved = self.footprint_shifts
        if (
            self.footprints
            and moved
            and moved.whole.confidence >= SURE
            and moved.whole.length_px > 1
        ):
            metres = math.hypot(moved.whole.x_m, moved.whole.y_m)
            notes.append(
                f"footprints are moved by the shift measured around each, {metres:.1f} m over all, "
                "onto the after image; --footprints-on after leaves them where they are"
            )
        return notes

    def inputs(self) -> dict[str, list[dict[str, object]]]:
        """The files of each input with their fingerprints."""
        return {role: [fingerprint_input(file) for file in files] for role, files in self._files()}

    def digests(self) -> dict[str, str]:
        """The SHA-256 of every whole input file, where asked for; not compared on resuming."""
        if not self.request.hash_inputs:
            return {}
        files = [file for _, files in self._files() for file in files]
        return {str(part): sha256_file(part) for file in files for part in (file, *beside(file))}

    def _scenes(self) -> dict[str, Scene]:
        before = {"pre": self.pair.pre} if self.pair.pre else {}
        return {**before, "post": self.pair.post}

    def _files(self) -> list[tuple[str, Sequence[Path | RemoteFile]]]:
        files: list[tuple[str, Sequence[Path | RemoteFile]]] = [
            (role, [raster.remote or Path(raster.path) for raster in scene.rasters])
            for role, scene in self._scenes().items()
        ]
        for role in ("footprints", "gazetteer"):
            if (file := getattr(self.request, role)) is not None:
                files.append((role, parts_of(file)))
        return files


def prepare(request: Request, probe: bool = True) -> Prepared:
    """Check a request from end to end: method, images, grid, area, footprints, plan.

    What a method learns from the whole scene (the shift of the images, their colours, a
    threshold) is measured here, on tiles spread over it; it is deterministic, so that a resumed
    run measures the same again. Writes nothing. `probe` measures the time of one window for the estimate. Raises UsageError,
    Refused or NothingToAnalyse in words.
    """
    check_cluster(request.cluster, request.workers)
    kernel = kernel_of(request)
    _check_images(request, kernel)
    _check_detections(request, kernel)
    rules = rules_of(request, kernel)
    pair = make_pair(
        request.pre if "pre" in kernel.inputs else None,
        request.post,
        grid=request.grid,
        resolution=request.resolution,
        bbox=request.bbox,
        aoi=request.aoi,
        bands=request.bands,
        scale=request.scale,
        crs=request.crs,
        gcps=request.gcps,
        allow_remote=request.allow_remote,
    )
    _check_pixels(pair, kernel)
    check_resolution(kernel, pair.grid)
    region = region_of(pair.grid, pair.area)
    _check_something_valid(pair, Plan.of(pair.grid.shape, kernel.window, CHECKED, region))
    pair, shifts = _adjusted(pair, request)
    kernel = kernel.fitted(pair)
    workers = worker_count(request.cluster, request.workers, kernel.device_bytes)
    budget = make_budget(
        kernel,
        (pair.grid.shape[0], pair.grid.shape[1]),
        region,
        workers,
        worker_memory(request.memory, workers),
        request.chunk,
        request.out,
        probe,
        worker_threads(request.cluster),
    )
    footprints = None
    if request.footprints is not None:
        row0, col0, row1, col1 = budget.plan.region
        region_grid = pair.grid[row0:row1, col0:col1]
        footprints = open_footprints(request.footprints, region_grid, pair.area)
    return Prepared(request, kernel, pair, budget, footprints, shifts, rules)


def kernel_of(request: Request) -> Kernel:
    """The method asked for with its options, not fitted to a scene."""
    asked = {
        "precision": (request.precision, "auto"),
        "halo": (request.halo, None),
        "overlap": (request.overlap, None),
        "compiled": (request.compiled, False),
        "ensemble": (request.ensemble, ()),
        "views": (request.views, 1),
    }
    options = {name: value for name, (value, plain) in asked.items() if value != plain}
    return load_method(request.method, request.weights, _device(request), **options)


def plan(pre: Source | None, post: Source, **options: Any) -> Budget:
    """What assessing a pair would cost: chunks, memory, disk and time; nothing is written.

    `options` are those of `Request`. Raises what `prepare` raises.
    """
    return prepare(Request(pre=pre, post=post, **options)).budget


def versions() -> dict[str, str]:
    """The versions that a run was made with."""
    return {"python": platform.python_version()} | {name: version(name) for name in _VERSIONS}


def _device(request: Request) -> str:
    """The device asked for; "local" is the cores where nothing else is said."""
    cluster = request.cluster
    if request.device == "auto" and cluster == "local":
        return "cpu"
    if request.device == "cuda" and not (isinstance(cluster, str) and cluster in HERE):
        return "elsewhere"
    return request.device


def _check_images(request: Request, kernel: Kernel) -> None:
    if "pre" in kernel.inputs and request.pre is None:
        raise Refused(
            f"{kernel.method} compares a before and an after image, and only one image was given. "
            f"Give both: aftermap assess PRE POST -o RUN, or choose a method that looks at the after "
            f"image alone ({', '.join(SCANNED)}) with --method."
        )


def _check_detections(request: Request, kernel: Kernel) -> None:
    """Refuse what says how squares become detections where it cannot be, or means nothing."""
    Suppression(request.nms, request.nms_rule)
    given = [name for name in ("gazetteer", "geocoder") if getattr(request, name) is not None]
    if given and LAYER not in [layer.name for layer in kernel.layers]:
        raise UsageError(
            f"--{given[0]} gives addresses to squares that were scored; {kernel.method} makes none. "
            f"Leave it out."
        )
    if len(given) > 1:
        raise UsageError("Addresses come from --gazetteer or from --geocoder. Give one of them.")
    if request.geocoder is not None:
        Geocoder.of(request.geocoder)
    if request.gazetteer is not None:
        check_vector_file(request.gazetteer, "gazetteer", "--gazetteer")


def rules_of(request: Request, kernel: Kernel) -> Rules:
    """How this method's pixels become classes, as asked for; refused where that cannot be."""
    if request.footprints_on not in FOOTPRINTS_ON:
        raise UsageError(
            f"Footprints are drawn on the {' or the '.join(FOOTPRINTS_ON)} image, not on "
            f"{request.footprints_on!r}. Check --footprints-on."
        )
    verdict = Verdict(request.rule, request.damage_threshold, request.flags)
    graded = kernel.threshold is None
    verdict.check(kernel.method, graded, [layer.name for layer in kernel.layers])
    least = kernel.threshold or 0.5
    known = kernel.facts().get("temperatures", ())
    temperatures = tuple(float(value) for value in known)  # type: ignore[attr-defined]
    intact = "building_probability" in [layer.name for layer in kernel.layers]
    return Rules(graded, least, request.min_area, request.regularise, verdict, temperatures, intact)


def _check_pixels(pair: Pair, kernel: Kernel) -> None:
    for scene in pair.images:
        raster = scene.rasters[0]
        if scene.count != kernel.bands:
            raise Refused(
                f"{kernel.method} reads {kernel.bands} bands, and {scene.count} were chosen of "
                f"{raster.path}. Name {kernel.bands} with --bands."
            )
        if scene.dtype != "uint8":
            raise Refused(
                f"{raster.path} holds {raster.dtype} values, and {kernel.method} reads 0-255. Say "
                "which values are black and white with --scale LOW HIGH, for example --scale 0 2047."
            )


def _placement(raster: Raster) -> dict[str, object]:
    """Where and how a file is read, as far as its bytes do not say so."""
    return {
        "crs": CRS.from_wkt(raster.crs).to_string(),
        "transform": list(raster.transform)[:6],
        "bands": list(raster.bands),
        "nodata": raster.nodata,
        "gcps": raster.gcps,
    }


def _adjusted(pair: Pair, request: Request) -> tuple[Pair, ShiftField | None]:
    """Measure the shift between the images, and correct it and the colours where asked."""
    shifts = ShiftField.of(measure_tiles(pair), pair.grid) if pair.pre is not None else None
    if request.coregister and shifts is not None:
        pair = replace(pair, shift=(shifts.whole.rows_px, shifts.whole.cols_px))
    return (match_colour(pair) if request.match_colour else pair), shifts


def _found(pair: Pair, region: tuple[int, int, int, int]) -> bool:
    """Whether any of nine small windows holds a valid pixel: an overview decodes a whole image."""
    row0, col0, row1, col1 = region
    for i, j in product((1, 2, 3), repeat=2):
        row, col = row0 + (row1 - row0) * i // 4, col0 + (col1 - col0) * j // 4
        with suppress(ReadError):
            if pair.read(row, col, min(row + 64, row1), min(col + 64, col1)).valid.any():
                return True
    return False


def _check_something_valid(pair: Pair, plan: Plan) -> None:
    """Refuse a scene without a single valid pixel; an overview settles it for all but odd scenes."""
    if _found(pair, plan.region) or pair.overview(1024, plan.region).valid.any():
        return
    for chunk in plan:
        try:
            if pair.read(chunk.row0, chunk.col0, chunk.row1, chunk.col1).valid.any():
                return
        except ReadError:
            return
    raise NothingToAnalyse(
        "No pixel can be analysed: every pixel of "
        f"{' or '.join(scene.name for scene in pair.images)} is nodata in the area asked for. "
        "Check the images' nodata values and masks, and --bbox and --aoi."
    )
