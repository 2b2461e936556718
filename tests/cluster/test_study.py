"""The study of paper 001: its published table by our own metric, and a tiny one from end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from aftermap.cluster.studied import consistent
from aftermap.cluster.study import STUDIES, study
from aftermap.models.checkpoint import load
from aftermap.models.published import TABLE_III, VARIANTS
from aftermap.scenes.errors import Refused, UsageError
from PIL import Image


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
    """Sixty places, half of them damaged."""
    root = tmp_path_factory.mktemp("chips")
    rng = np.random.default_rng(0)
    for i in range(60):
        pre = rng.integers(60, 140, (32, 32, 3)).astype(np.uint8)
        post, mask = pre.copy(), np.zeros((32, 32), np.uint8)
        if i % 2:
            post[8:24, 8:24], mask[8:24, 8:24] = 10, 1
        for name, array in (("pre", pre), ("post", post), ("mask", mask)):
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(array).save(root / name / f"{i:02d}.png")
    return root


def settings(chips: Path) -> tuple[dict[str, object], dict[str, object]]:
    small = {"size": "small", "chip": 32, "epochs": 1, "steps": 1, "lr": 1e-3, "accumulate": 1}
    return small | {"data": (str(chips),), "batch": 4, "core": 256}, small | {"batch": 4}


def test_a_tiny_study_from_end_to_end(chips: Path, tmp_path: Path) -> None:
    training, before = settings(chips)
    done = study("kahramanmaras", tmp_path, 2, training, before, cluster="threads", workers=1)
    assert len(done.outcomes) == 6
    assert [(row.method, row.variant) for row in done.rows] == [
        (row.method, row.variant) for row in TABLE_III
    ]
    for row in done.rows:
        found = [o.scores[row.variant]["iou"] for o in done.of(row.method)]
        assert row.mean["iou"] == pytest.approx(np.mean(found))
        assert row.sd["iou"] == pytest.approx(np.std(found, ddof=1))
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
    told = json.loads((tmp_path / "study.json").read_text())
    assert len(told["outcomes"]) == 6
    page = (tmp_path / "study.html").read_text()
    assert page.count("published</td>") == 9
    assert "55.62" in page
    assert "not comparable" in page
    assert page.count("data:image/png;base64,iVBOR") == 3
    assert "AUC" in done.text()

    # Run again nothing is trained anew; other settings are refused.
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    study("kahramanmaras", tmp_path, 2, training, before, cluster="threads", workers=1)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")} == stamps
    with pytest.raises(Refused, match="training epochs was 1, now 2"):
        study("kahramanmaras", tmp_path, 2, training | {"epochs": 2}, before)


def test_a_study_of_levels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(60):
        pre = rng.integers(60, 140, (32, 32, 3)).astype(np.uint8)
        post, mask = pre.copy(), np.zeros((32, 32), np.uint8)
        if i % 2:
            for level, dark in ((1, 100), (2, 60), (3, 30), (4, 5)):
                square = np.s_[8 * (level - 1) : 8 * level, 4:28]
                post[square], mask[square] = dark, level
        for name, array in (("pre", pre), ("post", post), ("mask", mask)):
            (tmp_path / "chips" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "chips" / name / f"{i:02d}.png")
    training, before = settings(tmp_path / "chips")
    done = study(
        "kahramanmaras", tmp_path / "out", 1, training | {"classes": 5}, before,
        cluster="threads", workers=1,
    )  # fmt: skip
    for row in done.rows:
        assert {"score", "localization_f1", "f1_level_4", "iou"} <= row.mean.keys()
    assert "5 classes" in (tmp_path / "out" / "study.html").read_text()


def test_studies_that_there_are() -> None:
    assert set(STUDIES) == {"kahramanmaras", "kahramanmaras-small"}
    with pytest.raises(UsageError, match="Unknown study 'oaxaca'"):
        study("oaxaca", "nowhere")
    with pytest.raises(UsageError, match="--seeds 0"):
        study("kahramanmaras", "nowhere", seeds=0)
