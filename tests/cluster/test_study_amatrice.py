"""The study of paper 004: a tiny one from end to end."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aftermap.cluster.studies.amatrice import Amatrice
from aftermap.cluster.studies.amatrice_picture import Shown, draw_shown
from aftermap.cluster.studies.curves import Curve, draw
from aftermap.cluster.studies.paper import Asked
from aftermap.cluster.studies.study import study
from aftermap.kernels.methods import load_method
from aftermap.models.chips.chip import Chip
from aftermap.models.published import AMATRICE_VALIDATION
from aftermap.scenes.errors import Refused, UsageError
from aftermap.scenes.legend import entry
from chips_made import write_chips
from PIL import Image

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chips of 128 px, a building in each quarter, damaged ones in every second chip."""
    masks = []
    for number in range(20):
        mask = np.zeros((128, 128), np.uint8)
        for top, left in ((0, 0), (0, 64), (64, 0), (64, 64)):
            mask[top + 10 : top + 40, left + 10 : left + 44] = 4 if number % 2 else 1
        masks.append(mask)
    return write_chips(tmp_path_factory.mktemp("chips"), masks, {1: 220, 4: 20})


def settings(chips: Path) -> dict[str, Any]:
    return {
        "data": (str(chips),), "backbone": "resnet18", "chip": 64, "batch": 2, "epochs": 1,
        "steps": 2,
    }  # fmt: skip


def test_settings_are_the_preset_s(tmp_path: Path) -> None:
    (task,) = Amatrice(Asked(tmp_path, 1, {}, {})).tasks
    assert (task.footprints.method, task.cells.method) == ("unet-footprints", "grid-classifier")
    assert (task.footprints.chip, task.cells.chip, task.footprints.backbone) == (128, 128, None)
    assert (task.footprints.augment, task.footprints.loss) == ("amatrice", "bce-jaccard")
    assert (AMATRICE_VALIDATION.loss, AMATRICE_VALIDATION.accuracy) == (0.28, 0.89)


@pytest.mark.slow
def test_a_tiny_study(chips: Path, tmp_path: Path) -> None:
    done = study("amatrice", tmp_path, 2, settings(chips), cluster="threads", workers=2)
    told = json.loads((tmp_path / "study.json").read_text())
    assert [outcome["seed"] for outcome in told["outcomes"]] == [0, 1]
    for outcome in told["outcomes"]:
        for row in ("footprints", "opened", "cells"):
            assert 0 <= outcome[row]["iou"] <= outcome[row]["f1"] <= 1
        # What is opened away was called a building before.
        assert outcome["opened"]["recall"] <= outcome["footprints"]["recall"]
    text = done.text()
    assert "±" in text
    assert "footprints, opened" in text
    page = (tmp_path / "study.html").read_text()
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", page)
    with Image.open(io.BytesIO(base64.b64decode(pictures[0]))) as picture:
        assert picture.width > 1000
    assert str(chips.parent) not in page
    # What was joined can be used.
    kernel = load_method("unet-grid", tmp_path / "seed-0" / "unet-grid.safetensors", device="cpu")
    assert kernel.window.core == 128
    before = (tmp_path / "study.json").read_bytes()
    study("amatrice", tmp_path, 2, settings(chips), cluster="threads", workers=1)
    assert (tmp_path / "study.json").read_bytes() == before


def test_chips_without_undamaged_buildings_are_refused(tmp_path: Path) -> None:
    mask = np.zeros((128, 128), np.uint8)
    mask[20:60, 20:60] = 4
    ruins = write_chips(tmp_path / "ruins", [mask] * 20, {4: 20})
    with pytest.raises(Refused, match=r"no undamaged buildings \(code 1\)"):
        study("amatrice", tmp_path / "out", 1, settings(ruins), cluster="threads", workers=1)
    assert not (tmp_path / "out").exists()


def test_chips_and_cells_that_are_too_small_are_refused_before_training(
    chips: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Refused, match=r"has 128×128 px.*160 px or more.*--chip"):
        study("amatrice", out, 1, settings(chips) | {"chip": 160}, cluster="threads", workers=1)
    with pytest.raises(UsageError, match=r"64 px or more; got 32.*--chip 64"):
        study("amatrice", out, 1, settings(chips) | {"chip": 32}, cluster="threads", workers=1)
    assert not out.exists()


def test_a_cluster_that_there_is_not_leaves_no_folder(chips: Path, tmp_path: Path) -> None:
    for told, asked in (("--workers 0", {"workers": 0}), ("--cluster", {"cluster": "nowhere"})):
        with pytest.raises(UsageError, match=told):
            study(
                "amatrice", tmp_path / "out", 1, settings(chips), **{"cluster": "threads", **asked}
            )  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_losses_of_nothing_are_drawn_too() -> None:
    """Where no crop shows a building, the loss of cells is 0."""
    still = Curve(([{"loss": 0.0, "score": 0.0}] * 2,))
    drawing = base64.b64decode(draw({"cells": [still]})).decode()
    assert [float(y) for y in re.findall(r",([\d.]+)", " ".join(re.findall(r'points="([^"]+)', drawing)))] == [150.0] * 4  # fmt: skip


def test_settings_of_other_papers_are_not_passed_over(chips: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not heed --width"):
        study("amatrice", tmp_path, 1, settings(chips) | {"width": 8}, cluster="threads")


def test_the_map_has_the_legend_s_colours() -> None:
    codes = np.zeros((64, 64), np.uint8)
    codes[:32], codes[32:] = 1, 5
    image = np.full((3, 64, 64), 90, np.uint8)
    mask = codes > 0
    shown = Shown(Chip(image, image, codes), mask.astype(np.float32), mask, mask, codes)
    with Image.open(io.BytesIO(draw_shown([shown], 64))) as picture:
        left = 6 + 6 * (64 + 6)
        assert picture.getpixel((left + 30, 20 + 10)) == entry(1).rgb
        assert picture.getpixel((left + 30, 20 + 50)) == entry(5).rgb
