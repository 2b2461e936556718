"""The study of paper 002: Dual-HRNet by the paper, by its published code, and by cross-entropy.

A task is one of these rows and a seed: a network is trained and tested on places that no training
has seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ...models.chips.chipset import ChipSet
from ...models.loop import silence
from ...models.presets import XVIEW2_SMALL, XVIEW2_WARM_UP, train_config
from ...models.recipes import TrainConfig
from ...models.state import history
from ...models.training import Segmentation, train
from ...scenes.errors import Refused
from ...scenes.legend import LEVELS, entry
from .examination import examine, held_out
from .paper import Asked, Task
from .xview2_table import ROWS, Outcome, XView2Studied, figures_of

METHOD = "dual-hrnet"


@dataclass(frozen=True, eq=False)
class Training(Task):
    """A row and a seed: one training, which may begin with the weights of another one."""

    config: TrainConfig
    warm_up: TrainConfig | None
    """The training to begin with; None begins as `config` says."""

    def carry_out(self) -> dict[str, Any]:
        """Train and test."""
        config, begun = self.config, []
        if self.warm_up is not None:
            config = replace(config, encoder=None, init=str(train(self.warm_up, silence)))
            begun = [history(self.warm_up.out)]
        weights = train(config, silence)
        levels = examine(weights, config, self.folder / "panels.png").levels
        assert levels is not None  # Dual-HRNet tells them
        return asdict(
            Outcome(
                self.row,
                self.seed,
                figures_of(levels.xview2),
                figures_of(levels.buildings),
                (*begun, history(config.out)),
            )
        )


class XView2:
    """Three rows, one training each."""

    foreign: ClassVar[frozenset[str]] = frozenset(
        {"size", "classes", "dropout", "loss", "stem", "init"}
    )
    pretrains: ClassVar[bool] = False
    training: ClassVar[Mapping[str, Any]] = {}
    """How trainings differ from those of the presets."""
    warm_up: ClassVar[Mapping[str, Any] | None] = None
    """How a training to begin with differs from the main one; None has none."""

    def __init__(self, asked: Asked) -> None:
        self.tasks = tuple(self._tasks(asked))

    def settings(self) -> dict[str, Any]:
        """Those of each row, with the first seed."""
        return {task.row: _decisive(task) for task in self.tasks[: len(ROWS)]}

    def check(self) -> None:
        """Refuse networks, an encoder and chips that do not fit, and a test part without all levels."""
        for task in self.tasks[: len(ROWS)]:
            Segmentation(task.warm_up or task.config)
        config = self.tasks[0].config
        parts = held_out(config)
        sets = [part for part in parts if isinstance(part, ChipSet)]
        found = frozenset().union(*(part.values for part in sets))
        missing = [f"{code} ({entry(code).name})" for code in LEVELS if code not in found]
        # Synthetic towns have buildings of all levels.
        if missing and len(sets) == len(parts):
            raise Refused(
                f"A level that does not occur has an F1 of 0, and the score is near 0 with it: the "
                f"test part of {', '.join(part.source for part in sets)} "
                f"({sum(map(len, sets))} chips) holds no {', '.join(missing)}. Give --data more "
                f"chips, other splits in places.csv, or synthetic scenes beside them."
            )

    def studied(
        self, path: Path, facts: Mapping[str, Any], outcomes: Sequence[Mapping[str, Any]]
    ) -> XView2Studied:
        """The three rows."""
        return XView2Studied(path, facts, tuple(Outcome(**outcome) for outcome in outcomes))

    def _tasks(self, asked: Asked) -> Iterator[Training]:
        given = {**self.training, **asked.training}
        for seed in range(asked.seeds):
            for row in ROWS:
                folder = asked.path / f"{row.name}-{seed}"
                own = {"method": METHOD, "seed": seed, "cache": str(asked.path / "scenes")}
                config = train_config(
                    {**given, **row.settings, **own, "out": str(folder / "training")}, row.preset
                )
                begun = None
                if self.warm_up is not None:
                    begun = replace(config, out=str(folder / "warm-up"), **self.warm_up)
                yield Training(row.name, seed, folder, config, begun)


class SmallXView2(XView2):
    """The same, small enough for two cores: narrow, and warmed up by cross-entropy."""

    training = XVIEW2_SMALL
    warm_up = XVIEW2_WARM_UP


def _decisive(task: Training) -> dict[str, Any]:
    warm_up = {} if task.warm_up is None else {"warm_up": task.warm_up.decisive()}
    return task.config.decisive() | warm_up
