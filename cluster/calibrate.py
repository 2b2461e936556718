"""Calibration: temperatures for a method's probabilities, from buildings whose damage is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import jinja2
import numpy as np
import pyogrio
import shapely

from ..kernels.buildings import LEVEL_LAYERS
from ..models.calibration import Fit, fit
from ..models.checkpoint import bundled, read_card
from ..scenes.atomic import write_atomically
from ..scenes.errors import Refused
from ..scenes.layer import NOT_ANALYSED
from ..scenes.legend import LEGEND, LEVELS, UNGRADED
from ..scenes.vector_file import check_vector_file, offline
from .finished import Finished, make_folder

SAME = 0.5
"""Intersection over union from which a labelled polygon and a building are the same."""


@dataclass(frozen=True)
class Calibrated:
    """What came out of a calibration."""

    fit: Fit
    labels: int
    """Labels in the file that name a level."""
    weights: Path
    """A copy of the weights whose card holds the temperatures."""
    plot: Path
    """Reliability before and after, SVG."""

    def text(self) -> str:
        """The figures, for the command line."""
        fitted = self.fit
        names = LEVEL_LAYERS if len(fitted.temperatures) == len(LEVEL_LAYERS) else ("no", "yes")
        warmth = ", ".join(
            f"{name} {value:g}" for name, value in zip(names, fitted.temperatures, strict=True)
        )
        return "\n".join(
            [
                f"labels       {self.labels}, of which {fitted.buildings} lie on a building that was "
                "analysed",
                f"temperature  {warmth}",
                f"error (ECE)  {fitted.ece_before:.3f} before, {fitted.ece_after:.3f} after, on "
                "buildings left out of the fit",
                f"likelihood   {fitted.nll_before:.3f} before, {fitted.nll_after:.3f} after (mean "
                "negative logarithm)",
                f"plot         {self.plot}",
                f"weights      {self.weights}",
                f"Use them: aftermap assess PRE POST --weights {self.weights}"
                if fitted.nll_after < fitted.nll_before
                else "It did not help on the buildings left out of the fit: keep the plain weights, or "
                "label more buildings.",
            ]
        )


def calibrate(
    run: str | Path, labels: str | Path, column: str = "damage_class", out: str | Path | None = None
) -> Calibrated:
    """Fit temperatures to a run's buildings and write them into the card of a copy of its weights.

    `labels` is a vector file of polygons (taken for the building with which they overlap by half
    or more) or points (for the building that holds them); `column` names its damage levels: codes
    1-4, or names as in the legend or in xBD. Other values are left out. `out` is a folder, by
    default RUN/calibrated. Raises Refused for labels that cannot be used, and for runs without
    weights or whose weights are calibrated already.
    """
    done = Finished.open(run)
    method = done.record["method"]
    weights = _weights(done.path, method)
    if not done.has_buildings:
        raise Refused(f"{done.path} has no buildings. Assess again with --footprints.")
    frame, codes = _labels(Path(labels), column)
    probabilities, truth = _matched(done, frame, codes)
    fitted = fit(probabilities, truth)
    folder = Path(out) if out is not None else done.path / "calibrated"
    make_folder(folder)
    card = dataclasses.replace(
        read_card(weights),
        temperatures=fitted.temperatures,
        calibration={
            "buildings": float(fitted.buildings),
            "ece_before": round(fitted.ece_before, 5),
            "ece_after": round(fitted.ece_after, 5),
        },
    )
    copy, plot = folder / weights.name, folder / "reliability.svg"
    write_atomically(copy, weights.read_bytes())
    write_atomically(copy.with_suffix(".json"), card.to_json().encode())
    write_atomically(plot, _plot(fitted).encode())
    return Calibrated(fitted, len(codes), copy, plot)


def _weights(path: Path, method: dict[str, object]) -> Path:
    """The file that a run's network was loaded from."""
    if not method.get("weights_sha256"):
        raise Refused(
            f"{path} was made by {method['method']}, which has no weights whose card could hold "
            "temperatures. Give a run of a network."
        )
    if method.get("temperatures"):
        raise Refused(
            f"{path} was made with weights that are calibrated already. Give a run made with the "
            "plain ones."
        )
    candidates = [Path(str(method.get("weights") or "")), bundled(str(method["method"]))]
    for file in candidates:
        there = file is not None and file.is_file()
        if file and there and read_card(file).sha256 == method["weights_sha256"]:
            return file
    raise Refused(
        f"The weights of {path} (SHA-256 {str(method['weights_sha256'])[:12]}...) are no longer at "
        f"{candidates[0]}. Put them back, or run assess again with the weights to calibrate."
    )


def read_labels(path: Path) -> gpd.GeoDataFrame:
    """The features of a label file; raises Refused for one that cannot be read or placed."""
    check_vector_file(path, "label", "--labels")
    try:
        with offline():
            frame = gpd.read_file(path)
    except (pyogrio.errors.DataSourceError, ValueError) as error:
        raise Refused(
            f"The label file {str(path)!r} cannot be read: {error}. Check --labels."
        ) from error
    if not isinstance(frame, gpd.GeoDataFrame) or frame.crs is None:
        raise Refused(f"The label file {str(path)!r} has no geometry with a CRS. Check --labels.")
    return frame


def level_codes(path: Path, frame: gpd.GeoDataFrame, column: str) -> np.ndarray:
    """Damage codes of a label file's features, float (n,): NaN where its column names no level.

    Raises Refused for a file without the column, or where no feature names one.
    """
    if column not in frame.columns:
        found = ", ".join(name for name in frame.columns if name != frame.geometry.name)
        raise Refused(
            f"The label file {str(path)!r} has no column {column!r}; it has {found}. "
            "Name the column of the levels with --column."
        )
    codes = frame[column].map(level_code).to_numpy(dtype=float, na_value=np.nan)
    if not np.isfinite(codes).any():
        seen = ", ".join(repr(value) for value in frame[column].dropna().unique()[:5].tolist())
        raise Refused(
            f"No value of {column!r} in {str(path)!r} is a damage level: found {seen}. Levels are "
            f"{', '.join(map(str, LEVELS))}, or names as in the legend or in xBD."
        )
    return codes


def _labels(path: Path, column: str) -> tuple[gpd.GeoDataFrame, np.ndarray]:
    """The labels that name a level, and their damage codes."""
    frame = read_labels(path)
    frame = frame[frame.geometry.notna() & ~frame.is_empty]
    codes = level_codes(path, frame, column)
    usable = np.isfinite(codes)
    return frame[usable].reset_index(drop=True), codes[usable].astype(int)


def level_code(value: object) -> float:
    """A label's damage code: 1-4 or 5, from a number or a name; NaN for anything else."""
    text = str(value).strip().lower().replace("_", "-")
    names = {
        name.lower(): entry.code
        for entry in LEGEND
        if entry.code in (*LEVELS, UNGRADED)
        # "un-classified" says nothing about damage, though it is what xBD has for "not graded".
        for name in (entry.name, entry.xbd if entry.code in LEVELS else entry.name)
    }
    if text in names:
        return names[text]
    try:
        number = float(text)
    except ValueError:
        return np.nan
    return number if number in (*LEVELS, UNGRADED) else np.nan


def _matched(
    run: Finished, labels: gpd.GeoDataFrame, codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the labelled buildings (n, classes), and the column that is true."""
    found, truth = [], []
    tree: shapely.STRtree | None = None
    for block in run.blocks():
        block = block[block["damage_class"] != NOT_ANALYSED]
        if tree is None:
            labels = labels.to_crs(block.crs)
            tree = shapely.STRtree(labels.geometry.to_numpy())
        rows, at = _pairs(block.geometry.to_numpy(), labels.geometry.to_numpy(), tree)
        score = block["damage_score"].to_numpy()
        p = (
            block[list(LEVEL_LAYERS)].to_numpy()
            if run.graded
            else np.column_stack([1 - score, score])
        )
        found.append(p[rows])
        truth.append(codes[at])
    p, levels = np.concatenate(found), np.concatenate(truth)
    if not run.graded:
        return p, (levels > LEVELS[0]).astype(int)
    kept = levels <= LEVELS[-1]
    return p[kept], levels[kept] - LEVELS[0]


def _pairs(
    buildings: np.ndarray, labels: np.ndarray, tree: shapely.STRtree
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of buildings with the label that is theirs: one each, and none where labels disagree
    about which building they mean."""
    near, at = tree.query(buildings, predicate="intersects")
    if not len(near):
        return near, at
    points = shapely.get_dimensions(labels[at]) == 0
    common = shapely.area(shapely.intersection(buildings[near], labels[at]))
    union = shapely.area(buildings[near]) + shapely.area(labels[at]) - common
    overlap = np.where(points, 1.0, common / np.where(union > 0, union, 1.0))
    order = np.lexsort((at, -overlap))
    order = order[overlap[order] >= SAME]
    _, first = np.unique(near[order], return_index=True)
    chosen = order[np.sort(first)]
    chosen = chosen[np.argsort(near[chosen], kind="stable")]
    return near[chosen], at[chosen]


def _plot(fitted: Fit, side: int = 320) -> str:
    """Accuracy over confidence, before and after, as SVG."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True
    )
    panels: Sequence[tuple[str, object, float]] = (
        ("before", fitted.before, fitted.ece_before),
        ("after, buildings left out of the fit", fitted.after, fitted.ece_after),
    )
    return environment.get_template("reliability.svg.j2").render(
        panels=panels, side=side, buildings=fitted.buildings
    )
