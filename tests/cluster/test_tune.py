"""Tuning: trials on a cluster, which go on; a table, a plot, and settings to train with."""

from __future__ import annotations

import csv
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from aftermap.cluster import tune as tuning
from aftermap.cluster.experiment import seen_by_all
from aftermap.cluster.status import status
from aftermap.cluster.tune import tune
from aftermap.models.presets import train_config
from aftermap.models.search import settings
from aftermap.scenes.errors import AftermapError, Refused, UsageError
from chips_made import square, write_chips


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    mask = square(32, np.s_[8:20], np.s_[8:20])
    return write_chips(tmp_path_factory.mktemp("chips"), [mask] * 20)


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
    assert f"settings   {done.best}" in done.text()

    # Run again it has nothing to do; with more trials it adds to them.
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    more = tune(shared(chips), tmp_path, trials=5, cluster="threads", workers=1)
    assert len(more.trials) == 5
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items())
    # Those that are there count, however few are asked for.
    again = tune(shared(chips), tmp_path, trials=2, cluster="threads", workers=1)
    assert again.trials == more.trials
    with pytest.raises(Refused, match=r"another search: steps was 1, now 2\. Give another --out"):
        tune(shared(chips, steps=2), tmp_path, trials=5, cluster="threads", workers=1)


def test_the_best_settings_are_those_of_the_best_trial(chips: Path, tmp_path: Path) -> None:
    """Of its network and of the preset too: whoever trains with them trains what did best."""
    asked = shared(chips, method="fc-ef")
    done = tune(asked, tmp_path, trials=1, cluster="threads", workers=1, preset="kahramanmaras")
    trial = done.trials[0].settings
    config = train_config({"out": "x"}, str(done.best))
    assert (config.method, config.intact, config.clip) == ("fc-ef", False, math.inf)
    assert (config.augment, config.schedule, config.resolution) == (
        "paper",
        "constant",
        (0.25, 0.6),
    )
    assert {name: getattr(config, name) for name in trial} == trial
    assert config.data == ("synthetic",)  # the chips are those of whoever trains
    assert "Infinity" not in done.best.read_text().replace('"Infinity"', "")  # plain JSON
    # What is asked for stands above them.
    assert train_config({"out": "x", "method": "fc-siam-conc"}, str(done.best)).method != "fc-ef"


def test_settings_of_one_loss_do_not_hinder_another(tmp_path: Path) -> None:
    file = tmp_path / "best.json"
    file.write_text(json.dumps({"classes": 1, "loss": "bce", "pos_weight": 16.0}))
    assert train_config({"out": "x"}, str(file)).pos_weight == 16.0
    assert train_config({"out": "x", "loss": "dice"}, str(file)).pos_weight is None
    graded = train_config({"out": "x", "classes": 5}, str(file))
    assert (graded.loss, graded.pos_weight) == ("auto", None)
    file.write_text(json.dumps({"classes": 5, "loss": "levels-lovasz"}))
    assert train_config({"out": "x"}, str(file)).loss == "levels-lovasz"


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


def test_a_search_of_which_nothing_came_names_no_best(chips: Path, tmp_path: Path) -> None:
    beyond = shared(chips, encoder_lr=1e30, steps=3)
    with pytest.raises(AftermapError, match=r"All 2 trials failed, .* the loss is nan"):
        tune(beyond, tmp_path, trials=2, cluster="threads", workers=1)
    assert (tmp_path / "trials.csv").is_file()
    assert not (tmp_path / "best.json").exists()


def test_searches_that_make_no_sense(chips: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lr, size: the search draws these itself"):
        tune(shared(chips, lr=1.0, size="small"), tmp_path)
    with pytest.raises(UsageError, match="--trials 0"):
        tune(shared(chips), tmp_path, trials=0)
    with pytest.raises(Refused, match="no folder of chips"):
        tune(shared(tmp_path), tmp_path / "out", trials=2, cluster="threads", workers=1)
    with pytest.raises(UsageError, match="multiples of"):
        tune(shared(chips, chip=33), tmp_path / "out", trials=2, cluster="threads", workers=1)
    with pytest.raises(UsageError, match="--seed -1"):
        tune(shared(chips, seed=-1), tmp_path / "out")
    with pytest.raises(UsageError, match=r"--method dual-hrnet: .*fc-ef"):
        tune(shared(chips, method="dual-hrnet"), tmp_path / "out")
    assert not (tmp_path / "out").exists()  # so that the mended command is no other search


def test_folders_of_something_else_are_left_alone(chips: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for out, told in (
        (tmp_path, "holds 'notes.txt', which no search wrote"),
        (tmp_path / "notes.txt", "notes.txt is in the way"),
        (tmp_path / "notes.txt" / "under", "notes.txt is in the way"),
    ):
        with pytest.raises(Refused, match=rf"{told}.*--out"):
            tune(shared(chips), out, trials=1, cluster="threads", workers=1)
    for content in ("[1]", "{"):
        (tmp_path / "search.json").write_text(content)
        with pytest.raises(Refused, match=r"search\.json is not what a search writes"):
            tune(shared(chips), tmp_path, trials=1, cluster="threads", workers=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt", "search.json"]


def test_chips_are_found_from_any_folder(
    chips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers of a cluster may have been started elsewhere."""
    monkeypatch.chdir(chips.parent)
    assert seen_by_all({"data": (chips.name, "synthetic")})["data"] == (str(chips), "synthetic")
    files = seen_by_all({"encoder": "w.safetensors", "init": None})
    assert files == {"encoder": str(chips.parent / "w.safetensors"), "init": None}
    done = tune(shared(Path(chips.name)), tmp_path, trials=1, cluster="threads", workers=1)
    monkeypatch.chdir(tmp_path)
    assert tune(shared(chips), tmp_path, trials=1, cluster="threads").trials == done.trials


def test_a_search_in_threads_that_is_interrupted_ends_in_words(chips: Path, tmp_path: Path) -> None:
    """Its thread trains on while the process ends, and is not let abort it."""
    words = [sys.executable, "-m", "aftermap", "tune", "--data", str(chips), "--trials", "1",
             "--epochs", "9999", "--steps", "1", "--chip", "32", "--cluster", "threads",
             "--workers", "1", "-o", str(tmp_path / "out")]  # fmt: skip
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "out/trials/0000/state.safetensors").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, told
    assert told.strip().endswith("Run the same command again to go on.")
    found = status(tmp_path / "out")
    assert (found.state, found.holder) == ("stopped", None)
