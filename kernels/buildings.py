"""From counts to the table of buildings: one damage class, its probabilities, and its area.

The damage class of a building is 255 where less than half of it could be analysed, whatever the
rule; else a `Verdict` decides. By default that is the commonest level among the pixels of a
building, the worse one on a tie, and with a binary method whether the mean damage probability
reaches the threshold, so that the class follows from `damage_score` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer

from ..models.calibration import tempered
from ..scenes.errors import UsageError
from ..scenes.grid import pixel_metres
from ..scenes.layer import FULL, NOT_ANALYSED
from ..scenes.legend import LEVELS, UNGRADED
from ..scenes.plan import Plan
from .regularise import regularise
from .stitch import Components
from .tally import CODES, columns
from .verdict import LEVEL_LAYERS, Verdict, level_sums

LEAST_VALID = 0.5
"""Below this valid share a building counts as not analysed."""

MIN_AREA_M2 = 15.0
"""Detected components smaller than this are left out, unless another area is asked for."""

_DECIMALS = 4
_TEXT = ("pre_image", "post_image", "pre_date", "post_date", "method", "weights_sha256", "run_id")
_NUMBERS = ("shift_x_m", "shift_y_m", "align_conf", "gsd_m")
FLAG_COLUMNS = ("likely_damaged", "possibly_damaged")
"""True, false, or nothing where a building was not analysed."""

_MEASURES = (
    "damage_class",
    *LEVEL_LAYERS,
    "damage_score",
    "damage_frac",
    "valid_frac",
    "shift_x_m",
    "shift_y_m",
    "align_conf",
    "pre_image",
    "post_image",
    "pre_date",
    "post_date",
    "gsd_m",
    "method",
    "weights_sha256",
    "run_id",
    "det_method",
    "area_m2",
    *FLAG_COLUMNS,
    "geometry",
)

BUILDING_COLUMNS = ("building_id", "source_id", "footprint_source", *_MEASURES)
"""The columns of the buildings table, in order."""

AREA_COLUMNS = ("area_id", *_MEASURES)
"""The columns of the table of damage areas that a binary method finds without footprints."""


@dataclass(frozen=True)
class Origin:
    """What every row of a run has in common; None where it is not known."""

    method: str
    weights_sha256: str | None
    run_id: str
    pre_image: str | None
    post_image: str
    pre_date: str | None
    post_date: str | None
    gsd_m: float
    shift_x_m: float | None
    shift_y_m: float | None
    align_conf: float | None


@dataclass(frozen=True)
class Rules:
    """How counts become classes."""

    graded: bool
    """Whether the method tells the four levels apart."""
    threshold: float
    """Damage probability from which a binary method says damaged."""
    min_area_m2: float = MIN_AREA_M2
    """Detected components smaller than this are left out; 0 keeps all."""
    regularise: bool = False
    """Whether the outlines of detected buildings are made right-angled."""
    verdict: Verdict = field(default_factory=Verdict)
    """How a building's pixels become its class and flags."""
    temperatures: tuple[float, ...] = ()
    """Of the method's calibration, from its card; empty for none."""
    intact: bool = False
    """Whether a binary method sees undamaged buildings too, as code 1."""

    @property
    def finds_buildings(self) -> bool:
        """Whether components of the class raster are buildings, and not areas of damage."""
        return self.graded or self.intact

    @property
    def codes(self) -> tuple[int, ...]:
        """The damage codes whose pixels make up components."""
        if self.graded:
            return LEVELS
        return (LEVELS[0], UNGRADED) if self.intact else (UNGRADED,)

    def __post_init__(self) -> None:
        if not 0 <= self.min_area_m2 < np.inf:
            raise UsageError(
                f"--min-area {self.min_area_m2:g} is not an area in m2; give 0 or more."
            )


def supplied(
    frame: gpd.GeoDataFrame,
    counts: np.ndarray,
    layers: Sequence[str],
    rules: Rules,
    origin: Origin,
    footprint_source: str,
) -> gpd.GeoDataFrame:
    """The buildings table of supplied footprints.

    `frame` holds `position`, `source_id` and `geometry`, and `shift_x_m`, `shift_y_m` and
    `align_conf` where the shift at each footprint is known; `counts` are the matching rows of a
    tally. Sorted by position in the source. The geometry is the source's own, moved or not: the
    table joins with it, and the shift says where a footprint was looked for.
    """
    table = _measured(counts, layers, rules)
    table["damage_class"] = _classes(counts, layers, rules, table)
    table["building_id"] = frame["position"].astype(str).to_numpy()
    table["source_id"] = frame["source_id"].to_numpy()
    table["footprint_source"] = footprint_source
    table["det_method"] = _supplied_how(counts, layers, rules)
    for name in frame.columns.intersection(_NUMBERS):
        table[name] = frame[name].to_numpy()
    geometry = _multi(frame.geometry.to_numpy())
    table["area_m2"] = np.round(geodesic_area(geometry, frame.crs), 2)
    placed = completed(table, geometry, frame.crs, origin, rules, BUILDING_COLUMNS)
    return placed.iloc[np.argsort(frame["position"].to_numpy(), kind="stable")].reset_index(
        drop=True
    )


def detected(
    components: Components,
    layers: Sequence[str],
    rules: Rules,
    origin: Origin,
    grid: GeoBox,
    plan: Plan,
    scene_prefix: str,
) -> gpd.GeoDataFrame:
    """The buildings table, or for a method that finds none that of damage areas, of components.

    `grid` is the georeference of the plan's region. Sorted by first pixel; components whose pixels
    cover less than the minimum area are left out. Their area is that of the geometry written.
    """
    order = np.argsort(components.first, kind="stable")
    crs = grid.crs.to_wkt()
    geometry = to_map(components.geometry[order], grid, plan)
    area = np.round(geodesic_area(geometry, crs), 2)
    large = area >= rules.min_area_m2
    order, geometry, area = order[large], geometry[large], area[large]
    if rules.regularise:
        # Which buildings there are is settled by what was found, not by how it is drawn.
        height, width = pixel_metres(grid)
        squared = regularise(components.geometry[order], round(width / height, 2))
        geometry = to_map(squared, grid, plan)
        area = np.round(geodesic_area(geometry, crs), 2)
    counts = components.counts[order]
    table = _measured(counts, layers, rules)
    # An area consists of damaged pixels: there is nothing left to decide.
    buildings = rules.finds_buildings
    table["damage_class"] = _classes(counts, layers, rules, table) if buildings else UNGRADED
    row, col = np.divmod(components.first[order], plan.shape[1])
    ids = [f"{scene_prefix}-r{r}c{c}" for r, c in zip(row.tolist(), col.tolist(), strict=True)]
    wanted = BUILDING_COLUMNS if buildings else AREA_COLUMNS
    table[wanted[0]] = pd.Series(ids, dtype="str")
    table["source_id"] = None
    table["footprint_source"] = "detected"
    table["det_method"] = f"components of {_named(rules.codes)}"
    table["area_m2"] = area
    return completed(table, geometry, crs, origin, rules, wanted)


def empty_table(wanted: Sequence[str], crs: object) -> gpd.GeoDataFrame:
    """A table without rows, with the columns and types of a full one."""
    kinds = dict.fromkeys(wanted, "str") | dict.fromkeys(("lon", "lat"), "float64")
    kinds |= dict.fromkeys((*LEVEL_LAYERS, "damage_score", "damage_frac", "valid_frac"), "float64")
    kinds |= dict.fromkeys((*_NUMBERS, "area_m2"), "float64")
    kinds |= dict.fromkeys(FLAG_COLUMNS, "boolean")
    kinds["damage_class"] = "int16"
    plain = {name: pd.Series([], dtype=kinds[name]) for name in wanted if name != "geometry"}
    return gpd.GeoDataFrame(plain, geometry=gpd.GeoSeries([], crs=crs))[list(wanted)]


def geodesic_area(geometry: np.ndarray, crs: object) -> np.ndarray:
    """Areas of polygons and multipolygons on the WGS 84 ellipsoid, m2, holes subtracted."""
    if not len(geometry):
        return np.zeros(0)
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    parts, owner = shapely.get_parts(geometry, return_index=True)
    _, xy, (ring_ends, part_ends) = shapely.to_ragged_array(parts)
    lon, lat = to_degrees.transform(xy[:, 0], xy[:, 1])
    geod = Geod(ellps="WGS84")
    ends = ring_ends.tolist()
    rings = np.array(
        [abs(geod.polygon_area_perimeter(lon[a:b], lat[a:b])[0]) for a, b in pairwise(ends)]
    )
    # The first ring of each part is its outline; the others are holes.
    sign = np.full(len(rings), -1.0)
    sign[part_ends[:-1]] = 1.0
    ring_owner = np.repeat(owner, np.diff(part_ends))
    return np.bincount(ring_owner, weights=sign * rings, minlength=len(geometry))


def to_map(geometry: np.ndarray, grid: GeoBox, plan: Plan) -> np.ndarray:
    """Outlines from pixel coordinates of the full raster to the grid's CRS."""
    affine = grid.affine
    corner = np.array([plan.region[1], plan.region[0]])
    turn = np.array([[affine.a, affine.d], [affine.b, affine.e]])
    moved = shapely.transform(geometry, lambda xy: (xy - corner) @ turn + (affine.c, affine.f))
    return shapely.normalize(moved)


def _measured(counts: np.ndarray, layers: Sequence[str], rules: Rules) -> pd.DataFrame:
    """Shares and mean probabilities from counts; NaN where there is nothing to divide by."""
    at = {name: k for k, name in enumerate(columns(layers))}
    every = counts[:, : len(CODES)].sum(axis=1)
    valid = every - counts[:, at[f"code_{NOT_ANALYSED}"]]
    damaged = counts[:, [at[f"code_{code}"] for code in (2, 3, 4, UNGRADED)]].sum(axis=1)
    table = pd.DataFrame(index=range(len(counts)))
    table["valid_frac"] = _ratio(valid, every)
    table["damage_frac"] = _ratio(damaged, valid)
    table["damage_score"] = np.nan
    if "damage_probability" in layers:
        total = counts[:, at["sum_damage_probability"]]
        table["damage_score"] = _ratio(total, counts[:, at["n_damage_probability"]] * FULL)
    likely = _level_shares(counts, layers, rules.temperatures) if rules.graded else None
    for k, name in enumerate(LEVEL_LAYERS):
        table[name] = np.nan if likely is None else np.round(likely[:, k], _DECIMALS)
    if rules.temperatures:
        table["damage_score"] = _calibrated_score(table, counts, layers, rules)
    return table


def _level_shares(
    counts: np.ndarray, layers: Sequence[str], temperatures: Sequence[float]
) -> np.ndarray | None:
    """Mean probabilities of the levels, rows adding up to 1, calibrated; None without layers."""
    sums = level_sums(counts, layers)
    if sums is None:
        return None
    with np.errstate(invalid="ignore"):
        shares = sums / sums.sum(axis=1, keepdims=True)
    return tempered(shares, temperatures) if temperatures else shares


def _calibrated_score(
    table: pd.DataFrame, counts: np.ndarray, layers: Sequence[str], rules: Rules
) -> np.ndarray:
    """The probability of damage after calibration; that there is a building at all is part of it."""
    sums = level_sums(counts, layers) if rules.graded else None
    if sums is not None:
        known = counts[:, columns(layers).index(f"n_{LEVEL_LAYERS[0]}")]
        built = _ratio(sums.sum(axis=1), known * FULL)
        return np.round(built * (1 - table[LEVEL_LAYERS[0]].to_numpy()), _DECIMALS)
    score = table["damage_score"].to_numpy()
    return np.round(
        tempered(np.column_stack([1 - score, score]), rules.temperatures)[:, 1], _DECIMALS
    )


def _classes(
    counts: np.ndarray, layers: Sequence[str], rules: Rules, table: pd.DataFrame
) -> np.ndarray:
    """Damage classes by the rules' verdict, 255 where too little was analysed; int16."""
    damaged = table["damage_frac"].to_numpy()
    if rules.graded:
        likely = _level_shares(counts, layers, rules.temperatures)
        found = rules.verdict.levels(counts, layers, damaged, likely)
    else:
        score = table["damage_score"].to_numpy()
        found = rules.verdict.binary(score, damaged, rules.threshold)
    analysed = table["valid_frac"].to_numpy() >= LEAST_VALID
    return np.where(analysed, found, NOT_ANALYSED).astype(np.int16)


def _named(codes: Sequence[int]) -> str:
    if len(codes) > 2:
        return f"classes {codes[0]}-{codes[-1]}"
    return f"class{'es' if len(codes) > 1 else ''} {' and '.join(map(str, codes))}"


def _supplied_how(counts: np.ndarray, layers: Sequence[str], rules: Rules) -> np.ndarray:
    """Whether the method saw a building where a footprint says that there is one."""
    if not rules.finds_buildings:
        return np.full(len(counts), "supplied", object)
    at = columns(layers)
    seen = counts[:, [at.index(f"code_{code}") for code in rules.codes]].any(axis=1)
    return np.where(seen, "supplied", "supplied, no building seen").astype(object)


def _flag(table: pd.DataFrame, least: float) -> pd.api.extensions.ExtensionArray:
    """Whether buildings score `least` or more; nothing where they were not analysed."""
    score = table["damage_score"].to_numpy()
    unknown = np.isnan(score) | (table["damage_class"].to_numpy() == NOT_ANALYSED)
    return pd.arrays.BooleanArray(np.nan_to_num(score) >= least, unknown)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, rounded for reading; NaN where whole is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, np.round(part / whole, _DECIMALS), np.nan)


def _multi(geometry: np.ndarray) -> np.ndarray:
    """Polygons as multipolygons, so that a table has one geometry type."""
    parts, owner = shapely.get_parts(geometry, return_index=True)
    return shapely.multipolygons(parts, indices=owner)


def completed(
    table: pd.DataFrame,
    geometry: np.ndarray,
    crs: object,
    origin: Origin,
    rules: Rules,
    wanted: Sequence[str],
) -> gpd.GeoDataFrame:
    """A table with what all rows share, flags and geometry added, its columns ordered and typed.

    Columns of `wanted` that the tables of buildings and areas do not know keep their types.
    """
    low, high = rules.verdict.flags
    for name, least in zip(FLAG_COLUMNS, (high, low), strict=True):
        table[name] = _flag(table, least)
    for name in _TEXT:
        table[name] = pd.Series([getattr(origin, name)] * len(table), dtype="str")
    for name in _NUMBERS:
        if name in table:
            continue
        value = getattr(origin, name)
        table[name] = np.nan if value is None else float(value)
    full = gpd.GeoDataFrame(table, geometry=gpd.GeoSeries(list(geometry), crs=crs))[list(wanted)]
    return full.astype(empty_table(wanted, crs).drop(columns="geometry").dtypes.to_dict())
