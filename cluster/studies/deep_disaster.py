"""The study of paper 000: a student of each event, its ablations, and supervised networks beside it.

Tasks: one looks for photos that are nearly the same in different parts; one for each seed trains a
teacher, then all students and baselines of all events, and tests each on all events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ...kernels.methods import choose_device
from ...models.adversarial import train_student, train_teacher
from ...models.adversarial_course import tensor
from ...models.adversarial_recipe import AdversarialConfig, Images
from ...models.checkpoint import load, write_atomically
from ...models.deep_disaster import DeepDisaster
from ...models.hash_split import hash_split
from ...models.heads import Head, LinearHead, Logistic
from ...models.loop import silence
from ...models.photos.open import open_photos
from ...models.photos.photoset import Photo, PhotoSet
from ...models.photos.synthetic import PhotoRecipe, synthetic_photos
from ...models.photos.twins import near_duplicates
from ...models.presets import DEEP_DISASTER, DEEP_DISASTER_SMALL, SYNTHETIC_TOWNS
from ...models.recipes import SYNTHETIC, TrainConfig
from ...models.roc import auc
from ...scenes.errors import Refused, UsageError
from .deep_disaster_picture import draw_map, draw_worst
from .deep_disaster_table import VARIANTS, Areas, DeepDisasterStudied, SeedOutcome, Sifted
from .oaxaca_features import backbone_of, features_of
from .paper import Asked, Task

_HEEDED = {"data", "weights", "width", "epochs", "chip", "batch", "lr", "backbone", "encoder", "synthetic"}  # fmt: skip
"""Settings of trainings that mean something here, too."""

_PARTS = (("train", 0.6), ("validation", 0.15), ("test", 0.25))

_GENERIC = PhotoRecipe((("generic", 910_015), ("other", 910_006)), 60, 20, bare=True)
"""What a teacher learns from where no other photos are given: towns that are no event."""


@dataclass(frozen=True, kw_only=True)
class DeepDisasterConfig:
    """What decides the figures. Raises UsageError for unusable values."""

    data: tuple[str, ...] = (SYNTHETIC,)
    """A folder of photos of events, or "synthetic"; behind it, a folder of any photos to teach from."""
    synthetic: PhotoRecipe = field(
        default_factory=lambda: PhotoRecipe(SYNTHETIC_TOWNS, 160, 60, True, _PARTS)
    )
    side: int
    """Of the photos as teachers and students see them, px; the command line calls it --chip."""
    width: int
    """Of the students."""
    teacher_width: int
    epochs: int
    batch: int
    lr: float
    backbones: tuple[str, ...]
    """Models of timm for the supervised rows."""
    encoder: str | None = None
    """timm's weights of the one backbone; None begins at random."""
    backbone_side: int
    """Of the photos as backbones see them, px."""

    def __post_init__(self) -> None:
        for name in ("data", "backbones"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.data) not in (1, 2):
            raise UsageError(
                f"The study looks at one folder of photos, and at one more to teach from; got "
                f"{len(self.data)}. Give --data once or twice."
            )
        if self.encoder is not None and len(self.backbones) != 1:
            raise UsageError("--encoder is the weights of one model. Name it with --backbone.")
        for name in ("side", "width", "teacher_width", "epochs", "batch", "lr", "backbone_side"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be positive; got {getattr(self, name)}.")

    def decisive(self) -> dict[str, Any]:
        """All of it, as plain values; of synthetic photos only where they are looked at."""
        values = asdict(self)
        if self.data[0] != SYNTHETIC:
            del values["synthetic"]
        return values

    def photos(self, folder: Path, side: int) -> PhotoSet:
        """The labelled photos of events, with parts; synthetic ones are cut into a folder."""
        source = self.data[0]
        root = synthetic_photos(folder, self.synthetic) if source == SYNTHETIC else source
        photos = open_photos(root, side).labelled
        if not any(photo.split for photo in photos.photos):
            photos = hash_split(photos, validation=10, test=20)
        return photos.subset([i for i, photo in enumerate(photos.photos) if photo.town])

    def generic(self, folder: Path) -> PhotoSet:
        """The photos that a teacher learns from."""
        named = self.data[1] if len(self.data) == 2 else SYNTHETIC
        root = synthetic_photos(folder, _GENERIC) if named == SYNTHETIC else named
        return open_photos(root, self.side)

    def training(self, out: Path, seed: int, **changes: Any) -> AdversarialConfig:
        """Of a teacher or a student."""
        common = {name: getattr(self, name) for name in ("side", "epochs", "batch", "lr")}
        return AdversarialConfig(**{**common, "out": str(out), "seed": seed, **changes})

    def student(self, variant: str, out: Path, seed: int, teacher: Path) -> AdversarialConfig:
        """Of a student, or of what stands in its place."""
        changes: dict[str, Any] = {"width": self.width, "teacher_width": self.teacher_width}
        changes |= VARIANTS[variant].settings
        if changes.pop("equal", False):
            changes["width"] = self.teacher_width
        if changes.get("structure", "distilled") == "distilled":
            changes["teacher"] = str(teacher)
        return self.training(out, seed, **changes)


@dataclass(frozen=True, eq=False)
class Sifting(Task):
    """The photos counted, and those that are nearly the same."""

    config: DeepDisasterConfig

    def carry_out(self) -> dict[str, Any]:
        """Compare all photos with each other."""
        self.folder.mkdir(parents=True, exist_ok=True)
        photos = self.config.photos(self.folder.parent, self.config.side)
        twins = near_duplicates(photos)
        leaks = [(photos.photos[t.first].path.name, photos.photos[t.second].path.name) for t in twins if t.leak]  # fmt: skip
        counts = {
            event: {
                part: [int((~these.labels).sum()), int(these.labels.sum())]
                for part, these in ((p, photos.town(event).part(p)) for p, _ in _PARTS)
            }
            for event in photos.towns
        }
        return asdict(Sifted(counts, len(photos.unreadable), len(twins), leaks))


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
        teacher = train_teacher(teaching, config.generic(root), silence)
        areas: dict[str, Areas] = {}
        scores: dict[str, dict[str, list[Any]]] = {}
        known: dict[Photo, np.ndarray] = {}
        for variant in VARIANTS:
            areas[variant] = {}
            for event in photos.towns:
                out = self.folder / f"{variant}-{photos.towns.index(event)}"
                asked = config.student(variant, out, self.seed, teacher)
                found = self._student(asked, photos, event, known)
                areas[variant][event] = _areas(photos, found)
                if variant == "paper":
                    own = photos.town(event).part("test")
                    scores[event] = {"scores": found[event].tolist(), "labels": own.labels.tolist()}
        supervised = self._supervised()
        write_atomically(self.folder / "worst.png", draw_worst(photos, scores))
        return asdict(SeedOutcome(self.seed, areas, supervised, scores))

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

    def _supervised(self) -> dict[str, Areas]:
        """Linear layers on features of each backbone; the first one's map is drawn."""
        config, root = self.config, self.folder.parent
        photos = config.photos(root, config.backbone_side)
        found: dict[str, Areas] = {}
        for name in config.backbones:
            network = backbone_of(name, config.backbone_side, config.encoder)
            features = features_of(network, photos, root / "features")[:, 0]
            number = {photo: index for index, photo in enumerate(photos.photos)}
            heads: dict[str, Head] = {}
            for event in photos.towns:
                part = photos.town(event).part("train")
                rows = [number[photo] for photo in part.photos]
                heads[event] = Logistic().fit(features[rows], part.labels)
            tests = {
                event: features[[number[p] for p in photos.town(event).part("test").photos]]
                for event in photos.towns
            }
            found[name] = {
                event: _areas(photos, {k: head.scores(x) for k, x in tests.items()})
                for event, head in heads.items()
            }
            if name == config.backbones[0]:
                first = photos.towns[0]
                head = heads[first]
                assert isinstance(head, LinearHead)
                network.set_head(*head.tensors())
                part = photos.town(first).part("test")
                index = int(np.argmax(np.where(part.labels, head.scores(tests[first]), -1)))
                picture = draw_map(network.cpu(), part.image(index), part.photos[index].path.name)
                write_atomically(self.folder / "map.png", picture)
        return found


class DeepDisasterStudy:
    """Areas under the ROC curve, of seen events and of others."""

    foreign: ClassVar[frozenset[str]] = frozenset(f.name for f in fields(TrainConfig)) - _HEEDED
    pretrains: ClassVar[bool] = False
    training: ClassVar[Mapping[str, Any]] = {}
    """How settings differ from the paper's."""

    def __init__(self, asked: Asked) -> None:
        given = DEEP_DISASTER | dict(self.training) | _asked(asked.training)
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
        if len(config.data) == 2 and config.data[1] != SYNTHETIC:
            config.generic(self.path)
        if config.data[0] == SYNTHETIC:
            counts = {"each": int(config.synthetic.intact * _PARTS[0][1])}
        else:
            photos = config.photos(self.path, config.side)
            if len(photos.towns) < 2:
                raise Refused(
                    f"Photos from two events or more are needed; found {len(photos.towns)}. Put the "
                    f"photos of each event into a folder, or change --data."
                )
            for event in photos.towns:
                for part in ("train", "test"):
                    photos.town(event).part(part).check_classes()
            counts = {
                event: int((~photos.town(event).part("train").labels).sum())
                for event in photos.towns
            }
        event = min(counts, key=lambda name: counts[name])
        if counts[event] < config.batch:
            raise Refused(
                f"{counts[event]} photos without damage to train on ({event}) are fewer than a batch "
                f"of {config.batch}. Give more photos, or a smaller --batch."
            )

    def studied(
        self, path: Path, facts: Mapping[str, Any], outcomes: Sequence[Mapping[str, Any]]
    ) -> DeepDisasterStudied:
        """Its tables."""
        sifted, *seeds = outcomes
        return DeepDisasterStudied(
            path, facts, Sifted(**sifted), tuple(SeedOutcome(**outcome) for outcome in seeds)
        )

    def _tasks(self, asked: Asked) -> Iterator[Task]:
        yield Sifting("near duplicates", 0, asked.path / "photos", self.config)
        for seed in range(asked.seeds):
            yield Trainings("all networks", seed, asked.path / f"seed-{seed}", self.config)


class SmallDeepDisaster(DeepDisasterStudy):
    """The same, small enough for two cores."""

    training = DEEP_DISASTER_SMALL


def _areas(photos: PhotoSet, scores: Mapping[str, np.ndarray]) -> dict[str, float]:
    """AUC on the test photos of each event."""
    found = {}
    for event, these in scores.items():
        area = auc(these, photos.town(event).part("test").labels)
        assert area is not None  # checked before
        found[event] = area
    return found


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


def _asked(training: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as this study calls them."""
    if training.get("weights"):
        raise UsageError("Photos have no share in an epoch. Give --data without =.")
    given = {name: value for name, value in training.items() if name != "weights"}
    if "chip" in given:
        given["side"] = given.pop("chip")
    if "backbone" in given:
        given["backbones"] = (given.pop("backbone"),)
    if given.get("encoder") is not None:
        given["encoder"] = str(Path(given["encoder"]).absolute())
    return given
