"""The study of paper 001: its published table by our own metric, and a tiny one from end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from aftermap.cluster.studies.examination import examine
from aftermap.cluster.studies.kahramanmaras_table import KahramanmarasStudied, consistent
from aftermap.cluster.studies.study import STUDIES, study
from aftermap.models.change import ChangeNet
from aftermap.models.checkpoint import load
from aftermap.models.evaluation import evaluate_chips
from aftermap.models.loop import silence
from aftermap.models.presets import train_config
from aftermap.models.published import TABLE_III, VARIANTS
from aftermap.models.sources import Exam, source_parts
from aftermap.models.training import train
from aftermap.scenes.errors import AftermapError, Refused, UsageError
from chips_made import half_damaged, square, with_levels, write_chips
from PIL import Image
from torch import nn


@pytest.mark.parametrize("row", TABLE_III, ids=lambda row: f"{row.method}-{row.variant}")
def test_published_rows_are_consistent_by_our_metric(row) -> None:  # type: ignore[no-untyped-def]
    assert consistent(row)
    assert not consistent(replace(row, f1=row.f1 + 0.1))
    assert not consistent(replace(row, iou=row.iou - 0.1))


def test_the_published_table_has_its_nine_rows() -> None:
    assert len({(row.method, row.variant) for row in TABLE_III}) == 9
    best = max(TABLE_III, key=lambda row: row.f1)
    assert (best.method, best.variant, best.f1, best.iou) == ("fc-siam-diff", "none", 55.62, 38.52)


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return half_damaged(tmp_path_factory.mktemp("chips"))


def settings(chips: Path) -> tuple[dict[str, object], dict[str, object]]:
    small = {"size": "small", "chip": 32, "epochs": 1, "steps": 1, "lr": 1e-3, "accumulate": 1}
    return small | {"data": (str(chips),), "batch": 4, "core": 256}, small | {"batch": 4}


@pytest.mark.slow
def test_a_tiny_study_from_end_to_end(chips: Path, tmp_path: Path) -> None:
    training, before = settings(chips)
    done = study("kahramanmaras", tmp_path, 2, training, before, cluster="threads", workers=1)
    assert isinstance(done, KahramanmarasStudied)
    assert len(done.outcomes) == 6
    assert [(row.method, row.variant) for row in done.rows] == [
        (row.method, row.variant) for row in TABLE_III
    ]
    for row in done.rows:
        found = [o.scores[row.variant]["iou"] for o in done.of(row.method)]
        assert row.figures.mean["iou"] == pytest.approx(np.mean(found))
        assert row.figures.sd is not None
        assert row.figures.sd["iou"] == pytest.approx(np.std(found, ddof=1))
    # A frozen encoder is that of the pre-training; the other one has moved on.
    encoders = {
        variant: load(tmp_path / "fc-ef-0" / variant / "fc-ef.safetensors")[0].encoder.state_dict()  # type: ignore[union-attr]
        for variant in VARIANTS
    }
    from safetensors.torch import load_file

    learnt = load_file(tmp_path / "fc-ef-0/encoder/fc-ef-encoder.safetensors")
    for key, value in encoders["frozen"].items():
        assert value.equal(learnt[f"encoder.{key}"]), key
    assert any(not v.equal(learnt[f"encoder.{k}"]) for k, v in encoders["pretrained"].items())
    told = json.loads((tmp_path / "study.json").read_text(), parse_constant=pytest.fail)
    assert len(told["outcomes"]) == 6
    assert (
        told["settings"]["training"]["clip"] == "Infinity"
    )  # as the paper; JSON has no number for it
    page = (tmp_path / "study.html").read_text()
    assert page.count("published</td>") == 9
    assert "55.62" in page
    assert str(chips) not in page  # it is sent on
    assert "of folders, only chips that show damage" in page  # as the paper
    assert f"These are of {chips.name}; size small, 1 epoch of 1 step," in page
    assert "not comparable" in page
    assert page.count("data:image/png;base64,iVBOR") == 3
    assert "AUC" in done.text()

    # Run again nothing is trained anew; other settings are refused.
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    study("kahramanmaras", tmp_path, 2, training, before, cluster="threads", workers=1)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")} == stamps
    with pytest.raises(Refused, match=r"another study: .*training epochs was 1, now 2"):
        study("kahramanmaras", tmp_path, 2, training | {"epochs": 2}, before)


@pytest.mark.slow
def test_a_study_of_levels(tmp_path: Path) -> None:
    with_levels(tmp_path / "chips")
    training, before = settings(tmp_path / "chips")
    done = study(
        "kahramanmaras", tmp_path / "out", 1, training | {"classes": 5}, before,
        cluster="threads", workers=1,
    )  # fmt: skip
    assert isinstance(done, KahramanmarasStudied)
    for row in done.rows:
        assert {"score", "localization_f1", "f1_level_4", "iou"} <= row.figures.mean.keys()
    page = (tmp_path / "out" / "study.html").read_text()
    assert "5 classes" in page
    # Of one seed there is no deviation.
    assert "±" not in page + done.text()


def test_each_test_chip_is_looked_at_once(chips: Path, tmp_path: Path) -> None:
    """And those of the panels once more; panels are of the first source alone."""
    second = half_damaged(tmp_path / "second", 40)
    base, _ = settings(chips)
    asked = base | {"data": (str(chips), str(second)), "classes": 1, "out": str(tmp_path / "w")}
    config = train_config(asked)
    weights = train(config, silence)
    counts = [len(source_parts(name, config)["test"]) for name in config.data]
    assert min(counts) > 4
    seen = []

    def note(module: nn.Module, _: object) -> None:
        if isinstance(module, ChangeNet):
            seen.append(module)

    hook = nn.modules.module.register_module_forward_pre_hook(note)
    try:
        found = examine(weights, config, tmp_path / "panels.png")
    finally:
        hook.remove()
    assert sum(counts) < len(seen) <= sum(counts) + 4
    network, _ = load(weights)
    parts = [source_parts(name, config)["test"] for name in config.data]
    assert isinstance(network, ChangeNet)
    expected = evaluate_chips(network, Exam(parts, 0, network.stride))
    assert found.metrics() == expected.metrics()
    assert found.images == expected.images


def test_panels_are_of_a_source_that_has_test_chips(chips: Path, tmp_path: Path) -> None:
    dark = square(32, np.s_[8:24], np.s_[8:24])
    for part in ("train", "val"):
        write_chips(tmp_path / "split" / part, [dark, dark * 0] * 4)
    base, _ = settings(chips)
    asked = base | {"data": (str(tmp_path / "split"), str(chips)), "classes": 1}
    config = train_config(asked | {"out": str(tmp_path / "w")})
    assert len(source_parts(config.data[0], config)["test"]) == 0
    examine(train(config, silence), config, tmp_path / "panels.png")
    with Image.open(tmp_path / "panels.png") as panels:
        assert panels.height > 256  # a row at least, not its titles alone


@pytest.mark.slow
def test_a_network_that_fails_does_not_take_the_others_along(chips: Path, tmp_path: Path) -> None:
    training, before = settings(chips)
    good = study("kahramanmaras", tmp_path, 1, training, before, cluster="threads", workers=1)
    for folder in ("fc-ef-0", "fc-siam-diff-0"):
        (tmp_path / folder / "outcome.json").unlink()
    picture = tmp_path / "fc-ef-0" / "none.png"
    picture.unlink()
    picture.mkdir()  # in the way of the first network
    with pytest.raises(
        AftermapError, match="1 of 3 networks failed; of fc-ef with seed 0 it is said: IsADir"
    ):
        study("kahramanmaras", tmp_path, 1, training, before, cluster="threads", workers=1)
    assert (tmp_path / "fc-siam-diff-0" / "outcome.json").is_file()
    picture.rmdir()
    again = study("kahramanmaras", tmp_path, 1, training, before, cluster="threads", workers=1)
    assert again.to_dict() == good.to_dict()


def test_what_cannot_be_studied_is_refused_before_anything_is_made(
    chips: Path, tmp_path: Path
) -> None:
    training, before = settings(chips)
    out = tmp_path / "out"

    def refused(kind: type[Exception], told: str, **changes: object) -> None:
        with pytest.raises(kind, match=told):
            study("kahramanmaras", out, 1, training | changes, before)
        assert not out.exists()

    refused(Refused, "There is no folder", data=(str(tmp_path / "none"),))
    refused(UsageError, "Unknown size 'huge'", size="huge")
    # Chips that bring parts, and no damage in the one that is tested.
    dark = square(32, np.s_[8:24], np.s_[8:24])
    for part, damaged in (("train", 1), ("val", 1), ("test", 0)):
        write_chips(tmp_path / "split" / part, [dark * 0, dark * damaged] * 8)
    refused(Refused, "0 show damage and 16 do not", data=(str(tmp_path / "split"),))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Refused, match=r"which no study wrote.*--out"):
        study("kahramanmaras", tmp_path, 1, training, before)


def test_studies_that_there_are() -> None:
    assert set(STUDIES) >= {"kahramanmaras", "kahramanmaras-small", "xview2", "xview2-small"}
    with pytest.raises(UsageError, match="Unknown study 'atlantis'"):
        study("atlantis", "nowhere")
    with pytest.raises(UsageError, match="--seeds 0"):
        study("kahramanmaras", "nowhere", seeds=0)
