"""`aftermap learn` from its arguments to what it prints."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import get_args

import pytest
import typer
from aftermap.cluster.learn.begin import SMALL, begun
from aftermap.cluster.learn.config import Heads, LearnConfig
from aftermap.cluster.learn.jobs import jobs
from aftermap.models.inception_window import InceptionWindow
from aftermap.models.window_training import Heads as TrainedHeads
from aftermap.scenes.errors import Refused, UsageError
from learn_town import Town
from safetensors.torch import save_file
from typer.testing import CliRunner

from aftermap.learn_command import learn_app

QUICK = ("--backbone", "test_resnet", "--candidates", "40", "--count", "15", "--held-out", "0.4")


def _parsed(words: list[str]) -> dict[str, object]:
    return typer.main.get_command(learn_app).make_context("learn", words).params


@pytest.mark.parametrize(
    "config",
    [
        LearnConfig(),
        LearnConfig(
            label_set="levels",
            how="diverse",
            count=7,
            layers="all",
            head="svm",
            backbone="resnet18",
            encoder="w.safetensors",
            side=96,
            held_out=0.3,
            candidates=50,
            promote="never",
        ),
    ],
)
def test_a_configuration_survives_the_command_line(config: LearnConfig) -> None:
    found = _parsed(config.arguments())
    assert LearnConfig(**{f.name: found[f.name] for f in fields(LearnConfig)}) == config  # type: ignore[arg-type]


def test_heads_are_those_of_the_window_classifier() -> None:
    assert set(get_args(Heads)) == set(get_args(TrainedHeads))


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({"method": "fc-siam-diff"}, "--method"),
        ({"how": "best"}, "--how"),
        ({"promote": "maybe"}, "--promote"),
        ({"layers": "some"}, "--layers"),
        ({"head": "forest"}, "--head"),
        ({"count": 0}, "--count"),
        ({"candidates": 20_001}, "--candidates"),
        ({"side": 4}, "--side"),
        ({"held_out": 0.9}, "--held-out"),
    ],
)
def test_what_cannot_be_is_refused_with_the_option(values: dict[str, object], flag: str) -> None:
    with pytest.raises(UsageError, match=flag):
        LearnConfig(**values)  # type: ignore[arg-type]


def test_figures_and_the_next_squares_are_printed(plain: Town) -> None:
    plain.tag(plain.cells(110))
    words = ["--catalog", str(plain.catalog.folder), *QUICK]
    shown = CliRunner().invoke(learn_app, words)
    assert shown.exit_code == 0, shown.output
    for said in ("110 of 1 people, label set damage", "chips to learn from", "AUC", "promoted",
                 "15 squares", "town.tif: row"):  # fmt: skip
        assert said in shown.stdout
    found = json.loads(CliRunner().invoke(learn_app, [*words, "--json"]).stdout)
    assert (found["model"], found["new"], found["in_use"]["model"]) == (1, False, 1)
    assert len(found["suggestions"]) == 15
    assert found["figures"]["chips"] == found["parts"]["test"]["chips"]
    dry = CliRunner().invoke(learn_app, [*words, "--dry-run"])
    assert "Nothing was learnt or written" in dry.stdout
    assert [job.state for job in jobs(plain.catalog)] == ["done", "done"]


def test_a_refusal_is_told_in_the_row_of_the_job(plain: Town) -> None:
    plain.tag(plain.cells(8))
    shown = CliRunner().invoke(learn_app, ["--catalog", str(plain.catalog.folder), *QUICK])
    assert isinstance(shown.exception, Refused)
    (job,) = jobs(plain.catalog)
    assert (job.state, job.told) == ("failed", str(shown.exception))


def test_a_backbone_begins_with_the_weights_that_are_given(plain: Town, tmp_path) -> None:  # type: ignore[no-untyped-def]
    import torch

    first, _ = begun(plain.catalog, LearnConfig(), 48, None)
    again, _ = begun(plain.catalog, LearnConfig(), 48, None)
    assert first.backbone == SMALL
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )
    other = InceptionWindow("test_resnet", 48)
    file = tmp_path / "w.safetensors"
    save_file(other.encoder.state_dict(), file)
    given, _ = begun(
        plain.catalog, LearnConfig(backbone="test_resnet", encoder=str(file)), 48, None
    )
    for key, tensor in other.encoder.state_dict().items():
        assert torch.equal(given.encoder.state_dict()[key], tensor)
    with pytest.raises(Refused, match=r"w\.safetensors cannot be the encoder"):
        begun(plain.catalog, LearnConfig(backbone=SMALL, encoder=str(file)), 48, None)
