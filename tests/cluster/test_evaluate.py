"""`evaluate`: figures, tables, curves and a page, here and on a cluster, and what it refuses."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from aftermap.cluster.client import connected
from aftermap.cluster.evaluate import evaluate, run_evaluate
from aftermap.cluster.evaluated import FILES
from aftermap.models.checkpoint import load, save
from aftermap.models.chips.open import open_chips
from aftermap.models.chips.parts import main_parts
from aftermap.models.loop import silence
from aftermap.models.recipes import TrainConfig
from aftermap.models.registry import build
from aftermap.models.training import train
from aftermap.scenes.errors import Refused, UsageError
from chips_made import square, write_chips
from PIL import Image


def some_chips(root: Path, count: int = 30, damaged: int = 1) -> Path:
    """Chips of 40 px and names that must not become markup; a third of them undamaged."""
    plain, mixed = (square(40, np.s_[10:30], np.s_[5:25], damaged) for _ in range(2))
    mixed[10:20, 5:25] = min(damaged, 2)
    kinds = (np.zeros_like(plain), plain, mixed)
    return write_chips(root, [kinds[i % 3] for i in range(count)], name="<b>{:02d}")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Networks this small are quicker on one thread, by far where other tests run beside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return some_chips(tmp_path_factory.mktemp("chips"))


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


@pytest.fixture(scope="module")
def graded(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained weights of five classes."""
    path = tmp_path_factory.mktemp("graded") / "w.safetensors"
    options = {"size": "small", "classes": 5}
    card = dataclasses.replace(load(weights)[1], options=options, classes=5, metrics={})
    save(path, build("fc-siam-diff", **options), card)
    return path


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with connected("threads", 2) as opened:
        yield opened


def test_from_weights_to_a_page(chips: Path, weights: Path, tmp_path: Path) -> None:
    done = evaluate(weights, chips, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(FILES)
    told = json.loads((tmp_path / "evaluation.json").read_text())
    test = main_parts(open_chips(chips, 1))["test"]
    assert told["images"] == len(test)
    assert told["micro"]["iou"] == done.found.pixels.iou > 0.5
    assert told["split_by_us"]
    with (tmp_path / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["chip"] for row in rows] == [place.name for place in test.places]
    assert sum(int(row["tp"]) for row in rows) == done.found.pixels.tp
    page = (tmp_path / "evaluation.html").read_text()
    assert "<b>" not in page
    assert page.count("micro; 28 chips of 1,024 px") == 3
    assert "divided by place as training divides them" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert Image.open(tmp_path / "panels.png").size[0] > 1000
    assert done.best_threshold is not None
    assert "all pixels together" in done.text()
    assert "divided as training divides them" in done.text()


def test_curves_are_drawn_with_the_threshold_on_them(
    chips: Path, weights: Path, tmp_path: Path
) -> None:
    evaluate(weights, chips, tmp_path, threshold=0.25)
    space = {"s": "http://www.w3.org/2000/svg"}
    drawing = ElementTree.parse(tmp_path / "curves.svg")
    lines = drawing.findall(".//s:polyline", space)
    dots = drawing.findall(".//s:circle", space)
    assert len(lines) == len(dots) == 2
    for line, dot in zip(lines, dots, strict=True):
        points = [tuple(map(float, p.split(","))) for p in line.attrib["points"].split()]
        at = float(dot.attrib["cx"]), float(dot.attrib["cy"])
        assert min(np.hypot(x - at[0], y - at[1]) for x, y in points) < 0.2
    assert drawing.findtext(".//s:circle/s:title", namespaces=space) == "threshold 0.25"


def test_parts_and_thresholds(chips: Path, weights: Path, tmp_path: Path) -> None:
    whole = evaluate(weights, chips, tmp_path / "a", split="all", intact=False)
    assert len(whole.found.images) == 20
    page = (tmp_path / "a" / "evaluation.html").read_text()
    assert "may have learnt" in page
    assert "no damage were left out" in page
    assert "without damage are left out" in whole.text()
    assert not whole.to_dict()["intact_places_count"]
    strict = evaluate(weights, chips, tmp_path / "b", split="all", threshold=0.99)
    assert "left out</strong>" not in (tmp_path / "b" / "evaluation.html").read_text()
    assert "are left out" not in strict.text()
    loose = evaluate(weights, chips, tmp_path / "c", split="all", threshold="0.01")
    called = [done.found.pixels.tp + done.found.pixels.fp for done in (strict, loose)]
    assert called[0] < called[1]
    best = evaluate(weights, chips, tmp_path / "d", threshold="validation")
    assert best.threshold == best.best_threshold
    held = evaluate(weights, chips, tmp_path / "e", "validation")
    assert held.best_threshold is None
    assert best.best_threshold == held.found.scores.best_threshold()
    # An earlier evaluation is replaced.
    again = evaluate(weights, chips, tmp_path / "d", threshold="validation")
    assert again.to_dict() == best.to_dict()


def test_chips_that_are_all_for_testing(weights: Path, tmp_path: Path) -> None:
    """As benchmarks come: nothing to train on, and none to look for a threshold on."""
    chips = tmp_path / "chips"
    some_chips(chips / "test", 6)
    done = evaluate(weights, chips, tmp_path / "out")
    assert (len(done.found.images), done.best_threshold, done.divided) == (6, None, False)
    with pytest.raises(Refused, match=r"the validation part of .* shows no damage"):
        evaluate(weights, chips, tmp_path / "out", threshold="validation")
    with pytest.raises(Refused, match=r"no chips in its train part.*train 0, validation 0, test 6"):
        evaluate(weights, chips, tmp_path / "out", split="train")


def test_a_cluster_counts_the_same_in_the_same_order(
    chips: Path, weights: Path, tmp_path: Path, client: Any
) -> None:
    for split, threshold in (("all", None), ("test", "validation")):
        here, there = (
            evaluate(weights, chips, tmp_path / f"{split}{name}", split, threshold, client=given)
            for name, given in (("here", None), ("there", client))
        )
        assert len(here.found.images) == (30 if split == "all" else 4)
        assert there.to_dict() == here.to_dict()
        assert there.found.images == here.found.images
        assert np.array_equal(there.found.scores.counts, here.found.scores.counts)
        for name in ("per_image.csv", "curves.svg", "panels.png"):
            assert (there.path / name).read_bytes() == (here.path / name).read_bytes()


def test_what_goes_wrong_on_a_worker_is_told(
    chips: Path, weights: Path, tmp_path: Path, client: Any
) -> None:
    broken = some_chips(tmp_path / "chips", 9)
    Image.new("RGB", (48, 40)).save(broken / "post" / "<b>04.png")
    with pytest.raises(Refused, match=r"<b>04.* of different sizes"):
        evaluate(weights, broken, tmp_path / "out", split="all", client=client)
    assert not (tmp_path / "out").exists()


def test_levels_have_a_table_and_no_threshold(graded: Path, tmp_path: Path) -> None:
    chips = some_chips(tmp_path / "chips", 12, damaged=4)
    done = evaluate(graded, chips, tmp_path / "out", split="all")
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (told["threshold"], told["best_threshold_on_validation"]) == (None, None)
    assert np.sum(told["level_table"]) == told["pixels"]
    assert np.sum(told["level_table"], axis=1)[[2, 4]].tolist() == [4 * 200, 4 * 200 + 4 * 400]
    assert told["levels"]["score"] == done.found.to_dict()["levels"]["score"]
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "Minor damage" in page
    assert "red: the largest class" in (tmp_path / "out" / "curves.svg").read_text()
    with pytest.raises(UsageError, match=r"--threshold 0\.4 is for weights of one class"):
        evaluate(graded, chips, tmp_path / "out", threshold=0.4)


def test_what_is_refused(chips: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--split 'exam' is none of train"):
        evaluate(weights, chips, tmp_path, split="exam")
    for wrong in (1.5, 0, "much", "nan"):
        with pytest.raises(UsageError, match=f"--threshold {wrong} is no probability"):
            evaluate(weights, chips, tmp_path, threshold=wrong)
    for split in ("all", "validation"):
        with pytest.raises(UsageError, match=f"--split {split} evaluates them too"):
            evaluate(weights, chips, tmp_path, split=split, threshold="validation")
    with pytest.raises(Refused, match="no folder of chips"):
        evaluate(weights, some_chips(tmp_path / "odd") / "mask", tmp_path / "out")
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


def test_a_folder_of_something_else_is_left_alone(
    chips: Path, weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Refused, match=r"file is in the way.*--out"):
        evaluate(weights, chips, tmp_path / "file")
    with pytest.raises(Refused, match="holds 'file', which no evaluation wrote"):
        evaluate(weights, chips, tmp_path)
    # What a killed evaluation leaves is no hindrance.
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".panels.png.x1y2z3").write_text("half")
    evaluate(weights, chips, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": (0.5, 0.5, 0.5)}, "its own mean"),
        ({"options": {"size": "small", "classes": 1, "in_channels": 4}, "bands": 4,
          "mean": (0.5,) * 4, "std": (0.2,) * 4}, "bands 3 were asked for"),
    ],
)  # fmt: skip
def test_weights_that_see_other_images(
    change: dict[str, Any], message: str, chips: Path, weights: Path, tmp_path: Path
) -> None:
    card = dataclasses.replace(load(weights)[1], **change)
    save(tmp_path / "w.safetensors", build("fc-siam-diff", **card.options), card)
    with pytest.raises(Refused, match=message):
        evaluate(tmp_path / "w.safetensors", chips, tmp_path / "out")


def test_the_command_prints_figures_or_json(
    chips: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"weights": weights, "data": chips, "out": tmp_path, "split": "test",
             "threshold": None, "intact": True, "cluster": None, "workers": None,
             "device": "auto", "as_json": True}  # fmt: skip
    run_evaluate(given)
    said = capsys.readouterr()
    assert json.loads(said.out)["images"] == 4
    assert said.err == ""
    run_evaluate(given | {"as_json": False, "cluster": "threads", "workers": 1})
    said = capsys.readouterr()
    assert "chips        4, of which" in said.out
    assert "test chips 4/4" in said.err
