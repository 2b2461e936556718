"""What came out of the study of paper 000, as text and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from ...models.published import DAD_EQUAL_WIDTH, DAD_EVENTS, DAD_TABLE_III
from ...models.recipes import SYNTHETIC
from .page import picture, render, shown
from .spread import Spread

Areas = dict[str, dict[str, float]]
"""By the event learnt from, then by the event tested on."""


@dataclass(frozen=True)
class Variant:
    """What is trained on the photos of an event that show no damage."""

    title: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """How it differs from the first, by the names of `AdversarialConfig`; "equal" is a student as
    wide as its teacher."""


WHOLE = ", trained whole"
"""Behind the name of a backbone whose features are not fixed."""

VARIANTS = {
    "paper": Variant("student of a teacher, as in the paper"),
    "code": Variant("the same in the form of the published code", {"form": "code"}),
    "teacher": Variant("teacher alone", {"structure": "teacher"}),
    "student": Variant("student alone", {"structure": "student"}),
    "together": Variant("both from scratch", {"structure": "together"}),
    "equal": Variant("student as wide as its teacher", {"equal": True}),
    "image": Variant("compared at the image x̂ only", {"hints": ("image",)}),
    "latent": Variant("compared at the latent f(x̂) only", {"hints": ("latent",)}),
    "bottleneck": Variant(
        "compared at x̂, f(x̂) and z", {"hints": ("image", "latent", "bottleneck")}
    ),
}
"""The method and its ablations; paper 000, IV.C."""


@dataclass(frozen=True)
class Sifted:
    """What there is to learn from."""

    counts: Mapping[str, Mapping[str, Sequence[int]]]
    """By event and part: photos without damage and with."""
    unreadable: int
    passed_over: int
    """Photos that were left out, as they have no label, are of no event, or belong to no part."""
    twins: int
    """Pairs of photos that are nearly the same."""
    leaks: Sequence[Sequence[str]]
    """Those that lie in different parts, by their paths within the folder."""
    lessons: int
    """Photos that teachers learn from."""
    unreadable_lessons: int


@dataclass(frozen=True)
class SeedOutcome:
    """What came out of a seed: AUC on test photos, 0-1."""

    seed: int
    areas: Mapping[str, Areas]
    """By variant."""
    supervised: Mapping[str, Areas]
    """By backbone, with fixed features and, with `WHOLE`, without."""
    scores: Mapping[str, Mapping[str, Sequence[Any]]]
    """By event, scores and labels of its test photos, of the first variant."""


def summary(areas: Areas, unseen: bool) -> dict[str, float]:
    """AUC on each event: of the network that learnt from it, or the mean of those that did not."""
    found = {
        event: fmean(areas[other][event] for other in areas if (other != event) is unseen)
        for event in areas
    }
    return found | {"": fmean(found.values())}


@dataclass(frozen=True)
class DeepDisasterStudied:
    """A finished study."""

    path: Path
    facts: Mapping[str, Any]
    sifted: Sifted
    seeds: tuple[SeedOutcome, ...]

    @property
    def events(self) -> list[str]:
        """What was learnt from and tested on."""
        return list(self.seeds[0].areas["paper"])

    @property
    def rows(self) -> dict[str, Spread]:
        """AUC by event, and their mean under an empty name; of unseen events, too."""
        found = {}
        for name in self.seeds[0].supervised:
            for unseen in (False, True):
                each = [summary(dict(seed.supervised[name]), unseen) for seed in self.seeds]
                found[f"supervised: {name}{', unseen' if unseen else ''}"] = Spread.of(each)
        for variant, what in VARIANTS.items():
            for unseen in (False, True):
                each = [summary(dict(seed.areas[variant]), unseen) for seed in self.seeds]
                found[f"{what.title}{', unseen' if unseen else ''}"] = Spread.of(each)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Outcomes, their mean and deviation, and what was published."""
        return {
            "photos": asdict(self.sifted),
            "rows": {title: asdict(spread) for title, spread in self.rows.items()},
            "outcomes": [asdict(seed) for seed in self.seeds],
            "published": {
                "events": list(DAD_EVENTS),
                "table_iii": [asdict(row) for row in DAD_TABLE_III],
                "equal_width": list(DAD_EQUAL_WIDTH),
            },
        }

    def text(self) -> str:
        """The table and where the report is, for the command line."""
        names = [*self.events, "mean"]
        lines = [f"{'AUC, hundredths':<54}" + "".join(f"{name[:16]:>17}" for name in names)]
        for title, spread in self.rows.items():
            figures = "".join(f"{spread.text(name):>17}" for name in (*self.events, ""))
            lines.append(f"{title:<54}{figures}")
        for row in DAD_TABLE_III:
            for unseen, areas in (("", row.seen), (", unseen", row.unseen)):
                title = f"published mean: {row.method}{unseen}"
                lines.append(f"{title:<54}{100 * fmean(areas):.2f}")
        return "\n".join([*lines, f"report     {self.path / 'study.html'}"])

    def page(self) -> str:
        """Our table with the published one, what differs, pictures."""
        settings = self.facts["settings"]
        return render(
            "study-deep-disaster.html.j2",
            study=self,
            settings=shown(settings),
            taught=Path(settings["data"][-1]).name if len(settings["data"]) > 1 else SYNTHETIC,
            first=Path(settings["data"][0]).name,
            published=DAD_TABLE_III,
            published_events=DAD_EVENTS,
            equal=DAD_EQUAL_WIDTH,
            worst=picture(self.path / "seed-0" / "worst.png"),
            map=picture(self.path / "seed-0" / "map.png"),
        )
