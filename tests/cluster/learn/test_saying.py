"""What the model in use says of a square."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from aftermap.cluster.catalog.tables import Model
from aftermap.cluster.learn.config import LearnConfig
from aftermap.cluster.learn.learn import learn
from aftermap.cluster.learn.saying import says
from aftermap.models.roc import auc
from aftermap.scenes.errors import Refused, UsageError
from learn_town import SIDE, Town


def test_the_model_in_use_says_what_it_learnt(
    town: Town, quick: Callable[..., LearnConfig]
) -> None:
    with pytest.raises(Refused, match="No model is in use yet"):
        says(town.catalog, town.scene.id, (0, 0, SIDE))
    cells = town.cells(140)
    town.tag(cells[:110])
    found = learn(town.catalog, quick())
    said = [
        says(town.catalog, town.scene.id, (row * SIDE, col * SIDE, SIDE))
        for row, col in cells[110:]
    ]
    truth = np.array([town.struck[cell] for cell in cells[110:]])
    area = auc(np.array([one.score for one in said]), truth)
    assert area is not None
    assert area > 0.95
    for one in said:
        assert (one.model, one.method) == (found.model, "inception-window")
        assert one.label == ("damage" if one.score >= one.threshold else "no-damage")
    suggested = found.suggestions[0]
    square = suggested.square
    again = says(town.catalog, square.scene, (square.row, square.col, square.side))
    assert again.score == pytest.approx(suggested.score, abs=1e-5)
    # A square of another side is resampled.
    row, col = cells[0]
    assert 0 <= says(town.catalog, town.scene.id, (row * SIDE, col * SIDE, SIDE - 7)).score <= 1

    with pytest.raises(UsageError, match=r"lies outside town\.tif, which has 1152 rows"):
        says(town.catalog, town.scene.id, (1152 - SIDE + 1, 0, SIDE))
    for side in (15, 4097):
        with pytest.raises(UsageError, match=f"has 16 to 4096 px a side, not {side}"):
            says(town.catalog, town.scene.id, (0, 0, side))
    with pytest.raises(Refused, match="no scene number 77"):
        says(town.catalog, 77, (0, 0, SIDE))
    with town.catalog.writing() as session:
        session.get_one(Model, found.model).metrics = {"label_set": "levels"}
    assert {
        says(town.catalog, town.scene.id, (r * SIDE, c * SIDE, SIDE)).label for r, c in cells[:20]
    } == {
        "damage",
        "no-damage",
    }
