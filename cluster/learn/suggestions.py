"""The squares that people should look at next, as they are shown to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sqlalchemy import delete

from ...models.bottlenecks import Bottlenecks
from ...models.heads import Forest
from ..catalog.catalog import Catalog
from ..catalog.tables import Suggestion
from .candidates import Candidates
from .choice import Pool, choose
from .config import LearnConfig
from .fitting import Learning, scores_of
from .pictures import Square
from .runs_say import runs_say

_TREES = 200
"""Of the forest that is asked for a second opinion."""


@dataclass(frozen=True)
class Suggested:
    """A square, what the model says of it, and why it should be looked at."""

    square: Square
    name: str
    """Of the scene."""
    score: float | None
    """None without a model."""
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def suggested(
    catalog: Catalog,
    config: LearnConfig,
    kept: Bottlenecks,
    candidates: Candidates,
    learning: Learning,
    threshold: float | None,
    progress: Callable[[int, int], None],
) -> list[Suggested]:
    """Choose among candidates, in the order in which they should be shown.

    `kept` has the network and its features. `threshold` None: there is no model yet, and the network's
    last layer says nothing.
    """
    pictures = candidates.pictures
    if not len(pictures):
        return []
    features = kept.of(pictures, progress=progress)[:, 0]
    scores = None if threshold is None else scores_of(kept.network, features)
    others: tuple[np.ndarray, ...] = ()
    if scores is not None and config.how in ("mixed", "disagreement"):
        forest = Forest(_TREES).fit(learning.features, learning.damaged)
        others = (forest.scores(features), runs_say(catalog, pictures))
    pool = Pool(features, learning.features, scores, threshold or 0.0, others)
    return [
        Suggested(
            pictures.squares[number],
            pictures.scenes[pictures.squares[number].scene].name,
            None if scores is None else float(scores[number]),
            reason,
        )
        for number, reason in choose(pool, config.how, config.count)
    ]


def keep_suggestions(catalog: Catalog, found: Sequence[Suggested], model: int | None) -> None:
    """Put suggestions in the place of earlier ones, all at once."""
    with catalog.writing() as session:
        session.execute(delete(Suggestion))
        session.add_all(
            Suggestion(
                scene_id=one.square.scene, row=one.square.row, col=one.square.col,
                side=one.square.side, model_id=model, score=one.score, reason=one.reason,
            )
            for one in found
        )  # fmt: skip


def told(found: Sequence[Suggested], shown: int = 5) -> list[str]:
    """Suggestions as lines of text."""
    reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(s.reason for s in found).items())
    lines = [f"next       {len(found)} squares{f': {reasons}' if reasons else ''}"]
    for one in found[:shown]:
        score = "" if one.score is None else f"  score {one.score:.3f}"
        place = f"row {one.square.row}, column {one.square.col}, {one.square.side} px"
        lines.append(f"           {one.name}: {place}{score}  {one.reason}")
    return lines
