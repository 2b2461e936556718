"""The card of a weights file: what it is, what it expects, how it was made, how good it is."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..scenes.errors import UsageError
from ..scenes.plan import Window

VERSION = 1
"""Version of the card's format; a card of a later version is refused."""

MAX_FLIP_RATE = 1e-3
"""bf16 may be a card's precision only if at most this share of pixels change their class."""


@dataclass(frozen=True)
class Card:
    """Everything that is fixed about a trained network; lies beside the weights as JSON.

    Raises UsageError at birth for values that contradict each other.
    """

    method: str
    """Name of the method, as in `--method`."""
    network: str
    """Name of the network, for `build`."""
    options: Mapping[str, Any]
    """Options of the network, for `build`."""
    classes: int
    """What the network tells apart: 1 (damage), 2 (buildings, and damage within them) or 5
    (background and four levels)."""
    bands: int
    """Bands per image."""
    mean: tuple[float, ...]
    """Per band, of values divided by `scale`."""
    std: tuple[float, ...]
    """Per band, of values divided by `scale`."""
    resolution: tuple[float, float]
    """Least and greatest ground sampling distance, m, that the weights are meant for."""
    nominal_resolution: float
    """The ground sampling distance, m, at which they work best."""
    core: int
    """Core of the window, px."""
    halo: int
    """Halo of the window, px on each side."""
    stride: int
    """Windows must start on multiples of this, px, and be divisible by it."""
    blended: bool = False
    """Whether windows fade into each other; see Window."""
    scan: int = 0
    """Side of the squares that get a score each, px; 0: pixels do. See Window."""
    scale: float = 255.0
    """Value that becomes 1 before mean and std are applied."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision that `auto` stands for."""
    flip_rate: float | None = None
    """Share of validation pixels whose class differs between fp32 and bf16; None: not measured."""
    halo_flip_rate: float | None = None
    """Share of pixels whose class differs between `halo` and the full receptive field."""
    threshold: float = 0.5
    """A one-class network says damage where the probability exceeds this."""
    temperatures: tuple[float, ...] = ()
    """Of the buildings' probabilities, one per level (of two for a one-class network: not damaged,
    damaged); empty: not calibrated."""
    calibration: Mapping[str, float] = field(default_factory=dict)
    """Name to value: how many buildings the temperatures come from, and what they mended."""
    training_data: str = ""
    """What the weights were trained on, in words."""
    licence: str = ""
    """Licence of the weights."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Name to value, measured on the validation chips."""
    sha256: str = ""
    """Digest of the weights file, hexadecimal; filled in by `save`."""
    version: int = VERSION
    """Version of this format."""

    def __post_init__(self) -> None:
        problems = [text for wrong, text in self._problems() if wrong]
        if problems:
            raise UsageError(f"The card of {self.method!r} is wrong: {'; '.join(problems)}.")

    def _problems(self) -> list[tuple[bool, str]]:
        low, high = self.resolution
        finite = all(map(math.isfinite, (*self.mean, *self.std, low, high, self.scale)))
        flips = [rate for rate in (self.flip_rate, self.halo_flip_rate) if rate is not None]
        classes = self.options.get("classes", self.classes)
        bands = self.options.get("in_channels", self.bands)
        stride = max(self.stride, 1)
        return [
            (self.version != VERSION, f"version {self.version} is not {VERSION}"),
            (
                len(self.mean) != self.bands or len(self.std) != self.bands,
                f"{self.bands} bands, but {len(self.mean)} means and {len(self.std)} deviations",
            ),
            (not finite, "mean, std, scale and resolution must be finite"),
            (any(not value > 0 for value in (*self.std, self.scale)), "std and scale must be > 0"),
            (
                not 0 < low <= self.nominal_resolution <= high,
                f"resolution {low}-{high} m does not hold the nominal {self.nominal_resolution} m",
            ),
            (self.stride < 1, f"stride {self.stride} px"),
            (
                self.core < 1
                or not 0 <= self.halo <= (self.scan or self.core)
                or (self.scan > 0 and not self.core <= self.scan == self.halo),
                f"core {self.core} px and halo {self.halo} px are no window",
            ),
            (
                self.blended and self.core > 2 * self.halo,
                f"blended windows of twice the halo {self.halo} px do not cover the core "
                f"{self.core} px",
            ),
            (
                self.core % stride != 0 or self.halo % stride != 0,
                f"core {self.core} and halo {self.halo} px are not multiples of the "
                f"stride {self.stride} px",
            ),
            (
                classes != self.classes,
                f"classes {self.classes}, but the network's options say {classes}",
            ),
            (bands != self.bands, f"bands {self.bands}, but the network's options say {bands}"),
            (any(not 0 <= rate <= 1 for rate in flips), "flip rates lie in 0-1"),
            (
                self.precision not in ("fp32", "bf16"),
                f"precision {self.precision!r} is neither fp32 nor bf16",
            ),
            (
                self.precision == "bf16"
                and (self.flip_rate is None or not self.flip_rate <= MAX_FLIP_RATE),
                f"precision bf16 needs a measured flip rate of at most {MAX_FLIP_RATE}, "
                f"not {self.flip_rate}",
            ),
            (
                not all(map(math.isfinite, self.metrics.values())),
                f"metrics {dict(self.metrics)} are not all finite",
            ),
            (not 0 < self.threshold < 1, f"threshold {self.threshold} is not in 0-1"),
            (
                len(self.temperatures) not in (0, 4 if self.classes == 5 else 2)
                or not all(0 < value < math.inf for value in self.temperatures),
                f"temperatures {list(self.temperatures)} are not one positive number per level",
            ),
        ]

    @property
    def window(self) -> Window:
        """What the network sees at once."""
        return Window(self.core, self.halo, self.blended, self.scan)

    def to_json(self) -> str:
        """The card as JSON text, keys in the order of the fields."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Read a card; raises UsageError, naming the field, if the text is not a sound one."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise UsageError(f"The card is not JSON: {error}.") from None
        if not isinstance(values, dict):
            raise UsageError("The card is JSON, but not an object.")
        hints = typing.get_type_hints(cls)
        unknown = sorted(set(values) - set(hints))
        if unknown:
            raise UsageError(f"The card has unknown fields: {', '.join(unknown[:3])}.")
        required = {
            f.name
            for f in dataclasses.fields(cls)
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        }
        missing = sorted(required - set(values))
        if missing:
            raise UsageError(f"The card lacks the fields {', '.join(missing[:3])}.")
        return cls(**{name: _coerced(name, value, hints[name]) for name, value in values.items()})


def _coerced(name: str, value: Any, hint: Any) -> Any:
    """A JSON value as the field's type; raises UsageError if it is of another type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return None if value is None else _coerced(name, value, inner[0])
    if origin is Literal:
        hint = str
    elif origin is tuple:
        if isinstance(value, list) and (inner[-1] is Ellipsis or len(value) == len(inner)):
            return tuple(_coerced(name, item, inner[0]) for item in value)
    elif origin is Mapping and isinstance(value, dict):
        return {
            key: _coerced(name, item, inner[1]) if inner[1] is float else item
            for key, item in value.items()
        }
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise UsageError(f"The card's field {name!r} has an unfit value: {str(value)[:60]!r}.")
