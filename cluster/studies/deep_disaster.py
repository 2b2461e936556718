"""The study of paper 000: a student of each event, its ablations, and supervised networks beside it.

Tasks: one looks for photos that are nearly the same in different parts; one for each seed trains a
teacher, then all students and baselines of all events, and tests each on all events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ...kernels.methods import choose_device
from ...models.adversarial import train_student, train_teacher
from ...models.adversarial_course import tensor
from ...models.adversarial_recipe import AdversarialConfig, Images
from ...models.checkpoint import load
from ...models.deep_disaster import DeepDisaster
from ...models.loop import silence
from ...models.photos.photoset import Photo, PhotoSet
from ...models.photos.twins import near_duplicates
from ...models.presets import DEEP_DISASTER, DEEP_DISASTER_SMALL
from ...models.recipes import SYNTHETIC
from ...scenes.atomic import write_atomically
from ...scenes.errors import Refused
from .backbone import backbone_of
from .deep_disaster_picture import draw_worst
from .deep_disaster_settings import GENERIC, PARTS, DeepDisasterConfig
from .deep_disaster_supervised import areas_of, supervised
from .deep_disaster_table import VARIANTS, Areas, DeepDisasterStudied, SeedOutcome, Sifted
from .paper import Asked, Task
from .photo_settings import foreign, renamed


@dataclass(frozen=True, eq=False)
class Sifting(Task):
    """The photos counted, and those that are nearly the same."""

    config: DeepDisasterConfig

    def carry_out(self) -> dict[str, Any]:
        """Compare all photos with each other."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config, root = self.config, self.folder.parent
        opened, lessons = config.opened(root, config.side), config.lessons(root)
        photos = config.usable(opened)
        twins = near_duplicates(photos)
        names = [str(photo.path.relative_to(photos.source)) for photo in photos.photos]
        counts = {
            event: {
                part: [int((~these.labels).sum()), int(these.labels.sum())]
                for part, these in ((p, photos.town(event).part(p)) for p, _ in PARTS)
            }
            for event in photos.towns
        }
        return asdict(
            Sifted(
                counts,
                len(opened.unreadable),
                len(opened) - len(photos),
                len(twins),
                [(names[t.first], names[t.second]) for t in twins if t.leak],
                len(lessons),
                len(lessons.unreadable),
            )
        )


@dataclass(frozen=True, eq=False)
class _Decoded:
    """Photos that are decoded once for all networks: a hundred megabytes for those of DAD."""

    photos: PhotoSet
    known: dict[Photo, np.ndarray]

    def __len__(self) -> int:
        return len(self.photos)

    def image(self, index: int) -> np.ndarray:
        """See Images."""
        photo = self.photos.photos[index]
        if photo not in self.known:
            self.known[photo] = self.photos.image(index)
        return self.known[photo]

    def label(self, index: int) -> bool | None:
        """See Images."""
        return self.photos.label(index)


@dataclass(frozen=True, eq=False)
class Trainings(Task):
    """All networks of a seed."""

    config: DeepDisasterConfig

    def carry_out(self) -> dict[str, Any]:
        """Train a teacher, then every variant and baseline of every event; test each on all events."""
        config, root = self.config, self.folder.parent
        self.folder.mkdir(parents=True, exist_ok=True)
        photos = config.photos(root, config.side)
        teaching = config.training(self.folder / "teacher", self.seed, width=config.teacher_width)
        teacher = train_teacher(teaching, config.lessons(root), silence)
        areas: dict[str, Areas] = {}
        scores: dict[str, dict[str, list[Any]]] = {}
        known: dict[Photo, np.ndarray] = {}
        for variant in VARIANTS:
            areas[variant] = {}
            for event in photos.towns:
                out = self.folder / f"{variant}-{photos.towns.index(event)}"
                asked = config.student(variant, out, self.seed, teacher)
                found = self._student(asked, photos, event, known)
                areas[variant][event] = areas_of(photos, found)
                if variant == "paper":
                    own = photos.town(event).part("test")
                    scores[event] = {"scores": found[event].tolist(), "labels": own.labels.tolist()}
        baselines = supervised(config, self.folder, self.seed)
        write_atomically(self.folder / "worst.png", draw_worst(photos, scores))
        return asdict(SeedOutcome(self.seed, areas, baselines, scores))

    def _student(
        self,
        config: AdversarialConfig,
        photos: PhotoSet,
        event: str,
        known: dict[Photo, np.ndarray],
    ) -> dict[str, np.ndarray]:
        """Train on an event; the anomalies of the test photos of each event."""
        train, held = (_Decoded(photos.town(event).part(x), known) for x in ("train", "validation"))
        weights = train_student(config, train, held, silence)
        network, _ = load(weights)
        assert isinstance(network, DeepDisaster)
        network.to(choose_device("auto")).eval()
        return {
            other: _anomalies(
                network, _Decoded(photos.town(other).part("test"), known), config.batch
            )
            for other in photos.towns
        }


class DeepDisasterStudy:
    """Areas under the ROC curve, of seen events and of others."""

    foreign: ClassVar[frozenset[str]] = foreign("width", "epochs")
    pretrains: ClassVar[bool] = False
    training: ClassVar[Mapping[str, Any]] = {}
    """How settings differ from the paper's."""

    def __init__(self, asked: Asked) -> None:
        given = DEEP_DISASTER | dict(self.training) | renamed(asked.training)
        if "backbone" in given:
            given["backbones"] = (given.pop("backbone"),)
        self.config = DeepDisasterConfig(**given)
        self.path = asked.path
        self.tasks = tuple(self._tasks(asked))

    def settings(self) -> dict[str, Any]:
        """Those of all tasks."""
        return self.config.decisive()

    def check(self) -> None:
        """Refuse networks that do not fit, and events with too few photos in a part."""
        config = self.config
        for name in config.backbones:
            backbone_of(name, config.backbone_side, config.encoder)
        for variant in VARIANTS:
            chosen = config.student(variant, self.path, 0, self.path)
            DeepDisaster(chosen.student_width, chosen.teacher_width, side=chosen.side)
        if config.source == SYNTHETIC:
            _check_events([name for name, _ in config.synthetic.towns])
            self._check_count(int(config.synthetic.intact * PARTS[0][1]), "of each town")
            tested = None
        else:
            tested = self._checked_photos()
        if config.taught == SYNTHETIC:
            self._check_count(
                len(GENERIC.towns) * (GENERIC.intact + GENERIC.damaged),
                "of towns that are no event",
            )
        else:
            self._check_lessons(tested)

    def studied(
        self, path: Path, facts: Mapping[str, Any], outcomes: Sequence[Mapping[str, Any]]
    ) -> DeepDisasterStudied:
        """Its tables."""
        sifted, *seeds = outcomes
        return DeepDisasterStudied(
            path, facts, Sifted(**sifted), tuple(SeedOutcome(**outcome) for outcome in seeds)
        )

    def _checked_photos(self) -> PhotoSet:
        """Refuse events that cannot be learnt from and tested on; the photos that are tested on."""
        photos = self.config.photos(self.path, self.config.side)
        _check_events(photos.towns)
        for event in photos.towns:
            train, test = (photos.town(event).part(part) for part in ("train", "test"))
            damaged = int(test.labels.sum())
            if not 0 < damaged < len(test):
                raise Refused(
                    f"An event is tested on photos with damage and without; {photos.source} has "
                    f"{damaged} with and {len(test) - damaged} without in the test part of {event}. "
                    f"Move some from other parts, or change --data."
                )
            self._check_count(int((~train.labels).sum()), f"without damage of {event}")
        return photos.part("test")

    def _check_lessons(self, tested: PhotoSet | None) -> None:
        """Refuse too few photos for a teacher, and those that students are tested on."""
        lessons = self.config.lessons(self.path)
        self._check_count(len(lessons), f"of {self.config.taught}")
        if tested is None:
            return
        known = {lessons.digest(i) for i in range(len(lessons))}
        both = [i for i in range(len(tested)) if tested.digest(i) in known]
        if both:
            raise Refused(
                f"Of the photos that are tested on teachers would learn from {len(both)}, such as "
                f"{tested.photos[both[0]].path}. Give others with the second --data."
            )

    def _check_count(self, count: int, which: str) -> None:
        if count < self.config.batch:
            raise Refused(
                f"{count} photos {which} to train on are fewer than a batch of "
                f"{self.config.batch}. Give more photos, or a smaller --batch."
            )

    def _tasks(self, asked: Asked) -> Iterator[Task]:
        yield Sifting("near duplicates", 0, asked.path / "photos", self.config)
        for seed in range(asked.seeds):
            yield Trainings("all networks", seed, asked.path / f"seed-{seed}", self.config)


class SmallDeepDisaster(DeepDisasterStudy):
    """The same, small enough for two cores."""

    training = DEEP_DISASTER_SMALL


def _check_events(events: Sequence[str]) -> None:
    if len(events) < 2:
        raise Refused(
            f"Photos from two events or more are needed; found {len(events)}. Put the photos of each "
            f"event into a folder, or change --data."
        )


@torch.inference_mode()
def _anomalies(network: DeepDisaster, photos: Images, batch: int) -> np.ndarray:
    """Eq. 9 of photos, float32 (n,)."""
    device = next(network.parameters()).device
    found = []
    for start in range(0, len(photos), batch):
        some = range(start, min(start + batch, len(photos)))
        images = tensor(np.stack([photos.image(i) for i in some]), device)
        found.append(network.anomaly(images).cpu().numpy())
    return np.concatenate(found)
