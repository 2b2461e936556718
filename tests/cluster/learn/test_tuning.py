"""The whole network learnt from tags: from what ground, judged by what, and kept only where it is better."""

from __future__ import annotations

import copy
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from affine import Affine
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.imagery import add_images
from aftermap.cluster.catalog.labels import latest
from aftermap.cluster.catalog.lineage import weights_of
from aftermap.cluster.catalog.tables import Model
from aftermap.cluster.learn.config import LearnConfig
from aftermap.cluster.learn.features import BACKBONES, KeptFeatures
from aftermap.cluster.learn.fitting import Learning, _folds, best_threshold, fitted
from aftermap.cluster.learn.jobs import jobs
from aftermap.cluster.learn.learn import learn
from aftermap.cluster.learn.parts import ASIDE, kept_aside
from aftermap.cluster.learn.tuning import Trial, tuned
from aftermap.models.bottlenecks import Bottlenecks
from aftermap.models.checkpoint import load
from aftermap.models.fine_tuning import FineTuning
from aftermap.models.heads import Logistic
from aftermap.models.inception_window import InceptionWindow
from checks_made import Squares, checks
from learn_town import CELLS, SIDE, Town
from rasters import write_raster
from typer.testing import CliRunner

from aftermap.learn_command import learn_app

Quick = Callable[..., LearnConfig]
State = dict[str, torch.Tensor]

TUNING = FineTuning(epochs=8, rate=3e-3)


def _blocks(count: int, grounds: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"block {number}" for number in rng.integers(grounds, size=count)]


def _network(side: int = 32) -> InceptionWindow:
    torch.manual_seed(0)
    return InceptionWindow("test_resnet", side).eval()


def _state(network: InceptionWindow) -> State:
    return copy.deepcopy(network.state_dict())


def _same(one: State, other: State, prefix: str = "") -> bool:
    return all(torch.equal(one[key], other[key]) for key in one if key.startswith(prefix))


def _tuned(
    squares: Squares, blocks: list[str], folder: Path
) -> tuple[Trial, float, InceptionWindow, State]:
    """What comes of tuning, and the network before it."""
    network = _network(squares.side)
    before = _state(network)

    def features(other: InceptionWindow) -> np.ndarray:
        return Bottlenecks(folder, other, batch=1).of(squares)[:, 0]

    learning = Learning(features(network), squares.damaged, blocks)
    squares.read.clear()
    trial, threshold = tuned(
        network, squares, learning, "logistic", features, lambda done, of: None, TUNING
    )
    return trial, threshold, network, before


def test_ground_is_kept_aside_by_its_name_alone() -> None:
    names = [f"block {row} {col}" for row in range(50) for col in range(50)]
    share = np.mean([kept_aside(name) for name in names])
    assert abs(100 * share - ASIDE) < 3
    blocks = _blocks(300, 40)
    found = Learning(np.zeros((300, 1), np.float32), np.zeros(300, bool), blocks).aside
    where = {(block, bool(aside)) for block, aside in zip(blocks, found, strict=True)}
    assert len(where) == len(set(blocks))


def test_a_tuned_backbone_is_judged_on_ground_that_it_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    damaged = rng.random(200) < 0.4
    learning = Learning(np.empty((200, 1), np.float32), damaged, _blocks(200, 40), tuned=True)
    # What the backbone has learnt from it tells apart without error.
    features = np.where(learning.aside, rng.normal(size=200) + damaged, 20.0 * damaged - 10)
    learning = replace(learning, features=features[:, None].astype(np.float32))
    scores = np.empty(200)
    for seen, unseen in _folds(learning):
        layer = Logistic().fit(learning.features[seen], damaged[seen])
        scores[unseen] = layer.scores(learning.features[unseen])
    aside = learning.aside
    expected = best_threshold(scores[aside], damaged[aside], float(damaged.mean()))
    assert fitted("logistic", learning)[1] == pytest.approx(expected)
    assert fitted("logistic", replace(learning, tuned=False))[1] != pytest.approx(expected)


def test_a_network_is_tuned_where_the_last_layer_alone_is_worse(tmp_path: Path) -> None:
    squares = Squares(300)
    blocks = _blocks(300, 60)
    trial, threshold, network, before = _tuned(squares, blocks, tmp_path)
    assert trial.head is not None
    assert trial.network is not None
    assert trial.better
    assert trial.network > trial.head + 0.05
    assert "the whole network: average precision tuned" in trial.text()
    assert not _same(_state(network), before, "encoder.")
    aside = np.array([kept_aside(block) for block in blocks])
    assert (trial.aside, trial.damaged) == (aside.sum(), squares.damaged[aside].sum())
    # What is kept aside is only looked at, once.
    times = Counter({int(n): 1 if aside[n] else 1 + TUNING.epochs for n in range(300)})
    assert squares.read == times
    with torch.inference_mode():
        features = Bottlenecks(tmp_path, network, batch=1).of(squares)[aside, 0]
        scores = network.head(torch.from_numpy(features)).softmax(dim=1)[:, 1].numpy()
    expected = best_threshold(scores, squares.damaged[aside], float(squares.damaged.mean()))
    assert threshold == pytest.approx(expected)


def test_the_last_layer_alone_is_kept_where_tuning_is_no_better(tmp_path: Path) -> None:
    squares = Squares(80)
    squares.pixels[squares.damaged] //= 2  # as plain as it can be
    trial, _, network, before = _tuned(squares, _blocks(80, 30), tmp_path)
    assert (trial.head, trial.better) == (1.0, False)
    assert "the last layer alone is kept" in trial.text()
    assert _same(_state(network), before)


def test_nothing_is_tuned_where_little_is_kept_aside(tmp_path: Path) -> None:
    squares = Squares(40)
    trial, _, network, before = _tuned(squares, ["block 1"] * 40, tmp_path)
    assert (trial.network, trial.better) == (None, False)
    assert "5 chips of each kind are needed on the ground" in trial.text()
    assert not squares.read
    assert _same(_state(network), before)


def test_of_no_chips_there_are_no_features(plain: Town) -> None:
    """As where all that was tagged so far is to be tested on."""
    found = KeptFeatures(plain.catalog).of(_network(), [], lambda done, of: None)
    assert len(found) == 0


def test_features_of_the_backbones_used_last_are_kept(plain: Town) -> None:
    kept = KeptFeatures(plain.catalog)
    kept.tidy()
    root = plain.catalog.folder / "cache" / "features"
    for number in range(BACKBONES + 3):
        (root / f"backbone-{number}").mkdir(parents=True)
        (root / f"backbone-{number}" / "a.safetensors").write_bytes(b"")
        os.utime(root / f"backbone-{number}", (number, number))
    os.utime(root / "backbone-0")
    kept.tidy()
    last = {f"backbone-{number}" for number in range(4, BACKBONES + 3)}
    assert {folder.name for folder in root.iterdir()} == last | {"backbone-0"}


def test_the_command_says_which_way_was_taken(plain: Town) -> None:
    plain.tag(plain.cells(110))
    words = ["--catalog", str(plain.catalog.folder), "--backbone", "test_resnet", "--layers", "all",
             "--candidates", "40", "--count", "15", "--held-out", "0.4"]  # fmt: skip
    dry = CliRunner().invoke(learn_app, [*words, "--dry-run"])
    assert "Nothing was learnt or written" in dry.stdout
    assert not (plain.catalog.folder / "cache").exists()
    shown = CliRunner().invoke(learn_app, words)
    assert shown.exit_code == 0, shown.output
    # A town as small has too little ground to keep some aside.
    assert "learnt     the last layer alone: to tune the network 5 chips" in shown.stdout
    (job,) = jobs(plain.catalog)
    assert "in use" in job.told
    assert "the last layer alone" in job.told
    with plain.catalog.reading() as session:
        metrics = session.get_one(Model, 1).metrics
    assert (metrics["layers"], metrics["tuning"]["network"]) == ("last", None)


def _wide_town(folder: Path) -> Town:
    """A town of 2 m per pixel, so that it has many blocks of ground, whose damage is hard to see."""
    struck = np.random.default_rng(0).random((CELLS, CELLS)) < 0.4
    squares = checks(struck.ravel(), SIDE, strength=70)
    pixels = squares.reshape(CELLS, CELLS, 3, SIDE, SIDE).transpose(2, 0, 3, 1, 4)
    place = Affine(2, 0, 300_000, 0, -2, 4_100_000)
    file = write_raster(
        folder / "town.tif", pixels.reshape(3, CELLS * SIDE, CELLS * SIDE), transform=place
    )
    catalog = Catalog.open(folder / "catalog", None, create=True)
    scene = add_images(catalog, [str(file)]).new[0]
    with catalog.reading() as session:
        return Town(catalog, scene, latest(session, "damage"), struck, file)


@pytest.mark.slow
def test_a_tuned_network_is_catalogued_examined_and_learnt_from_again(
    tmp_path: Path, quick: Quick
) -> None:
    town = _wide_town(tmp_path)
    town.tag(town.cells(330))
    told: list[float] = []
    words: list[str] = []

    def tell(done: float, said: str) -> None:
        told.append(done)
        words.append(said)

    first = learn(town.catalog, quick(layers="all", promote="never"), tell=tell)
    again = learn(town.catalog, quick(layers="all", promote="always"))
    assert (again.digest, again.new) == (first.digest, False)
    assert told == sorted(told)
    assert "tuning the whole network, batch: 1 of" in " ".join(words)
    assert first.trial is not None
    assert first.trial.better
    alone = learn(town.catalog, quick(promote="never"))
    assert first.figures is not None
    assert alone.figures is not None
    assert first.figures.average_precision > alone.figures.average_precision

    town.tag(town.cells(360)[330:])
    second = learn(town.catalog, quick(backbone=None))
    assert second.begins.startswith(f"test_resnet of model {first.model}")
    with town.catalog.reading() as session:
        one, other, layer = (
            session.get_one(Model, n) for n in (first.model, second.model, alone.model)
        )
        assert (one.metrics["layers"], other.metrics["layers"]) == ("all", "last")
        assert one.metrics["tuning"] == first.trial.to_dict()
        assert other.parent_id == one.id
        states = [load(weights_of(town.catalog, m))[0].state_dict() for m in (one, other, layer)]
    assert _same(states[0], states[1], "encoder.")
    assert not _same(states[0], states[2], "encoder.")
    town.catalog.close()
