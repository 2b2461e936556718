"""The study of paper 002: what was published, and a tiny one from end to end."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import safetensors.torch
from aftermap.cluster.studies.curves import Curve, draw
from aftermap.cluster.studies.examination import held_out
from aftermap.cluster.studies.paper import Asked
from aftermap.cluster.studies.study import study
from aftermap.cluster.studies.xview2 import SmallXView2, XView2
from aftermap.cluster.studies.xview2_table import FIGURES, ROWS, Outcome, XView2Studied
from aftermap.models.checkpoint import load
from aftermap.models.dual_hrnet import DualHRNet
from aftermap.models.evaluation import predict_chip
from aftermap.models.metrics import xview2_score
from aftermap.models.presets import XVIEW2_WARM_UP
from aftermap.models.published import XVIEW2_SCORES
from aftermap.models.sources import Exam
from aftermap.models.state import history
from aftermap.models.zoo import timm
from aftermap.scenes.errors import Refused, UsageError
from chips_made import square, write_chips
from killed import kill, same_threads


def towns(root: Path, count: int = 24, levels: tuple[int, ...] = (1, 2, 3, 4)) -> Path:
    """Chips of 64 px with a building of each level."""
    mask = np.zeros((64, 64), np.uint8)
    for level in levels:
        top, left = 32 * ((level - 1) // 2), 32 * ((level - 1) % 2)
        mask |= square(64, np.s_[top + 4 : top + 24], np.s_[left + 4 : left + 24], level)
    return write_chips(root, [mask] * count, {1: 110, 2: 60, 3: 30, 4: 5})


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return towns(tmp_path_factory.mktemp("towns"))


def settings(chips: Path) -> dict[str, object]:
    return {
        "data": (str(chips),), "width": 2, "chip": 32, "batch": 2, "epochs": 2, "steps": 1,
        "norm_momentum": 0.1, "core": 64, "halo": 64,
    }  # fmt: skip


def test_the_published_scores_are_the_challenge_s() -> None:
    public, held = XVIEW2_SCORES
    assert public.localization_f1 is not None
    assert public.damage_f1 is not None
    found = 0.3 * public.localization_f1 + 0.7 * public.damage_f1
    assert found == pytest.approx(public.score, abs=5e-4)
    assert (held.score, held.localization_f1) == (77.862, None)


def test_the_rows_are_the_paper_its_code_and_what_it_rejects(tmp_path: Path) -> None:
    first = XView2(Asked(tmp_path, 2, {}, {})).tasks
    assert [(task.row, task.seed) for task in first] == [
        (row.name, seed) for seed in (0, 1) for row in ROWS
    ]
    paper, code, entropy = (task.config for task in first[:3])
    assert (paper.lr, paper.weight_decay, paper.epochs, paper.loss) == (0.01, 5e-4, 250, "lovasz")
    assert (code.lr, code.weight_decay, code.epochs, code.stem) == (0.05, 0.0, 500, "released")
    assert replace(entropy, loss="lovasz", out=paper.out) == paper
    assert entropy.loss == "entropy"
    assert all(task.warm_up is None for task in first)
    small = SmallXView2(Asked(tmp_path, 1, {"steps": 7}, {})).tasks
    for task in small:
        assert task.warm_up is not None
        assert (task.warm_up.loss, task.warm_up.steps, task.warm_up.width) == ("entropy", 7, 8)
        assert task.warm_up.out != task.config.out


@pytest.mark.slow
def test_a_tiny_study_from_end_to_end(chips: Path, tmp_path: Path) -> None:
    done = study("xview2", tmp_path, 2, settings(chips), cluster="threads", workers=1)
    assert isinstance(done, XView2Studied)
    assert len(done.outcomes) == 6

    # The figures of a row are those of the network that lies there.
    task = XView2(Asked(tmp_path, 2, settings(chips), {})).tasks[4]
    network, _ = load(tmp_path / "code-1" / "training" / "dual-hrnet.safetensors")
    assert isinstance(network, DualHRNet)
    exam = Exam(held_out(task.config), 0, network.stride)
    truth = np.stack([chip.codes for chip in exam])
    found = np.stack([predict_chip(network, chip).codes for chip in exam])
    expected = xview2_score(truth, truth, found, found)
    outcome = done.of("code")[1]
    assert outcome.seed == 1
    for name in ("score", "localization_f1", "damage_f1"):
        assert outcome.pixels[name] == pytest.approx(expected[name])
    levels = [outcome.pixels[f"f1_level_{code}"] for code in (1, 2, 3, 4)]
    assert levels == pytest.approx(expected["damage_f1_per_class"])
    for row in done.rows:
        scores = [outcome.buildings["score"] for outcome in done.of(row.kind.name)]
        assert row.buildings.mean["score"] == pytest.approx(np.mean(scores))
        assert row.buildings.sd is not None
        assert row.buildings.sd["score"] == pytest.approx(np.std(scores, ddof=1))
    for outcome in done.outcomes:
        (only,) = outcome.trainings
        assert [row["epoch"] for row in only] == [1, 2]

    told = json.loads((tmp_path / "study.json").read_text(), parse_constant=pytest.fail)
    assert told["rows"]["lovasz"]["pixels"]["mean"]["score"] == done.rows[0].pixels.mean["score"]
    assert told["published_percent"][0]["score"] == 76.775
    page = (tmp_path / "study.html").read_text()
    for figure in ("76.775", "86.570", "72.577", "77.862", "not comparable", "begun at random"):
        assert figure in page
    assert "±" in page
    assert str(chips.parent) not in page  # it is sent on
    assert page.count("data:image/png;base64,iVBOR") == 3
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "warmed up" not in page
    assert "77.862" in done.text()

    # Run again nothing is trained anew; more seeds add to it; other settings are refused.
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    again = study("xview2", tmp_path, 1, settings(chips), cluster="threads", workers=1)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")} == stamps
    assert isinstance(again, XView2Studied)
    assert again.outcomes == done.outcomes[:3]
    assert "±" not in (tmp_path / "study.html").read_text()
    with pytest.raises(Refused, match=r"another study: .*batch was 2, now 4"):
        study("xview2", tmp_path, 2, settings(chips) | {"batch": 4})


@pytest.mark.slow
def test_a_warm_up_comes_before_and_is_told(
    chips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SmallXView2, "warm_up", XVIEW2_WARM_UP | {"epochs": 3})
    done = study("xview2-small", tmp_path, 1, settings(chips), cluster="threads", workers=1)
    assert isinstance(done, XView2Studied)
    for outcome in done.outcomes:
        begun, main = outcome.trainings
        assert (len(begun), len(main)) == (3, 2)
        assert begun == history(tmp_path / f"{outcome.row}-0" / "warm-up")
    page = (tmp_path / "study.html").read_text()
    assert "warmed up by weighted cross-entropy for 3 epochs of 1 step, in all three rows" in page
    assert "width 2 in the place of 32" in page


def test_all_rows_begin_with_an_encoder(chips: Path, tmp_path: Path) -> None:
    file = tmp_path / "hrnet.safetensors"
    safetensors.torch.save_file(
        timm().create_model("hrnet_w32", pretrained=False).state_dict(), file
    )
    asked = settings(chips) | {"width": 32, "encoder": str(file)}
    paper = XView2(Asked(tmp_path / "out", 1, asked, {}))
    paper.check()
    assert len({task.config.encoder for task in paper.tasks}) == 1
    with pytest.raises(Refused, match=r"cannot be the encoder: .*--encoder"):
        study("xview2", tmp_path / "out", 1, asked | {"width": 2})
    with pytest.raises(Refused, match="cannot be read"):
        study("xview2", tmp_path / "out", 1, asked | {"encoder": str(tmp_path / "none")})
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_studied_is_refused_before_anything_is_made(
    chips: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def refused(kind: type[Exception], told: str, **changes: object) -> None:
        with pytest.raises(kind, match=told):
            study("xview2", out, 1, settings(chips) | changes)
        assert not out.exists()

    refused(Refused, "There is no folder", data=(str(tmp_path / "none"),))
    refused(UsageError, "does not heed --size. Leave out", size="small")
    refused(UsageError, "multiples of", chip=48)
    with pytest.raises(UsageError, match="--pretrain-epochs"):
        study("xview2", out, 1, settings(chips), {"epochs": 1})
    with pytest.raises(UsageError, match="kahramanmaras does not heed --encoder, --width"):
        study("kahramanmaras", out, 1, {"width": 8, "encoder": "x"})
    # Chips that bring parts, and no destroyed building in the one that is tested.
    for part, levels in (("train", (1, 2, 3, 4)), ("val", (1, 2, 3, 4)), ("test", (1, 2, 3))):
        towns(tmp_path / "split" / part, 4, levels)
    refused(Refused, r"test part .* \(4 chips\) holds no 4 \(", data=(str(tmp_path / "split"),))


def test_curves_have_a_line_per_seed_and_training() -> None:
    def told(losses: list[float]) -> list[dict[str, float]]:
        return [{"loss": loss, "score": 0.1 * i} for i, loss in enumerate(losses)]

    curves = [Curve((told([2.0, 1.0]), told([0.5, 0.4, 0.0]))), Curve((told([2.0]), told([1.0])))]
    assert curves[0].points("loss")[1][0] == (3, 0.5)
    drawing = base64.b64decode(draw({"<one>": curves, "two": curves[:1]})).decode()
    lines = ElementTree.fromstring(drawing).findall(".//{*}polyline")
    assert len(lines) == 2 * (4 + 2)
    places = [tuple(map(float, p.split(","))) for p in lines[1].attrib["points"].split()]
    assert [y for _, y in places] == [112.5, 120.0, 150.0]  # of 150 px, the highest loss on top
    assert [x for x, _ in places] == [135.0, 189.0, 243.0]  # five epochs over 270 px


def test_a_page_of_names_from_outside_is_escaped(tmp_path: Path) -> None:
    paper = XView2(Asked(tmp_path, 1, {"data": ("<script>alert(1)</script>",)}, {}))
    figures = dict.fromkeys(FIGURES, 0.5)
    epochs = (({"epoch": 1, "loss": 1.0, "score": 0.0},),)
    outcomes = tuple(Outcome(row.name, 0, figures, figures, epochs) for row in ROWS)
    facts = {"study": "xview2", "seeds": 1, "settings": paper.settings()}
    page = XView2Studied(tmp_path, facts, outcomes).page()
    assert "<script" not in page
    assert "50.00" in page


@pytest.mark.slow
def test_killed_and_run_again_it_ends_with_the_same_figures(chips: Path, tmp_path: Path) -> None:
    words = [
        "study", "xview2", "--data", chips, "--width", 2, "--chip", 32, "--batch", 2,
        "--steps", 2, "--epochs", 2, "--cluster", "threads", "--workers", 1,
    ]  # fmt: skip
    command = [sys.executable, "-m", "aftermap", *map(str, words), "-o"]

    def study_to_the_end(out: Path) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*command, str(out)], env=same_threads(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done

    whole = study_to_the_end(tmp_path / "whole")
    assert "xView2 score" in whole.stdout
    parts = tmp_path / "parts"
    # In the middle of the second network's training.
    kill([*command, str(parts)], (parts / "code-0" / "training" / "state.safetensors").is_file)
    assert not (parts / "code-0" / "outcome.json").exists()
    study_to_the_end(parts)
    assert (parts / "study.json").read_bytes() == (tmp_path / "whole/study.json").read_bytes()
