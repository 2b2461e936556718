"""Where the student lies that is fitted to a run's before image."""

from __future__ import annotations

from pathlib import Path

_END = "-student"

LEARNS_FROM = "the before image "
"""How the data of such a training are called, before the image's name."""


def student_folder(run: Path) -> Path:
    """The folder beside a run's; whoever holds the run's may write to it."""
    place = run.absolute()
    return place.with_name(f"{place.name}{_END}")


def run_folder(student: Path) -> Path:
    """The folder of the run that a student is fitted for."""
    place = student.absolute()
    return place.with_name(place.name.removesuffix(_END))
