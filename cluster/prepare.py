"""A request that passed every check and can run; nothing is computed yet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import shapely
from rasterio import CRS

from ..kernels.buildings import Rules
from ..kernels.detections import Suppression
from ..kernels.kernel import PATHS, Kernel
from ..kernels.methods import SCANNED, check_resolution
from ..scenes.align import LARGE, Shift, measure_tiles
from ..scenes.errors import NothingToAnalyse, Refused, UsageError
from ..scenes.footprints import FootprintFile, open_footprints
from ..scenes.gazetteer import check_gazetteer
from ..scenes.geocoder import Geocoder
from ..scenes.grid import region_of
from ..scenes.handles import beside
from ..scenes.pair import Pair, Source, match_colour
from ..scenes.plan import Plan
from ..scenes.raster import Raster
from ..scenes.remote import RemoteFile
from ..scenes.scene import ReadError, Scene
from ..scenes.shift_field import SURE, ShiftField
from .budget import Budget, make_budget
from .client import check_cluster, worker_count, worker_threads
from .fingerprint import fingerprint_input, parts_of, sha256_file
from .fit import Lessons, fit_facts, foreseen, planned
from .machine import worker_memory
from .request import FROM_SCRATCH, Request, kernel_of, pair_of, rules_of

CHECKED = 2048
"""Side of the pieces in which a scene is searched for a valid pixel, px."""

FINISH = ("inputs.gazetteer", "options.geocoder", "options.nms")
"""Facts that decide which squares are told and their addresses, but no layer: where they change, the
chunks are kept and the results are written anew."""

LEARNT = ("weights_sha256", "network_options")
"""Facts of a method that a fit decides: they follow from what it learns from."""


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
    lessons: Lessons | None = None
    """What the training of weights will take, where there is one and it was asked for."""

    def to_dict(self) -> dict[str, object]:
        """The plan as plain values, for --json."""
        lessons = {} if self.lessons is None else {"training": asdict(self.lessons)}
        return self.budget.to_dict() | lessons

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

    @property
    def method(self) -> dict[str, object]:
        """What of the method is part of the run: all but where its files lie."""
        return {k: v for k, v in self.kernel.facts().items() if k not in PATHS}

    def fitted(self, weights: Path) -> Prepared:
        """With weights that were trained for it."""
        request = replace(self.request, weights=weights)
        return replace(self, request=request, kernel=kernel_of(request))

    def facts(self) -> dict[str, object]:
        """What makes this run this run: what a run that goes on is compared with.

        The chunk size and the cluster are left out: they change no bit. Of weights that are fitted
        to the scene it is told what they learn from, as they are not there yet.
        """
        request, pair, method = self.request, self.pair, self.method
        if request.fit is not None:
            method = {k: v for k, v in method.items() if k not in LEARNT}
        return {
            "aftermap": version("aftermap"),
            "inputs": self.inputs(),
            # Beside the file itself: a world file or --crs may have placed it.
            "placement": {
                f"{role} {n}": _placement(raster)
                for role, scene in self._scenes().items()
                for n, raster in enumerate(scene.rasters)
            },
            "method": method,
            **({} if request.fit is None else {"fit": _lessons_from(request)}),
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
        if self.request.fit is not None:
            how = "a given teacher" if self.request.teacher is not None else FROM_SCRATCH
            notes.append(f"fitted to the before image, which counts as undamaged: {how}")
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
            (role, list(map(_file, scene.rasters))) for role, scene in self._scenes().items()
        ]
        for role in ("footprints", "gazetteer"):
            if (file := getattr(self.request, role)) is not None:
                files.append((role, parts_of(file)))
        return files


def prepare(request: Request, probe: bool = True) -> Prepared:
    """Check a request from end to end: method, images, grid, area, footprints, plan.

    What a method learns from the whole scene (the shift of the images, their colours, a
    threshold) is measured here, on tiles spread over it; it is deterministic, so that a resumed
    run measures the same again. Weights that are to be fitted to the scene are random ones for now:
    see `Prepared.fitted`. Writes nothing. `probe` measures the time of one window for the estimate.
    Raises UsageError, Refused or NothingToAnalyse in words.
    """
    check_cluster(request.cluster, request.workers)
    with planned(request) as asked:
        prepared = replace(_checked(asked, probe), request=request)
    return replace(prepared, lessons=foreseen(request)) if probe else prepared


def _checked(request: Request, probe: bool) -> Prepared:
    kernel = kernel_of(request)
    _check_images(request, kernel)
    rules = rules_of(request, kernel)
    _check_detections(request)
    pair = pair_of(request, "pre" in kernel.inputs)
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


def plan(pre: Source | None, post: Source, **options: Any) -> Budget:
    """What assessing a pair would cost: chunks, memory, disk and time; nothing is written.

    `options` are those of `Request`. Raises what `prepare` raises.
    """
    return prepare(Request(pre=pre, post=post, **options)).budget


def _check_images(request: Request, kernel: Kernel) -> None:
    if "pre" in kernel.inputs and request.pre is None:
        raise Refused(
            f"{kernel.method} compares a before and an after image, and only one image was given. "
            f"Give both: aftermap assess PRE POST -o RUN, or choose a method that looks at the after "
            f"image alone ({', '.join(SCANNED)}) with --method."
        )


def _check_detections(request: Request) -> None:
    """Refuse what says how squares become detections where it cannot be."""
    Suppression(request.nms, request.nms_rule)
    if request.gazetteer is not None and request.geocoder is not None:
        raise UsageError("Addresses come from --gazetteer or from --geocoder. Give one of them.")
    if request.geocoder is not None:
        Geocoder.of(request.geocoder)
    if request.gazetteer is not None:
        check_gazetteer(request.gazetteer)


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


def _lessons_from(request: Request) -> dict[str, object]:
    """What decides the weights of a fit: the before image, which the method itself does not see."""
    scene = pair_of(request).pre
    rasters = () if scene is None else scene.rasters
    return fit_facts(request) | {
        "files": [fingerprint_input(_file(raster)) for raster in rasters],
        "placement": [_placement(raster) for raster in rasters],
    }


def _file(raster: Raster) -> Path | RemoteFile:
    return raster.remote or Path(raster.path)


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
