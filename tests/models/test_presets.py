"""Presets: the numbers of paper 001, tables I and II, and files that hold settings."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from aftermap.models.presets import pretrain_config, train_config
from aftermap.models.search import SPACE, settings
from aftermap.scenes.errors import Refused, UsageError

TABLE_II = {
    "fc-ef": ("dice", 4, 4e-5, 7e-5, 0.01),
    "fc-siam-conc": ("iou", 4, 5e-4, 2e-4, 0.02),
    "fc-siam-diff": ("dice", 8, 3e-4, 2e-3, 0.05),
}


@pytest.mark.parametrize("method", TABLE_II)
def test_table_two(method: str) -> None:
    config = train_config({"out": "x", "method": method}, "kahramanmaras")
    found = config.loss, config.batch, config.lr, config.weight_decay, config.dropout
    assert found == TABLE_II[method]
    assert (config.size, config.classes, config.chip, config.epochs) == ("large", 1, 1024, 100)
    assert (config.schedule, config.augment, config.intact) == ("constant", "paper", False)
    assert config.clip == math.inf


def test_what_is_asked_for_wins() -> None:
    config = train_config({"out": "x", "epochs": 3, "size": "small"}, "kahramanmaras")
    assert (config.epochs, config.size, config.loss) == (3, "small", "dice")
    assert train_config({"out": "x"}).epochs == 12
    graded = train_config({"out": "x", "classes": 5}, "kahramanmaras")
    assert (graded.loss, graded.classes, graded.lr) == ("auto", 5, 3e-4)


@pytest.mark.parametrize(("method", "pairs"), [("fc-ef", 121_000), ("fc-siam-conc", 200 * 268)])
def test_pretraining_of_section_four(method: str, pairs: int) -> None:
    config = pretrain_config({"out": "x", "method": method}, "kahramanmaras")
    assert (config.batch, config.lr, config.weight_decay, config.margin) == (8, 1e-5, 1e-4, 1.0)
    assert config.steps is not None
    assert config.epochs * config.steps * config.batch == pytest.approx(pairs, rel=0.02)


def test_settings_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "best.json"
    file.write_text(json.dumps({"lr": 0.5, "size": "large"}))
    assert train_config({"out": "x"}, str(file)).lr == 0.5
    file.write_text(json.dumps({"lr": 0.5, "colour": "red"}))
    with pytest.raises(Refused, match="holds colour, no settings"):
        train_config({"out": "x"}, str(file))
    file.write_text("[")
    with pytest.raises(Refused, match=r"cannot be read.*--preset"):
        train_config({"out": "x"}, str(file))
    with pytest.raises(UsageError, match="Unknown preset 'nonsense'"):
        train_config({"out": "x"}, "nonsense")
    with pytest.raises(UsageError, match="is for fc-ef"):
        train_config({"out": "x", "method": "difference"}, "kahramanmaras")
    with pytest.raises(UsageError, match="Unknown preset"):
        pretrain_config({"out": "x"}, "nonsense")


def test_trials_cover_table_one() -> None:
    drawn = [settings(7, number) for number in range(400)]
    assert drawn[3] == settings(7, 3) != settings(8, 3)
    assert {d["loss"] for d in drawn} == {"bce", "dice", "iou"}
    assert {d["size"] for d in drawn} == {"small", "medium", "large"}
    assert {(d["batch"], d["accumulate"]) for d in drawn} == {(4, 1), (8, 2), (16, 4), (32, 8)}
    for name, low, high in (("lr", 1e-5, 1e-2), ("weight_decay", 1e-5, 1e-1)):
        logs = np.log([d[name] for d in drawn])
        assert np.log(low) - 1e-6 <= logs.min() < logs.max() <= np.log(high) + 1e-3
        assert np.median(logs) == pytest.approx(np.log(math.sqrt(low * high)), abs=0.5)
    dropout = [d["dropout"] for d in drawn]
    assert 0 <= min(dropout) < 0.02 < 0.48 < max(dropout) <= 0.5
    assert all(("pos_weight" in d) == (d["loss"] == "bce") for d in drawn)
    assert set(SPACE) == {"loss", "batch", "lr", "weight_decay", "dropout", "size"}
    for d in drawn[:20]:
        train_config({"out": "x", "classes": 1} | d)  # all of them are sound
