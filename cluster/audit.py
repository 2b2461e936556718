"""The audit: a random sample of buildings for a person to look at, and totals from the answers."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import jinja2
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from shapely import MultiPolygon, affinity

from ..kernels.totals import LEVEL, Stratum, Total, audited
from ..scenes.atomic import write_atomically
from ..scenes.errors import NothingToAnalyse, Refused, UsageError
from ..scenes.grid import gsd
from ..scenes.layer import NOT_ANALYSED
from ..scenes.legend import LEVELS, UNGRADED, entry
from ..scenes.pair import Pair
from ..scenes.vectors import write_csv
from .answers import CANNOT_TELL, choices, meanings, read_answers
from .finished import Finished, make_folder
from .run import Run

_MARGIN_M = 18.0
_LEAST_PX = 64
_SIDE = 420
_FILES = ("checklist.csv", "checklist.html", "sample.json")


@dataclass(frozen=True)
class Sample:
    """What was drawn."""

    run: Path
    folder: Path
    """Holds checklist.csv and .html, the crops, and sample.json, which the answers are held against."""
    sizes: Mapping[int, int]
    """Buildings of the run per class that can be audited."""
    drawn: Mapping[int, int]
    """Buildings drawn per class."""
    graded: bool
    """Whether the run tells levels of damage apart."""

    def text(self) -> str:
        """What to do next, for the command line."""
        rows = [
            f"  {entry(code).name:<28} {self.drawn[code]:>5} of {size:>7}"
            for code, size in self.sizes.items()
        ]
        return "\n".join(
            [
                f"{sum(self.drawn.values())} buildings drawn at random within each class:",
                *rows,
                f"Look at {self.folder / 'checklist.html'}, fill in the answers there (or in the "
                "column `answer` of checklist.csv), and run the command below. Answers are",
                f"  {meanings(self.graded)}.",
                f"  aftermap audit {self.run} --answers {self.folder / 'checklist.csv'}",
            ]
        )


@dataclass(frozen=True)
class Findings:
    """What the answers say about all buildings of the run."""

    totals: pd.DataFrame
    """`kind`, `damage_class`, `called` (by the run), `estimate`, `low`, `high`."""
    answered: int
    unclear: int
    """Answered with "?"; they are left out as if they had not been drawn."""
    agreed: int
    """Answers that agree with the run's class."""
    path: Path
    """The totals as CSV."""

    def text(self) -> str:
        """The figures, for the command line."""
        return "\n".join(
            [
                self.totals.to_string(index=False),
                "",
                f"{self.answered} answers, {self.agreed} of them as the run has it; "
                f"{self.unclear} could not be told.",
                f"low and high are {LEVEL:.0%} intervals. They speak of the buildings that the run "
                "lists and could see; what it did not list is not in them.",
                f"totals     {self.path}",
            ]
        )


def draw(run: str | Path, count: int = 50, seed: int = 0, out: str | Path | None = None) -> Sample:
    """Draw buildings of a run at random and write a checklist with a picture of each.

    Half of the `count` is shared out evenly over the classes and half by their size. Which
    buildings are drawn follows from `seed` and their ids alone. The checklist does not say what
    the run made of a building, so that nobody is led. `out` is a folder, by default RUN/audit.
    Raises Refused if there is a checklist already, UsageError for a count that is not positive,
    and NothingToAnalyse for a run without buildings.
    """
    if count < 1:
        raise UsageError(f"-n must be positive; got {count}.")
    done = Finished.open(run)
    folder = Path(out) if out is not None else done.path / "audit"
    if any((folder / name).exists() for name in _FILES):
        raise Refused(
            f"{folder} holds a checklist already, perhaps with answers. Give another folder with "
            "-o, or remove it."
        )
    sizes = {code: done.counts[code] for code in sorted(done.counts) if code != NOT_ANALYSED}
    if not (done.has_buildings and sizes):
        raise NothingToAnalyse(f"{done.path} lists no building that was analysed.")
    shares = allotted(sizes, count)
    chosen = _chosen(done, shares, seed)
    pair = Run(done.path).pair()
    make_folder(folder / "crops")
    cards = []
    for number, row in enumerate(chosen.itertuples(), start=1):
        name = f"crops/{number:04d}.jpg"
        _crop(pair, row.geometry, folder / name)
        cards.append({"number": number, "id": row.building_id, "crop": name})
    record = {
        "run_id": done.run_id,
        "graded": done.graded,
        "sizes": sizes,
        "called": dict(zip(chosen["building_id"], chosen["damage_class"].tolist(), strict=True)),
    }
    write_atomically(folder / "sample.json", json.dumps(record, indent=1).encode())
    write_csv(folder / "checklist.csv", _checklist(chosen, cards, done.run_id))
    page = _template().render(
        cards=cards, choices=choices(done.graded), run=done.path.name, run_id=done.run_id
    )
    write_atomically(folder / "checklist.html", page.encode())
    return Sample(done.path, folder, sizes, shares, done.graded)


def conclude(run: str | Path, answers: str | Path) -> Findings:
    """Corrected totals per class, with intervals, from the filled-in answers of a checklist.

    `answers` is a filled-in checklist.csv; the sample that it belongs to lies beside it or in
    RUN/audit. An answer is 0 (no building there), a damage code, or "?"; rows without one are left
    out. Writes totals.csv beside the sample. Raises Refused for answers of another run or that
    cannot be read.
    """
    done, path = Finished.open(run), Path(answers)
    places = (path.parent, done.path / "audit")
    found = (folder / "sample.json" for folder in places)
    sample = next((file for file in found if file.exists()), None)
    if sample is None:
        raise Refused(
            f"No sample that {str(path)!r} could answer lies beside it or in {places[1]}. Keep the "
            "folder that `aftermap audit` made, and give its checklist.csv to --answers."
        )
    record = _sample_of(sample, done.run_id)
    given = read_answers(path, record)
    sizes = {int(code): size for code, size in record["sizes"].items()}
    kinds = (0, *(LEVELS if record["graded"] else (1, UNGRADED)))
    counts = {code: Counter[int]() for code in sizes}
    for building, answer in given.items():
        if answer != CANNOT_TELL:
            counts[record["called"][building]][int(answer)] += 1
    strata = [
        Stratum(size, tuple(counts[code][kind] for kind in kinds)) for code, size in sizes.items()
    ]
    damaged = tuple(k for k, kind in enumerate(kinds) if kind > LEVELS[0])
    groups = {str(kind): (k,) for k, kind in enumerate(kinds)} | {"damaged": damaged}
    totals = _table(audited(strata, groups), sizes)
    target = sample.with_name("totals.csv")
    write_csv(target, totals)
    return Findings(
        totals=totals,
        answered=sum(answer != CANNOT_TELL for answer in given.values()),
        unclear=sum(answer == CANNOT_TELL for answer in given.values()),
        agreed=sum(count[code] for code, count in counts.items()),
        path=target,
    )


def allotted(sizes: Mapping[int, int], count: int) -> dict[int, int]:
    """How many of each class to look at: half of `count` evenly, half by size, never more than there are."""
    total = sum(sizes.values())
    wish = {code: count * (0.5 / len(sizes) + 0.5 * size / total) for code, size in sizes.items()}
    given = dict.fromkeys(sizes, 0)
    for _ in range(min(count, total)):
        open_classes = [code for code in sizes if given[code] < sizes[code]]
        neediest = max(open_classes, key=lambda code: (wish[code] - given[code], code))
        given[neediest] += 1
    return given


def _chosen(run: Finished, shares: Mapping[int, int], seed: int) -> gpd.GeoDataFrame:
    """The buildings of each class whose hashed ids are smallest, shuffled by the same hash."""
    best: gpd.GeoDataFrame | None = None
    for block in run.blocks():
        block = block[block["damage_class"].isin(list(shares))]
        block = block.assign(
            rank=[
                hashlib.sha256(f"{seed} {building}".encode()).hexdigest()
                for building in block["building_id"]
            ]
        )
        both = block if best is None else pd.concat([best, block])
        both = both.sort_values("rank", kind="stable")
        place = both.groupby("damage_class").cumcount()
        best = both[place < both["damage_class"].map(shares)]
    assert best is not None  # there is at least an empty block
    return best.reset_index(drop=True)


def _crop(pair: Pair, shape: MultiPolygon, path: Path) -> None:
    """Before and after around a building, with its outline."""
    a, b, c, d, e, f = list(~pair.grid.affine)[:6]
    place = affinity.affine_transform(shape, [a, b, d, e, c, f])
    left, top, right, bottom = place.bounds
    margin = _MARGIN_M / gsd(pair.grid)
    half = max(right - left, bottom - top, _LEAST_PX - 2 * margin) / 2 + margin
    row, col = round((top + bottom) / 2 - half), round((left + right) / 2 - half)
    side = round(2 * half)
    pixels = pair.read(row, col, row + side, col + side)
    zoom = _SIDE / side
    views = [image for image in (pixels.pre, pixels.post) if len(image)]
    sheet = Image.new("RGB", (len(views) * (_SIDE + 6) - 6, _SIDE), "white")
    for k, image in enumerate(views):
        view = Image.fromarray(np.ascontiguousarray(image[:3].transpose(1, 2, 0)))
        view = view.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        pen = ImageDraw.Draw(view)
        for polygon in place.geoms:
            for ring in (polygon.exterior, *polygon.interiors):
                line = [((x - col) * zoom, (y - row) * zoom) for x, y in ring.coords]
                pen.line(line, fill=(0, 220, 255), width=1)
        sheet.paste(view, (k * (_SIDE + 6), 0))
    sheet.save(path, quality=88)


def _checklist(chosen: gpd.GeoDataFrame, cards: list[dict[str, Any]], run_id: str) -> pd.DataFrame:
    """The rows to fill in."""
    places = chosen.geometry.representative_point().to_crs("EPSG:4326")
    return pd.DataFrame(
        {
            "number": [card["number"] for card in cards],
            "run_id": run_id,
            "building_id": chosen["building_id"],
            "longitude": places.x.round(6),
            "latitude": places.y.round(6),
            "crop": [card["crop"] for card in cards],
            "answer": "",
            "note": "",
        }
    )


def _sample_of(path: Path, run_id: str) -> dict[str, Any]:
    """The sample that answers belong to."""
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Refused(
            f"The sample {str(path)!r} cannot be read ({error}). Draw another with `aftermap audit`."
        ) from error
    if record["run_id"] != run_id:
        raise Refused(
            f"{str(path)!r} was drawn from run {record['run_id']}, and this is run {run_id}. Give "
            "--answers the checklist of this run."
        )
    return record


def _table(totals: Mapping[str, Total], sizes: Mapping[int, int]) -> pd.DataFrame:
    rows = []
    for name, total in totals.items():
        code = int(name) if name.isdigit() else None
        label = "damaged, all levels" if code is None else entry(code).name
        called = (
            sum(size for known, size in sizes.items() if known > LEVELS[0])
            if code is None
            else sizes.get(code, 0)
        )
        kind = "no building there" if code == 0 else label
        rows.append(
            (kind, code, called, round(total.count, 1), round(total.low, 1), round(total.high, 1))
        )
    columns = ["kind", "damage_class", "called", "estimate", "low", "high"]
    return pd.DataFrame(rows, columns=columns).astype({"damage_class": "Int16"})


def _template() -> jinja2.Template:
    folder = Path(__file__).parent / "templates"
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), autoescape=True)
    return environment.get_template("checklist.html.j2")
