"""What was asked for, by the names of the command line, and the method and images that it names."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from distributed import Client

from ..kernels.buildings import MIN_AREA_M2, Rules
from ..kernels.detections import LAYER, Suppression
from ..kernels.kernel import Kernel
from ..kernels.methods import DEFAULT, load_method, meaningless
from ..kernels.verdict import FLAGS, RULES, Verdict
from ..scenes.errors import UsageError
from ..scenes.pair import Pair, Source, make_pair
from .client import HERE

FROM_SCRATCH = (
    "teacher and student both began at random with it, paper 000's weaker setting; --teacher FILE "
    "takes one that was trained on many images"
)
"""What a fit without a teacher is."""


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
    fit: str | None = None
    """"before": weights of deep-disaster that are trained on the before image of this scene; see `fit`."""
    teacher: Path | None = None
    """Weights of the teacher that is then learnt from; None: one is trained on the same image."""
    contamination: float = 0.05
    """Share of the squares before the event that may seem damaged."""
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
        for name in ("out", "weights", "teacher", "footprints", "aoi", "gazetteer"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Path(value))
        object.__setattr__(self, "ensemble", tuple(map(Path, self.ensemble or ())))


def pair_of(request: Request, both: bool = True) -> Pair:
    """The images of a request on its grid; the after image alone unless `both` are needed."""
    return make_pair(
        request.pre if both else None,
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


def rules_of(request: Request, kernel: Kernel) -> Rules:
    """How this method's pixels become classes, as asked for; refused where that cannot be.

    UsageError also for an option of any kind that says nothing to the method.
    """
    _check_meaning(request, kernel)
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


def _check_meaning(request: Request, kernel: Kernel) -> None:
    """UsageError for the first option that was asked for and would be passed over."""
    for option, why in _unheard(request, kernel).items():
        if getattr(request, option) != Request.__dataclass_fields__[option].default:
            raise meaningless(option, kernel.method, why)


def _unheard(request: Request, kernel: Kernel) -> dict[str, str]:
    """Options that say nothing to a method on these inputs, each with the reason."""
    choosing, outlining = ("nms", "nms_rule", "gazetteer", "geocoder"), ("min_area", "regularise")
    given = request.footprints is not None
    unheard: dict[str, str] = {}
    if "pre" not in kernel.inputs:
        alone = "it looks at the after image alone"
        unheard |= dict.fromkeys(("coregister", "match_colour", "footprints_on"), alone)
    if kernel.window.scan and not given:
        why = "without --footprints it finds damage, and no buildings that have a class"
        unheard |= dict.fromkeys(("rule", "damage_threshold"), why)
    if LAYER not in [layer.name for layer in kernel.layers]:
        unheard |= dict.fromkeys(choosing, "it chooses no detections among scored squares")
    elif given:
        why = "footprints get a class each, and are drawn as they are"
        unheard |= dict.fromkeys((*choosing, *outlining), why)
    else:
        unheard |= dict.fromkeys(outlining, "its detections are whole squares")
    return unheard
