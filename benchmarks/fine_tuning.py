"""What tuning the whole network is worth beside the last layer alone, after so many tags.

    python benchmarks/fine_tuning.py --seeds 0 1 2 3 4

Squares of synthetic towns are tagged as `aftermap learn` suggests them by default, as in
`active_learning.py`; both ways begin with the same backbone without weights, learn as `aftermap learn`
does, and are examined on other ground of the same towns.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from active_learning import FIRST, SEEN, SIDE, TOWNS, Ground, _ground, _next
from aftermap.cluster.learn.begin import SMALL
from aftermap.cluster.learn.figures import Figures
from aftermap.cluster.learn.fitting import Learning, fitted, scores_of
from aftermap.cluster.learn.tuning import Trial, tuned
from aftermap.models.bottlenecks import Bottlenecks
from aftermap.models.fine_tuning import FineTuning
from aftermap.models.inception_window import InceptionWindow
from aftermap.models.photos.open import open_photos
from aftermap.models.photos.photoset import PhotoSet
from aftermap.models.photos.synthetic import PhotoRecipe, synthetic_photos


@dataclass(frozen=True)
class Point:
    """Both ways after so many tags, on the ground that is tested on."""

    seed: int
    tags: int
    damaged: int
    """Of the tags, those with damage."""
    trial: Trial
    """On the tags that are kept aside."""
    head: Figures
    network: Figures
    seconds: float
    """That tuning took."""

    @property
    def kept(self) -> Figures:
        """Of what `aftermap learn --layers all` keeps."""
        return self.network if self.trial.better else self.head


@dataclass(frozen=True, eq=False)
class Towns:
    """What is tagged from and what is tested on, and a folder for features."""

    pool: PhotoSet
    test: PhotoSet
    folder: Path

    def network(self) -> InceptionWindow:
        """What both ways begin with."""
        torch.manual_seed(0)
        return InceptionWindow(SMALL, SIDE).eval()

    def features(self, network: InceptionWindow, photos: PhotoSet) -> np.ndarray:
        """As `aftermap learn` computes them."""
        return Bottlenecks(self.folder, network, batch=1).of(photos)[:, 0]


def tagged(pool: Ground, seed: int, counts: Sequence[int]) -> Iterator[list[int]]:
    """The squares that are tagged after so many tags: first by chance, then as they are suggested."""
    rng = np.random.default_rng(seed)
    found = rng.permutation(np.flatnonzero(pool.damaged))[:SEEN].tolist()
    others = rng.permutation(len(pool.damaged))
    found += [n for n in others.tolist() if n not in found][: FIRST - SEEN]
    while True:
        if len(found) in counts:
            yield list(found)
        if len(found) >= max(counts):
            return
        learning = Learning(pool.features[found], pool.damaged[found], pool.blocks[found])
        head, threshold = fitted("logistic", learning)
        found += _next(pool, found, learning, head, threshold, "mixed", seed)


def compared(
    towns: Towns, pool: Ground, test: Ground, tags: list[int], seed: int, tuning: FineTuning
) -> Point:
    """Learn both ways from some tags."""
    learning = Learning(pool.features[tags], pool.damaged[tags], pool.blocks[tags])
    layer, threshold = fitted("logistic", learning)
    head = Figures.of(layer.scores(test.features), test.damaged, threshold)
    photos, network, started = towns.pool.subset(tags), towns.network(), time.monotonic()
    trials: list[InceptionWindow] = []

    def features_of(other: InceptionWindow) -> np.ndarray:
        trials.append(other)
        return towns.features(other, photos)

    trial, threshold = tuned(
        network, photos, learning, "logistic", features_of, lambda done, of: None, tuning
    )
    seconds = time.monotonic() - started
    scores = scores_of(trials[0], towns.features(trials[0], towns.test))
    whole = Figures.of(scores, test.damaged, threshold)
    return Point(
        seed, len(tags), int(learning.damaged.sum()), trial, head, whole, round(seconds, 1)
    )


def text(points: Sequence[Point]) -> str:
    """Means and standard deviations over the seeds."""
    lines = [f"{'':<14}{'tags':>5} {'damaged':>8} {'AP':>15} {'AUC':>15} {'F1':>15}"]
    for tags in sorted({point.tags for point in points}):
        some = [point for point in points if point.tags == tags]
        damaged = mean(point.damaged for point in some)
        for name in ("head", "network", "kept"):
            told = []
            for figure in ("average_precision", "auc", "f1"):
                found = [getattr(getattr(point, name), figure) for point in some]
                told.append(f"{mean(found):>7.3f} ± {stdev(found) if len(found) > 1 else 0:.3f}")
            lines.append(f"{name:<14}{tags:>5} {damaged:>8.1f} {' '.join(told)}")
        better = sum(p.network.average_precision > p.head.average_precision for p in some)
        kept = sum(point.trial.better for point in some)
        lines.append(
            f"{'':<14}tuned is better in {better} of {len(some)}, kept in {kept}; "
            f"{mean(point.seconds for point in some):.0f} s"
        )
    return "\n".join(lines)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--tags", type=int, nargs="+", default=[200, 400])
    parser.add_argument("--epochs", type=int, default=FineTuning.epochs)
    parser.add_argument("--rate", type=float, default=FineTuning.rate)
    parser.add_argument("--folder", type=Path, help="For photos, kept for the next time.")
    parser.add_argument("--points", type=Path, help="Every point, as JSON.")
    given = parser.parse_args()
    torch.set_num_threads(1)
    recipe = PhotoRecipe(
        TOWNS, 440, 35, bare=True, parts=(("train", 0.6), ("test", 0.4)), side=SIDE, gsd=0.5
    )
    points = []
    with tempfile.TemporaryDirectory() as temporary:
        photos = open_photos(synthetic_photos(given.folder or temporary, recipe), SIDE)
        towns = Towns(photos.part("train"), photos.part("test"), Path(temporary) / "features")
        kept = Bottlenecks(towns.folder, towns.network(), batch=1)
        pool, test = _ground(kept, towns.pool), _ground(kept, towns.test)
        tuning = FineTuning(epochs=given.epochs, rate=given.rate)
        for seed in given.seeds:
            for tags in tagged(pool, seed, given.tags):
                points.append(compared(towns, pool, test, tags, seed, tuning))
                print(points[-1], flush=True)
    print(text(points))
    if given.points:
        given.points.write_text(json.dumps([asdict(p) for p in points]), encoding="utf-8")


if __name__ == "__main__":
    main()
