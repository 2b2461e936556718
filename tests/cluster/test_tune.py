"""Tuning: trials on a cluster, which go on; a table, a plot, and settings to train with."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from aftermap.cluster import tune as tuning
from aftermap.cluster.tune import tune
from aftermap.models.presets import train_config
from aftermap.models.search import settings
from aftermap.scenes.errors import AftermapError, Refused, UsageError
from PIL import Image


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("chips")
    rng = np.random.default_rng(0)
    for i in range(20):
        pre = rng.integers(90, 110, (32, 32, 3)).astype(np.uint8)
        post, mask = pre.copy(), np.zeros((32, 32), np.uint8)
        post[8:20, 8:20], mask[8:20, 8:20] = 10, 1
        for name, array in (("pre", pre), ("post", post), ("mask", mask)):
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(array).save(root / name / f"{i:02d}.png")
    return root


def shared(chips: Path, **changes: object) -> dict[str, object]:
    return {"data": (str(chips),), "epochs": 1, "steps": 1, "chip": 32, "core": 512} | changes


def test_a_search_from_end_to_end(chips: Path, tmp_path: Path) -> None:
    done = tune(shared(chips), tmp_path, trials=4, cluster="threads", workers=1)
    scores = [trial.score for trial in done.trials]
    assert all(score is not None for score in scores)
    assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]
    with (tmp_path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["score"]) for row in rows] == scores
    for row in rows:
        drawn = settings(0, int(row["trial"]))
        assert float(row["lr"]) == drawn["lr"]
        assert row["loss"] == drawn["loss"]
    picture = ElementTree.parse(tmp_path / "trials.svg")
    dots = picture.findall(".//{http://www.w3.org/2000/svg}circle")
    assert len(dots) == 4 * 6
    best = train_config({"out": "x"}, str(done.best))
    assert best.lr == done.trials[0].settings["lr"]
    assert best.epochs == 12  # those of a trial are for comparing only
    assert "Try: aftermap train --preset" in done.text()

    # Run again it has nothing to do; with more trials it adds to them.
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    more = tune(shared(chips), tmp_path, trials=5, cluster="threads", workers=1)
    assert len(more.trials) == 5
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items())
    with pytest.raises(Refused, match=r"another search: .*steps was 1, now 2"):
        tune(shared(chips, steps=2), tmp_path, trials=5, cluster="threads", workers=1)


def test_a_trial_that_fails_is_noted(
    chips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tuning.train

    def fails(config, tell):  # type: ignore[no-untyped-def]
        if config.out.endswith("0001"):
            raise AftermapError("The training stopped in epoch 1: the loss is nan.")
        return real(config, tell)

    monkeypatch.setattr(tuning, "train", fails)
    done = tune(shared(chips), tmp_path, trials=2, cluster="threads", workers=1)
    assert [trial.score is None for trial in done.trials] == [False, True]
    assert "failed     1 of 2: The training stopped" in done.text()
    assert json.loads((tmp_path / "trials/0001/result.json").read_text())["score"] is None


def test_searches_that_make_no_sense(chips: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lr, size: the search draws these itself"):
        tune(shared(chips, lr=1.0, size="small"), tmp_path)
    with pytest.raises(UsageError, match="--trials 0"):
        tune(shared(chips), tmp_path, trials=0)
    with pytest.raises(Refused, match="no folder of chips"):
        tune(shared(tmp_path), tmp_path / "out", trials=2, cluster="threads", workers=1)
