"""`evaluate`: figures, tables, curves and a page, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from aftermap.cluster.evaluate import evaluate
from aftermap.models.chips.open import open_chips
from aftermap.models.chips.parts import main_parts
from aftermap.models.loop import silence
from aftermap.models.recipes import TrainConfig
from aftermap.models.training import train
from aftermap.scenes.errors import Refused, UsageError
from PIL import Image


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Places with a name that must not become markup; a third of them undamaged."""
    root = tmp_path_factory.mktemp("chips")
    rng = np.random.default_rng(0)
    for i in range(30):
        pre = rng.integers(90, 110, (40, 40, 3)).astype(np.uint8)
        post, mask = pre.copy(), np.zeros((40, 40), np.uint8)
        if i % 3:
            post[10:30, 5:25], mask[10:30, 5:25] = 10, 1
        for name, array in (("pre", pre), ("post", post), ("mask", mask)):
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(array).save(root / name / f"<b>{i:02d}.png")
    return root


@pytest.fixture(scope="module")
def weights(chips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("weights")
    return train(
        TrainConfig(
            out=str(out), data=(str(chips),), classes=1, size="small", epochs=2, steps=20,
            chip=40, batch=4, lr=1e-2, augment="none", precision="fp32",
        ),
        silence,
    )  # fmt: skip


def test_from_weights_to_a_page(chips: Path, weights: Path, tmp_path: Path) -> None:
    done = evaluate(weights, chips, tmp_path)
    told = json.loads((tmp_path / "evaluation.json").read_text())
    test = main_parts(open_chips(chips, 1))["test"]
    assert told["images"] == len(test)
    assert told["micro"]["iou"] == done.found.pixels.iou > 0.5
    with (tmp_path / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["chip"] for row in rows] == [place.name for place in test.places]
    assert sum(int(row["tp"]) for row in rows) == done.found.pixels.tp
    page = (tmp_path / "evaluation.html").read_text()
    assert "<b>" not in page
    assert page.count("paper 001") == 3
    assert "http://" not in page.replace("http://www.w3.org", "")
    lines = ElementTree.parse(tmp_path / "curves.svg").findall(
        ".//{http://www.w3.org/2000/svg}polyline"
    )
    assert len(lines) == 2
    assert Image.open(tmp_path / "panels.png").size[0] > 1000
    assert done.best_threshold is not None
    assert "all pixels together" in done.text()


def test_parts_and_thresholds(chips: Path, weights: Path, tmp_path: Path) -> None:
    whole = evaluate(weights, chips, tmp_path / "a", split="all", intact=False)
    assert len(whole.found.images) == 20
    strict = evaluate(weights, chips, tmp_path / "b", split="all", threshold=0.99)
    loose = evaluate(weights, chips, tmp_path / "c", split="all", threshold=0.01)
    called = [done.found.pixels.tp + done.found.pixels.fp for done in (strict, loose)]
    assert called[0] < called[1]


def test_what_is_refused(chips: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--split 'exam' is none of train"):
        evaluate(weights, chips, tmp_path, split="exam")
    with pytest.raises(UsageError, match="no probability"):
        evaluate(weights, chips, tmp_path, threshold=1.5)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Refused, match=r"file is in the way.*--out"):
        evaluate(weights, chips, tmp_path / "file")
    with pytest.raises(Refused, match="no folder of chips"):
        evaluate(weights, tmp_path, tmp_path / "out")
    with pytest.raises(Refused, match="no weights file"):
        evaluate(tmp_path / "none", chips, tmp_path)
    for i in (0, 3, 6):
        for name in ("pre", "post", "mask"):
            (tmp_path / "clean" / name).mkdir(parents=True, exist_ok=True)
            source = chips / name / f"<b>{i:02d}.png"
            (tmp_path / "clean" / name / source.name).write_bytes(source.read_bytes())
    with pytest.raises(Refused, match=r"\(3 chips\) shows no damage"):
        evaluate(weights, tmp_path / "clean", tmp_path / "out", split="all")
    assert not (tmp_path / "out").exists()
