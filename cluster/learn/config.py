"""What a learning is asked for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from ...scenes.errors import UsageError

How = Literal["mixed", "uncertain", "diverse", "disagreement", "audit"]
Promote = Literal["if-better", "always", "never"]
Heads = Literal["logistic", "svm", "softmax"]
Layers = Literal["last", "all"]

MOST = 20_000
"""Squares that a learning looks at to suggest some: minutes with a small backbone."""

METHODS = ("inception-window",)
"""Methods that can be learnt from tags."""


@dataclass(frozen=True, kw_only=True)
class LearnConfig:
    """Everything that decides what is learnt and suggested. Raises UsageError for unusable values.

    The last layer is learnt on features of a backbone that stays as it is: paper 003's way, for which
    some dozens of tags are enough. With some hundred the backbone may be tuned, too. Networks that
    compare before and after are trained from chips with `aftermap train`.
    """

    label_set: str = "damage"
    """Its tags are learnt from, in all versions: those whose label says damage or no damage."""
    method: str = "inception-window"
    how: How = "mixed"
    """How the next squares are chosen; see `choose`."""
    count: int = 200
    """Squares that are suggested."""
    layers: Layers = "last"
    """That are learnt: the last, or then all where that turns out better; see `tuned`."""
    head: Heads = "logistic"
    backbone: str | None = None
    """A model of timm. Default: that of the model in use, else Inception-v3 with `encoder` and
    `begin.SMALL` with random weights without."""
    encoder: str | None = None
    """timm's weights of the backbone, as safetensors. Default: those of the model in use, else random."""
    side: int | None = None
    """Of the squares that the model takes, px. Default: that of most tagged squares."""
    held_out: float = 0.25
    """Share of the ground that is tested on and never learnt from."""
    candidates: int = 2000
    """Squares of each raster that suggestions are chosen from; of all together at most `MOST`."""
    promote: Promote = "if-better"
    """When the new model comes into use."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(
                f"{self.method} cannot be learnt from tags, only {', '.join(METHODS)}: networks that "
                "compare before and after are trained with `aftermap train`. Change --method."
            )
        for flag, value, known in (
            ("how", self.how, get_args(How)),
            ("promote", self.promote, get_args(Promote)),
            ("layers", self.layers, get_args(Layers)),
            ("head", self.head, get_args(Heads)),
        ):
            if value not in known:
                raise UsageError(f"--{flag} is one of {', '.join(known)}, not {value!r}.")
        for flag, number in (("count", self.count), ("candidates", self.candidates)):
            if not 1 <= number <= MOST:
                raise UsageError(f"--{flag} is a whole number from 1 to {MOST}, not {number}.")
        if self.side is not None and not 16 <= self.side <= 4096:
            raise UsageError(f"--side {self.side}: squares have 16 to 4096 px a side.")
        if not 0.05 <= self.held_out <= 0.5:
            raise UsageError(
                f"--held-out {self.held_out:g}: from 0.05 to 0.5 of the ground can be tested on."
            )

    def arguments(self) -> list[str]:
        """The options of `aftermap learn` that give this configuration."""
        flags = {"label_set": "--labels"}
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return [
            word
            for name, value in given.items()
            if value is not None
            for word in (flags.get(name, f"--{name.replace('_', '-')}"), str(value))
        ]
