"""What a study is to whoever carries it out: tasks that leave an outcome each, and what came of all.

The study of a paper is a module that has these three, and a line in `study.STUDIES`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol


@dataclass(frozen=True)
class Asked:
    """What was asked for."""

    path: Path
    """Folder of the study, absolute: workers may have another working folder."""
    seeds: int
    training: Mapping[str, Any]
    """Settings that stand above the paper's, by the names of `TrainConfig`."""
    pretraining: Mapping[str, Any]
    """Likewise, by the names of `PretrainConfig`."""


@dataclass(frozen=True, eq=False)
class Task(ABC):
    """What a worker does at a time, told from others by identity."""

    row: str
    """What is trained, by the name that the study's table has for it."""
    seed: int
    folder: Path

    @property
    def kept(self) -> Path:
        """What is left of it once it is done."""
        return self.folder / "outcome.json"

    @abstractmethod
    def carry_out(self) -> dict[str, Any]:
        """Train and test; plain values of JSON. What is there already is not made again."""


class Study(Protocol):
    """A paper's study with all settings."""

    foreign: ClassVar[frozenset[str]]
    """Settings of trainings that have no meaning here."""
    pretrains: ClassVar[bool]
    """Whether settings of pre-trainings have one."""

    def __init__(self, asked: Asked) -> None: ...

    @property
    def tasks(self) -> Sequence[Task]:
        """By seed; those of more seeds begin with those of fewer."""
        ...

    def settings(self) -> dict[str, Any]:
        """What decides the figures, seeds apart."""
        ...

    def check(self) -> None:
        """Refuse what could not be trained or tested, before anything is written or trained."""
        ...

    def studied(
        self, path: Path, facts: Mapping[str, Any], outcomes: Sequence[Mapping[str, Any]]
    ) -> Studied:
        """What came of it, from the outcomes of the tasks in their order."""
        ...


class Studied(Protocol):
    """A finished study."""

    @property
    def path(self) -> Path:
        """Its folder."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain values."""
        ...

    def text(self) -> str:
        """The table, for the command line."""
        ...

    def page(self) -> str:
        """The table beside the published one, and what differs: one HTML file."""
        ...
