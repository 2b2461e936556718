"""What choosing squares is worth: how right a model is after so many tags, by how they were chosen.

    python benchmarks/active_learning.py --image docs/images/active-learning.svg

Squares of synthetic towns, of which few show damage, are tagged by their truth; a model is learnt as
`aftermap learn` does, on features of its backbone without weights, and examined on other ground.
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
from xml.sax.saxutils import escape

import numpy as np
import torch
from aftermap.cluster.learn.begin import SMALL
from aftermap.cluster.learn.choice import Pool, choose
from aftermap.cluster.learn.figures import Figures
from aftermap.cluster.learn.fitting import Learning, fitted
from aftermap.models.bottlenecks import Bottlenecks
from aftermap.models.heads import Forest, LinearHead
from aftermap.models.inception_window import InceptionWindow
from aftermap.models.photos.open import open_photos
from aftermap.models.photos.photoset import PhotoSet
from aftermap.models.photos.synthetic import PhotoRecipe, synthetic_photos

SIDE, BLOCK = 96, 4
"""Of squares, px; of blocks of ground, squares: 192 m."""

TOWNS = (("one", 1), ("two", 2), ("six", 6), ("seven", 7))
"""Names, and seeds of scenes that have enough damage."""

FIRST, STEP, LAST = 20, 20, 200
"""Tags at first, per step, and in the end."""

SEEN = 2
"""Damaged squares among the first tags, which whoever begins finds by eye; the others are by chance."""

CHOICES = {"random": "audit", "uncertain": "uncertain", "diverse": "diverse",
           "disagreement": "disagreement", "mixed": "mixed"}  # fmt: skip
"""Strategies, and what `choose` calls them."""

COLOURS = dict(zip(CHOICES, ("#888888", "#c0504d", "#6a8f3c", "#7d5fa6", "#1f5f8b"), strict=True))


@dataclass(frozen=True, eq=False)
class Ground:
    """Squares with their features."""

    features: np.ndarray
    damaged: np.ndarray
    blocks: np.ndarray


@dataclass(frozen=True)
class Point:
    """One model on the ground that is tested on."""

    strategy: str
    seed: int
    tags: int
    damaged: int
    """Of the tags, those with damage."""
    auc: float
    average_precision: float
    f1: float


def grounds(folder: Path, intact: int, damaged: int) -> tuple[Ground, Ground]:
    """What is tagged from and what is tested on: other ground of the same towns."""
    recipe = PhotoRecipe(
        TOWNS, intact, damaged, bare=True, parts=(("train", 0.6), ("test", 0.4)), side=SIDE, gsd=0.5
    )
    photos = open_photos(synthetic_photos(folder, recipe), SIDE)
    torch.manual_seed(0)
    kept = Bottlenecks(folder / "features", InceptionWindow(SMALL, SIDE).eval(), batch=1)
    return _ground(kept, photos.part("train")), _ground(kept, photos.part("test"))


def _ground(kept: Bottlenecks, photos: PhotoSet) -> Ground:
    blocks = []
    for photo in photos.photos:
        seed, row, col = photo.path.stem.split("-")
        blocks.append(f"{seed} {int(row) // SIDE // BLOCK} {int(col) // SIDE // BLOCK}")
    return Ground(kept.of(photos)[:, 0], photos.labels, np.array(blocks))


def simulated(pool: Ground, test: Ground, strategy: str, seed: int) -> Iterator[Point]:
    """Tag, learn, be examined, choose; the first tags depend on the seed alone."""
    rng = np.random.default_rng(seed)
    tagged = rng.permutation(np.flatnonzero(pool.damaged))[:SEEN].tolist()
    others = rng.permutation(len(pool.damaged))
    tagged += [n for n in others.tolist() if n not in tagged][: FIRST - SEEN]
    while True:
        learning = Learning(pool.features[tagged], pool.damaged[tagged], pool.blocks[tagged])
        head, threshold = fitted("logistic", learning)
        figures = Figures.of(head.scores(test.features), test.damaged, threshold)
        yield Point(strategy, seed, len(tagged), int(pool.damaged[tagged].sum()), figures.auc,
                    figures.average_precision, figures.f1)  # fmt: skip
        if len(tagged) >= LAST:
            return
        tagged += _next(pool, tagged, learning, head, threshold, strategy, seed)


def _next(
    pool: Ground, tagged: list[int], learning: Learning, head: LinearHead, threshold: float,
    strategy: str, seed: int,
) -> list[int]:  # fmt: skip
    open_ = np.setdiff1d(np.arange(len(pool.damaged)), tagged)
    features = pool.features[open_]
    others: tuple[np.ndarray, ...] = ()
    if strategy in ("disagreement", "mixed"):
        others = (Forest(200).fit(learning.features, learning.damaged).scores(features),)
    known = Pool(features, learning.features, head.scores(features), threshold, others)
    chosen = choose(known, CHOICES[strategy], STEP, seed=1000 * seed + len(tagged))
    return [int(open_[number]) for number, _ in chosen]


def spread(points: Sequence[Point], strategy: str, tags: int, figure: str) -> tuple[float, float]:
    """Mean and standard deviation over the seeds."""
    found = [getattr(p, figure) for p in points if (p.strategy, p.tags) == (strategy, tags)]
    return mean(found), stdev(found)


def text(points: Sequence[Point]) -> str:
    """Means and deviations at three moments; how far from chance each strategy is, seed by seed, with the
    standard error of that."""
    lines = [
        f"{'':<14}{'tags':>5} {'damaged':>8} {'AP':>15} {'AUC':>15} {'F1':>15}  AP over random"
    ]
    for tags in (60, 100, LAST):
        for strategy in CHOICES:
            told = [
                spread(points, strategy, tags, name) for name in ("average_precision", "auc", "f1")
            ]
            found = spread(points, strategy, tags, "damaged")[0]
            ahead = [
                one.average_precision - other.average_precision
                for one in points
                for other in points
                if one.tags == other.tags == tags and one.seed == other.seed
                and one.strategy == strategy and other.strategy == "random"
            ]  # fmt: skip
            better = sum(value > 0 for value in ahead)
            lines.append(
                f"{strategy:<14}{tags:>5} {found:>8.1f} "
                + " ".join(f"{m:>7.3f} ± {s:.3f}" for m, s in told)
                + f"  {mean(ahead):+.3f} ± {stdev(ahead) / len(ahead) ** 0.5:.3f}, "
                + f"better in {better} of {len(ahead)}"
            )
    return "\n".join(lines)


def drawing(points: Sequence[Point], title: str) -> str:
    """Average precision and AUC over tags as SVG; bands are the standard error of the mean."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 390" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#222">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="50" y="18" font-weight="600">{escape(title)}</text>',
    ]
    for left, figure, name in ((50, "average_precision", "average precision"), (470, "auc", "AUC")):
        parts += _plot(points, figure, name, left)
    for number, (strategy, colour) in enumerate(COLOURS.items()):
        x = 50 + 130 * number
        parts.append(
            f'<line x1="{x}" y1="370" x2="{x + 24}" y2="370" stroke="{colour}" stroke-width="3"/>'
        )
        parts.append(f'<text x="{x + 30}" y="374">{strategy}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _plot(points: Sequence[Point], figure: str, name: str, left: int) -> Iterator[str]:
    width, height, top = 340, 270, 50
    means = [spread(points, p.strategy, p.tags, figure)[0] for p in points]
    low, high = min(means) - 0.03, max(means) + 0.03
    tags = list(range(FIRST, LAST + 1, STEP))

    def at(count: int, value: float) -> str:
        x = left + (count - FIRST) / (LAST - FIRST) * width
        return f"{x:.1f},{top + (high - value) / (high - low) * height:.1f}"

    yield f'<text x="{left}" y="{top - 10}">{name}</text>'
    yield f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="#f6f7f8" stroke="#999"/>'
    for tick in np.arange(np.ceil(low * 10), high * 10) / 10:
        y = at(FIRST, tick).split(",")[1]
        yield f'<line x1="{left}" y1="{y}" x2="{left + width}" y2="{y}" stroke="#ddd"/>'
        yield f'<text x="{left - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{tick:.1f}</text>'
    for count in tags[::3]:
        x = at(count, high).split(",")[0]
        yield f'<text x="{x}" y="{top + height + 16}" text-anchor="middle">{count}</text>'
    yield f'<text x="{left + width / 2}" y="{top + height + 32}" text-anchor="middle">tags</text>'
    seeds = len({p.seed for p in points})
    for strategy, colour in COLOURS.items():
        rows = [(count, *spread(points, strategy, count, figure)) for count in tags]
        band = [at(c, m + s / seeds**0.5) for c, m, s in rows]
        band += [at(c, m - s / seeds**0.5) for c, m, s in reversed(rows)]
        line = " ".join(at(c, m) for c, m, _ in rows)
        yield f'<polygon points="{" ".join(band)}" fill="{colour}" opacity="0.15"/>'
        yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'


def main() -> None:
    """Simulate, print, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--intact", type=int, default=440, help="Squares of each town.")
    parser.add_argument("--damaged", type=int, default=35)
    parser.add_argument(
        "--folder", type=Path, help="For photos and features, kept for the next time."
    )
    parser.add_argument("--image", type=Path)
    parser.add_argument("--points", type=Path, help="Every point, as JSON.")
    given = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        pool, test = grounds(given.folder or Path(temporary), given.intact, given.damaged)
    share = f"{pool.damaged.mean():.1%} of them with damage"
    print(f"{len(pool.damaged)} squares to tag from, {share}; {len(test.damaged)} to test on")
    points = [
        point
        for seed in range(given.seeds)
        for strategy in CHOICES
        for point in simulated(pool, test, strategy, seed)
    ]
    print(text(points))
    print(f"{given.seeds} seeds, {time.monotonic() - started:.0f} s")
    if given.image:
        title = f"{len(pool.damaged)} squares of synthetic towns, {share}; {given.seeds} seeds"
        given.image.write_text(drawing(points, title), encoding="utf-8")
    if given.points:
        given.points.write_text(json.dumps([asdict(p) for p in points]), encoding="utf-8")


if __name__ == "__main__":
    main()
