"""The study of paper 003: few photos of one town, to find damage in another.

Tasks: one puts all photos into a plane by t-SNE; one for each seed draws photos to learn from, trains
all classifiers on features that are computed once, and tests them on a town they have not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...models.embedding import embedded
from ...models.heads import Fitter, Forest, LinearSVM, Logistic, Softmax
from ...models.image_features import FEATURES, channel_moments, described
from ...models.learning_curve import learning_curve
from ...models.photos.photoset import PhotoSet
from ...models.presets import OAXACA, OAXACA_SMALL
from ...models.recipes import SYNTHETIC
from ...models.town_split import TownSplit, draw, held_out, permuted
from ...scenes.errors import Refused, UsageError
from .backbone import backbone_of, features_of
from .oaxaca_table import METHODS, OaxacaStudied, Permutation, Plane, SeedOutcome
from .paper import Asked, Task
from .photo_settings import PhotoSettings, foreign, renamed


@dataclass(frozen=True, kw_only=True)
class OaxacaConfig(PhotoSettings):
    """What decides the figures. Raises UsageError for unusable values."""

    backbone: str
    """A model of timm."""
    side: int
    """Of the photos as the backbone sees them, px; the command line calls it --chip."""
    steps: int
    """Of the softmax layer's gradient descent, each of `batch` photos at the rate `lr`."""
    batch: int
    lr: float
    trees: int
    """Of random forests."""
    sizes: tuple[int, ...]
    """Photos that are learnt from, half of them with damage."""
    test_size: int
    """Photos of each class that are tested on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sizes", tuple(self.sizes))
        # Half of the photos show damage.
        if not self.sizes or min(self.sizes) < 4 or any(size % 2 for size in self.sizes):
            raise UsageError(f"Sizes are even numbers of 4 photos or more; got {list(self.sizes)}.")

    def fitters(self) -> dict[str, Callable[[int], Fitter]]:
        """How each method fits a classifier, from a seed."""

        def forest(seed: int) -> Fitter:
            return Forest(self.trees, seed)

        found: dict[str, Callable[[int], Fitter]] = dict.fromkeys(("forest", *FEATURES), forest)
        found["softmax"] = lambda seed: Softmax(self.steps, self.batch, self.lr, seed)
        found["logistic"] = lambda seed: Logistic()
        found["svm"] = lambda seed: LinearSVM()
        return found


@dataclass(frozen=True, eq=False)
class Embedding(Task):
    """All photos as points of a plane."""

    config: OaxacaConfig

    def carry_out(self) -> dict[str, Any]:
        """Embed the means and deviations of bands, as the paper does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        opened = self.config.opened(self.folder.parent, self.config.side)
        photos = self.config.usable(opened)
        points = embedded(described(photos, channel_moments))
        towns = photos.towns
        return asdict(
            Plane(
                towns,
                points.tolist(),
                [towns.index(photo.town) for photo in photos.photos],
                photos.labels.tolist(),
                len(opened.unreadable),
                len(opened) - len(photos),
            )
        )


@dataclass(frozen=True, eq=False)
class Classifiers(Task):
    """All classifiers of a seed."""

    config: OaxacaConfig

    def carry_out(self) -> dict[str, Any]:
        """Train and test each method on two towns and one, and the paper's in all six ways."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.config
        photos = config.photos(self.folder.parent, config.side)
        network = backbone_of(config.backbone, config.side, config.encoder)
        features = features_of(network, photos, self.folder.parent / "features")
        plain = {name: described(photos, way)[:, None] for name, way in FEATURES.items()}

        def curve(splits: Sequence[TownSplit], method: str) -> list[dict[str, Any]]:
            known, fitter = plain.get(method, features), config.fitters()[method]
            points = learning_curve(
                photos, known, splits, fitter, config.sizes, (self.seed,), config.test_size
            )
            return [asdict(point) for point in points]

        return asdict(
            SeedOutcome(
                self.seed,
                curve(permuted(photos.towns), "softmax"),
                {method: curve(held_out(photos.towns), method) for method in METHODS},
                [self._scored(photos, features[:, 0], way) for way in permuted(photos.towns)],
            )
        )

    def _scored(self, photos: PhotoSet, features: np.ndarray, split: TownSplit) -> Permutation:
        """What the paper's layer says after most photos, of those to validate on and to test on."""
        config = self.config
        parts = draw(photos, split, max(config.sizes) // 2, self.seed, config.test_size)
        number = {photo: index for index, photo in enumerate(photos.photos)}

        def rows(part: PhotoSet) -> np.ndarray:
            return features[[number[photo] for photo in part.photos]]

        head = config.fitters()["softmax"](self.seed).fit(rows(parts.train), parts.train.labels)
        validation, test = (head.scores(rows(part)) for part in (parts.validation, parts.test))
        return Permutation(
            split.code,
            validation.tolist(),
            parts.validation.labels.tolist(),
            test.tolist(),
            parts.test.labels.tolist(),
        )


class Oaxaca:
    """Curves over few photos, all classifiers beside each other, a threshold, and a plane."""

    foreign: ClassVar[frozenset[str]] = foreign("steps")
    pretrains: ClassVar[bool] = False
    training: ClassVar[Mapping[str, Any]] = {}
    """How settings differ from the paper's."""

    def __init__(self, asked: Asked) -> None:
        self.config = OaxacaConfig(**(OAXACA | dict(self.training) | renamed(asked.training)))
        self.path = asked.path
        self.tasks = tuple(self._tasks(asked))

    def settings(self) -> dict[str, Any]:
        """Those of all tasks."""
        return self.config.decisive()

    def check(self) -> None:
        """Refuse a backbone that does not fit, and towns with too few photos."""
        config = self.config
        backbone_of(config.backbone, config.side, config.encoder)
        if config.source == SYNTHETIC:
            permuted([name for name, _ in config.synthetic.towns])
            most = max(*config.sizes, 2 * config.test_size) // 2
            least = min(config.synthetic.damaged, config.synthetic.intact)
            if least < most:
                raise Refused(f"{most} synthetic photos of each class are needed; got {least}.")
            return
        photos = config.photos(self.path, config.side)
        for split in (*permuted(photos.towns), *held_out(photos.towns)):
            draw(photos, split, max(config.sizes) // 2, 0, config.test_size)

    def studied(
        self, path: Path, facts: Mapping[str, Any], outcomes: Sequence[Mapping[str, Any]]
    ) -> OaxacaStudied:
        """Its tables."""
        plane, *seeds = outcomes
        return OaxacaStudied(
            path, facts, Plane(**plane), tuple(SeedOutcome.of(outcome) for outcome in seeds)
        )

    def _tasks(self, asked: Asked) -> Iterator[Task]:
        yield Embedding("the plane", 0, asked.path / "plane", self.config)
        for seed in range(asked.seeds):
            yield Classifiers("classifiers", seed, asked.path / f"seed-{seed}", self.config)


class SmallOaxaca(Oaxaca):
    """The same, small enough for two cores."""

    training = OAXACA_SMALL
