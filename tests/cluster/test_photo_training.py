"""From photos to a map: window classifiers, teachers and students, trained and run over rasters."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import safetensors.torch
import shapely
import torch
from aftermap.cluster.assess import assess
from aftermap.cluster.learning import run_train
from aftermap.models.checkpoint import read_card
from aftermap.models.zoo import timm
from aftermap.scenes.errors import Refused, UsageError
from PIL import Image
from rasters import texture, write_raster

SIDE = 32
UNTOLD = dict.fromkeys(
    ("preset", "size", "width", "stem", "backbone", "classes", "validation", "epochs", "steps", "chip",
     "batch", "lr", "encoder", "head", "turns", "false_alarms", "teacher", "form", "structure", "hints", "selection",
     "search_omega", "contamination", "batch_statistics"),
)  # fmt: skip


def arguments(method: str, photos: Path, out: Path, **asked: Any) -> dict[str, Any]:
    """As the command line gives them."""
    plain = {"device": "cpu", "precision": "auto", "tensorboard": False, "bundled": False}
    plain |= {"fresh": False, "data": [str(photos)], "out": out, "method": method, "chip": SIDE}
    return UNTOLD | plain | asked


def rubble(side: int, seed: int) -> np.ndarray:
    """Hard noise, where other ground is smooth."""
    return np.random.default_rng(seed).integers(0, 256, (3, side, side)).astype(np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for number in range(60):
        split = "train" if number < 40 else "val"
        for name, pixels in (
            ("no_damage", texture(SIDE, SIDE, number)),
            ("damage", rubble(SIDE, number)),
        ):
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / f"{number:03d}.png")
    (root / "train" / "damage" / "broken.jpg").write_bytes(b"no photo")
    return root


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[shapely.Polygon]]:
    """Smooth ground before; after, the same but for three fields of rubble, one in the very corner."""
    folder = tmp_path_factory.mktemp("scene")
    ground = texture(230, 270, 99)
    after, fields = ground.copy(), []
    for number, (row, col) in enumerate(((30, 40), (100, 180), (182, 222))):
        after[:, row : row + 48, col : col + 48] = rubble(48, 100 + number)
        left, top = 300_000 + col * 0.5, 4_100_000 - row * 0.5
        fields.append(shapely.box(left, top - 24, left + 24, top))
    pre = write_raster(folder / "before.tif", ground)
    return pre, write_raster(folder / "after.tif", after), fields


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A backbone of timm with random weights and settled statistics, as a file of its tensors."""
    torch.manual_seed(0)
    network = timm().create_model("resnet18", num_classes=1000).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean of what was seen
    seen = np.stack(
        [texture(SIDE, SIDE, n) if n % 2 else rubble(SIDE, n) for n in range(1000, 1032)]
    )
    with torch.no_grad():
        network((torch.from_numpy(seen).float() / 255 - 0.45) / 0.225)
    file = tmp_path_factory.mktemp("timm") / "resnet18.safetensors"
    safetensors.torch.save_file(network.state_dict(), file)
    return {"backbone": "resnet18", "encoder": str(file), "head": "logistic"}


@pytest.fixture(scope="module")
def windows(photos: Path, learnt: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("windows")
    run_train(arguments("inception-window", photos, out, **learnt))
    return out / "inception-window.safetensors"


def test_squares_with_rubble_are_found(
    windows: Path, scene: tuple[Path, Path, list[shapely.Polygon]], tmp_path: Path
) -> None:
    card = read_card(windows)
    assert card.metrics["validation_auc"] > 0.99
    assert card.metrics["validation_photos"] == 40
    assert card.metrics["validation_false_positive_rate"] == 0
    _, post, fields = scene
    places = gpd.GeoDataFrame(
        {"name": ["Campo"]}, geometry=[shapely.Point(300_050, 4_099_950)], crs=32637
    )
    places.to_file(tmp_path / "names.gpkg")
    options = {
        "weights": windows,
        "overlap": 8,
        "gazetteer": tmp_path / "names.gpkg",
        "device": "cpu",
    }
    run = assess(
        None, post, tmp_path / "run", "inception-window", cluster="threads", workers=1, **options
    )
    assert not run.quarantined
    found = gpd.read_file(tmp_path / "run" / "buildings.gpkg", layer="damage_areas")
    points = gpd.read_file(tmp_path / "run" / "buildings.gpkg", layer="damage_points")
    for field in fields:
        assert found.intersects(field.buffer(-2)).any()
    assert found.intersects(shapely.union_all(fields)).all()
    assert set(points["address"]) == {"Campo"}
    assert points["area_id"].tolist() == found["area_id"].tolist()
    with rasterio.open(tmp_path / "run" / "window_score.tif") as scores:
        assert scores.shape == (-(-230 // 24), -(-270 // 24))
        assert (scores.read(1) != 255).all()
    totals = run.record["totals"]["damage_areas"]
    assert totals["total"] == len(found)
    other = assess(
        None, post, tmp_path / "small", "inception-window", cluster="threads", workers=2, chunk=48, **options
    )  # fmt: skip
    for name in ("damage.tif", "window_score.tif", "buildings.gpkg"):
        assert (run.path / name).read_bytes() == (other.path / name).read_bytes()


def test_features_are_computed_once(windows: Path, photos: Path, learnt: dict[str, str]) -> None:
    """By the command itself, in a process of its own."""
    out = windows.parent
    before = windows.read_bytes()
    kept = sorted((out / "features").rglob("*.safetensors"))
    told = subprocess.run(
        [sys.executable, "-m", "aftermap", "train", "--method", "inception-window", "--data", photos,
         "-o", out, "--chip", str(SIDE), "--device", "cpu", "--backbone", "resnet18", "--encoder",
         learnt["encoder"], "--head", "logistic"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "features" not in told.stderr
    assert windows.read_bytes() == before
    assert sorted((out / "features").rglob("*.safetensors")) == kept
    assert f"aftermap assess POST --method inception-window --weights {windows}" in told.stdout


def test_a_student_of_a_teacher_and_of_its_scene(
    photos: Path, scene: tuple[Path, Path, list[shapely.Polygon]], tmp_path: Path
) -> None:
    small = {"epochs": 2, "batch": 16, "width": 4}
    run_train(arguments("skip-ganomaly", photos, tmp_path / "teacher", **small))
    teacher = tmp_path / "teacher" / "skip-ganomaly.safetensors"
    run_train(
        arguments("deep-disaster", photos, tmp_path / "student", teacher=str(teacher), **small)
    )
    card = read_card(tmp_path / "student" / "deep-disaster.safetensors")
    assert 0 <= card.metrics["auc"] <= 1
    pre, post, fields = scene
    run = assess(
        pre, post, tmp_path / "run", "deep-disaster", fit="before", teacher=teacher, cluster="threads",
        workers=1, device="cpu",
    )  # fmt: skip
    assert any("fitted to the before image" in note for note in run.record["notes"])
    with rasterio.open(tmp_path / "run" / "anomaly_score.tif") as source:
        scores = source.read(1).astype(float)
    rows, cols = np.indices(scores.shape)
    inside = np.zeros(scores.shape, bool)
    for row, col in zip(rows.ravel(), cols.ravel(), strict=True):
        left, top = (
            300_000 + min(col * SIDE, 270 - SIDE) * 0.5,
            4_100_000 - min(row * SIDE, 230 - SIDE) * 0.5,
        )
        square = shapely.box(left, top - SIDE / 2, left + SIDE / 2, top)
        inside[row, col] = square.intersection(shapely.union_all(fields)).area > square.area / 2
    assert scores[inside].min() > np.median(scores[~inside])
    # Again: nothing is trained or computed anew.
    weights = tmp_path / "run-student" / "deep-disaster.safetensors"
    stamp = weights.read_bytes()
    again = assess(
        pre, post, tmp_path / "run", "deep-disaster", fit="before", teacher=teacher, cluster="threads",
        workers=1, device="cpu",
    )  # fmt: skip
    assert again.record["run_id"] == run.record["run_id"]
    assert weights.read_bytes() == stamp
    assert json.loads((tmp_path / "run-student" / "deep-disaster.json").read_text())["metrics"]


def test_other_photos_of_the_same_name_are_another_training(photos: Path, tmp_path: Path) -> None:
    """Also: photos that are kept for validation are not learnt from, whatever lies beside them."""
    small = {"epochs": 1, "batch": 8, "width": 4}
    for number, place in enumerate(("one", "two")):
        for name, part in (("a", ""), ("b", "val")):
            folder = tmp_path / place / "event" / part / "no_damage"
            folder.mkdir(parents=True)
            for k in range(8):
                pixels = texture(SIDE, SIDE, 100 * number + k + 50 * (name == "b"))
                Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / f"{name}{k}.png")
    run_train(arguments("deep-disaster", tmp_path / "one" / "event", tmp_path / "w", **small))
    state = tmp_path / "w" / "state.safetensors"
    with safetensors.safe_open(state, "np") as opened:
        assert json.loads(opened.metadata()["aftermap"])["config"]["used"] == 8
    with pytest.raises(Refused, match="--fresh"):
        run_train(arguments("deep-disaster", tmp_path / "two" / "event", tmp_path / "w", **small))


def test_what_the_paper_varies_can_be_asked_for(photos: Path, tmp_path: Path) -> None:
    varied = {
        "structure": "student", "hints": ["bottleneck"], "selection": "auc", "search_omega": True,
        "contamination": 0.2, "batch_statistics": True,
    }  # fmt: skip
    run_train(
        arguments("deep-disaster", photos, tmp_path / "w", epochs=1, batch=16, width=4, **varied)
    )
    card = read_card(tmp_path / "w" / "deep-disaster.safetensors")
    assert card.options["scored"] == "student"
    assert card.options["hints"] == ["bottleneck"]
    assert card.options["batch_statistics"] is True
    assert sum(card.options["omega"]) == pytest.approx(1)


def test_a_teacher_learns_from_what_is_not_kept_for_tests(photos: Path, tmp_path: Path) -> None:
    small = {"epochs": 1, "batch": 16, "width": 4}
    run_train(arguments("skip-ganomaly", photos, tmp_path / "w", **small))
    with safetensors.safe_open(tmp_path / "w" / "state.safetensors", "np") as opened:
        assert json.loads(opened.metadata()["aftermap"])["config"]["used"] == 80
    with pytest.raises(UsageError, match="Leave out --validation"):
        run_train(
            arguments("skip-ganomaly", photos, tmp_path / "v", validation=str(photos), **small)
        )


@pytest.mark.parametrize("setting", ["hints", "structure", "search_omega", "contamination"])
def test_settings_for_photos_are_refused_elsewhere(tmp_path: Path, setting: str) -> None:
    asked = arguments("fc-ef", tmp_path, tmp_path / "w", **{setting: "x"})
    with pytest.raises(UsageError, match=f"--{setting.replace('_', '-')} means nothing to fc-ef"):
        run_train(asked)


def test_what_makes_no_sense(
    photos: Path, scene: tuple[Path, Path, list[shapely.Polygon]], tmp_path: Path
) -> None:
    pre, post, _ = scene
    with pytest.raises(UsageError, match="--loss means nothing to inception-window"):
        run_train(arguments("inception-window", photos, tmp_path / "w", loss="dice"))
    with pytest.raises(UsageError, match="Give --data once"):
        run_train(arguments("deep-disaster", photos, tmp_path / "w", data=[]))
    with pytest.raises(Refused, match="with damage and without"):
        run_train(
            arguments(
                "inception-window", photos / "val" / "damage", tmp_path / "w", backbone="resnet18"
            )
        )
    with pytest.raises(UsageError, match="only deep-disaster is fitted"):
        assess(pre, post, tmp_path / "run", fit="before")
    with pytest.raises(UsageError, match="go with --fit before"):
        assess(pre, post, tmp_path / "run", "deep-disaster", teacher=tmp_path / "t.safetensors")
    with pytest.raises(UsageError, match="--seed -1 is below 0"):
        run_train(arguments("inception-window", photos, tmp_path / "w", seed=-1))
    with pytest.raises(UsageError, match="give PRE and POST"):
        assess(None, post, tmp_path / "run", "deep-disaster", fit="before")
    with pytest.raises(UsageError, match="--gazetteer means nothing to difference"):
        assess(pre, post, tmp_path / "run", "difference", gazetteer=tmp_path / "names.gpkg")
    assert not (tmp_path / "run").exists()
