"""What the command line makes of training arguments, and the commands from end to end."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from aftermap.cluster.learning import given, sources
from aftermap.models.checkpoint import read_card
from aftermap.models.recipes import PretrainConfig, TrainConfig
from aftermap.scenes.errors import UsageError
from chips_made import half_damaged


def test_sources_and_their_weights(tmp_path: Path) -> None:
    assert sources(["chips", "synthetic"]) == {"data": ("chips", "synthetic"), "weights": ()}
    assert sources(["chips=2", "synthetic=1"])["weights"] == (2.0, 1.0)
    odd = tmp_path / "a=b"
    odd.mkdir()
    assert sources([str(odd)]) == {"data": (str(odd),), "weights": ()}
    with pytest.raises(UsageError, match="Either each --data has a weight"):
        sources(["chips=2", "synthetic"])
    with pytest.raises(UsageError, match="'much' is no weight"):
        sources(["chips=much"])
    with pytest.raises(UsageError, match="positive numbers"):
        TrainConfig(out="x", **sources(["chips=-1"]))


def test_what_was_not_given_is_left_to_the_recipe() -> None:
    arguments = {"out": Path("o"), "data": None, "lr": 0.5, "epochs": None, "as_json": False}
    assert given(TrainConfig, arguments) == {"out": "o", "lr": 0.5}
    # The cluster's workers are not the threads that prepare batches.
    assert given(TrainConfig, arguments | {"workers": 20}) == {"out": "o", "lr": 0.5}
    assert given(PretrainConfig, arguments | {"data": ["c"]})["data"] == ("c",)


def command(*words: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "aftermap", *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_commands_one_after_the_other(tmp_path: Path) -> None:
    """Pre-train, train from the encoder, evaluate: each prints what to do next."""
    half_damaged(tmp_path / "chips", 80)
    small = ("--data", tmp_path / "chips", "--size", "small", "--chip", 32, "--epochs", 1, "--steps", 2)  # fmt: skip
    told = command("pretrain", *small, "-o", tmp_path / "encoder")
    encoder = tmp_path / "encoder" / "fc-siam-diff-encoder.safetensors"
    assert f"--data {tmp_path / 'chips'} --encoder {encoder}" in told
    told = command(
        "train", *small, "--classes", 1, "--encoder", encoder, "--freeze", "all", "-o", tmp_path / "w"
    )  # fmt: skip
    weights = tmp_path / "w" / "fc-siam-diff.safetensors"
    assert f"--weights {weights}" in told
    told = command(
        "evaluate", weights, "--data", tmp_path / "chips", "-o", tmp_path / "e", "--json"
    )
    assert json.loads(told)["images"] == 12
    assert (tmp_path / "e" / "evaluation.html").is_file()


@pytest.mark.slow
def test_a_search_says_how_to_train_with_what_it_found(tmp_path: Path) -> None:
    """What it prints trains the network that was searched with, on the same chips."""
    chips = half_damaged(tmp_path / "my chips", 40)
    small = ("--data", chips, "--chip", 32, "--epochs", 1, "--steps", 1)
    told = command(
        "tune", *small, "--method", "fc-ef", "--trials", 1, "--cluster", "threads", "--workers", 2,
        "-o", tmp_path / "t",
    )  # fmt: skip
    said = next(line for line in told.splitlines() if line.startswith("Try: aftermap "))
    words = shlex.split(said.removeprefix("Try: aftermap "))
    told = command(*words, "--epochs", 1, "-o", tmp_path / "w")
    card = read_card(tmp_path / "w" / "fc-ef.safetensors")
    assert "my chips" in card.training_data
