"""The answers of an audit: what may be said of a building, and what was said."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..scenes.errors import Refused
from ..scenes.legend import LEVELS, UNGRADED, entry

CANNOT_TELL = "?"
"""The answer for a building that nobody could judge from these images."""


def choices(graded: bool) -> list[tuple[str, str]]:
    """Every answer and what it means."""
    codes = LEVELS if graded else (LEVELS[0], UNGRADED)
    named = [(str(code), entry(code).name) for code in codes]
    return [("0", "No building"), *named, (CANNOT_TELL, "Cannot tell")]


def meanings(graded: bool) -> str:
    """The answers in one line."""
    return ", ".join(f"{value} {name.lower()}" for value, name in choices(graded))


def read_answers(path: Path, sample: Mapping[str, Any]) -> dict[str, str]:
    """Building to answer, of the rows of a filled-in checklist that have one.

    Codes and names are taken, with commas or semicolons between the columns. Raises Refused for a
    file that cannot be read, for buildings that are not of the sample or answered twice, for
    answers that there are not, and where nothing is answered.
    """
    known = {value: value for value, _ in choices(sample["graded"])}
    known |= {name.lower(): value for value, name in choices(sample["graded"])}
    given: dict[str, str] = {}
    for number, row in enumerate(_rows(path), start=2):
        # Checklists carry a quote before what a spreadsheet would take for a formula.
        building = str(row["building_id"] or "").removeprefix("'")
        answer = str(row["answer"] or "").strip().lower().removesuffix(".0")
        if not answer:
            continue
        where = f"Line {number} of {str(path)!r}"
        if row.get("run_id") not in (None, "", sample["run_id"]):
            raise Refused(
                f"{where} belongs to run {row['run_id']}, and the sample was drawn from run "
                f"{sample['run_id']}. Give --answers the checklist of this run."
            )
        if building not in sample["called"]:
            raise Refused(
                f"{where} is about building {building!r}, which is not in the sample. Give "
                "--answers the checklist of this run."
            )
        if answer not in known:
            raise Refused(
                f"{where} says {answer!r}, which is no answer. Answers are "
                f"{meanings(sample['graded'])}."
            )
        if building in given:
            raise Refused(f"{where} answers for building {building!r} a second time.")
        given[building] = known[answer]
    if not any(answer != CANNOT_TELL for answer in given.values()):
        raise Refused(
            f"{str(path)!r} holds no answers yet. Fill in its column `answer`: "
            f"{meanings(sample['graded'])}."
        )
    return given


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        head = text.partition("\n")[0]
        mark = ";" if ";" in head and "," not in head else ","
        rows = list(csv.DictReader(text.splitlines(), delimiter=mark))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Refused(f"The answers {str(path)!r} cannot be read: {error}.") from error
    missing = [name for name in ("building_id", "answer") if rows and name not in rows[0]]
    if missing:
        raise Refused(
            f"{str(path)!r} has no column {' and no column '.join(missing)}; it begins with "
            f"{head[:80]!r}. Give --answers a checklist.csv."
        )
    return rows
