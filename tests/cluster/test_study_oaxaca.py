"""The study of paper 003: tiny ones from end to end, their figures worked out by scikit-learn."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from aftermap.cluster.studies.backbone import backbone_of
from aftermap.cluster.studies.oaxaca import Oaxaca, SmallOaxaca
from aftermap.cluster.studies.oaxaca_table import METHODS, OaxacaStudied, Permutation
from aftermap.cluster.studies.paper import Asked
from aftermap.models.bottlenecks import Bottlenecks
from aftermap.models.photos.open import open_photos
from aftermap.models.photos.synthetic import PhotoRecipe, synthetic_photos
from aftermap.models.town_split import draw, held_out
from aftermap.scenes.errors import Refused, UsageError
from aftermap.scenes.synth import Synth, render
from photos_made import put
from rasters import texture
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from studies import carried_out, killed, refused

TOWNS = ("Juchitán", "Santa María <Xadani>", "Unión Hidalgo")
SIDE = 32


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth ground, and ground with some noise, of three towns."""
    root = tmp_path_factory.mktemp("secret") / "drones"
    for place, town in enumerate(TOWNS):
        for number in range(40):
            seed = 100 * place + number
            pixels = texture(SIDE, SIDE, seed).astype(np.float32) * (0.6 + 0.2 * place)
            damaged = number % 2 == 0
            if damaged:
                pixels += np.random.default_rng(seed).normal(0, 30, pixels.shape)
            folder = root / town / ("damage" if damaged else "no_damage")
            put(folder / f"{number}.png", np.clip(pixels, 0, 255).astype(np.uint8))
    (root / TOWNS[0] / "damage" / "broken.png").write_bytes(b"none")
    for name in ("damage/nowhere.png", f"{TOWNS[1]}/unsorted.png"):
        put(root / name, texture(SIDE, SIDE, 1))
    return root


def settings(photos: Path) -> dict[str, Any]:
    return {
        "data": (str(photos),), "backbone": "test_byobnet", "side": SIDE, "steps": 20, "trees": 8,
        "sizes": (8, 16), "test_size": 16,
    }  # fmt: skip


@pytest.fixture(scope="module")
def done(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> OaxacaStudied:
    out = tmp_path_factory.mktemp("study")
    found = carried_out("oaxaca", out, settings(photos), 2)
    assert isinstance(found, OaxacaStudied)
    return found


def test_figures_are_scikit_learn_s(done: OaxacaStudied, photos: Path) -> None:
    every = open_photos(photos, SIDE).labelled
    pictures = every.replaced([photo for photo in every.photos if photo.town])
    network = backbone_of("test_byobnet", SIDE, None)
    before = sorted((done.path / "features").rglob("*"))
    features = Bottlenecks(done.path / "features", network).of(pictures)[:, 0]
    assert sorted((done.path / "features").rglob("*")) == before  # computed once
    number = {photo: index for index, photo in enumerate(pictures.photos)}
    for seed in done.seeds:
        points = {(p["code"], p["size"]): p for p in seed.methods["logistic"]}
        for split in held_out(TOWNS):
            for size in (8, 16):
                parts = draw(pictures, split, size // 2, seed.seed, 16)
                train, test = (
                    features[[number[p] for p in part.photos]] for part in (parts.train, parts.test)
                )
                model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
                model.fit(train, parts.train.labels)
                point, truth = points[split.code, size], parts.test.labels
                assert point["accuracy"] == pytest.approx(model.score(test, truth))
                area = roc_auc_score(truth, model.predict_proba(test)[:, 1])
                assert point["auc"] == pytest.approx(area, abs=0.01)
    means = done.methods("auc")["hog"]["all"].mean["16"]
    told = [p["auc"] for s in done.seeds for p in s.methods["hog"] if p["size"] == 16]
    assert means == pytest.approx(np.mean(told))


def test_something_is_learnt(done: OaxacaStudied) -> None:
    assert done.methods("auc")["moments"]["all"].mean["16"] > 0.85
    assert set(done.methods()) == set(METHODS)


def test_the_paper_s_layer_and_its_threshold(done: OaxacaStudied) -> None:
    assert len(done.codes) == 6
    for seed in done.seeds:
        for found in seed.scored:
            scores, truth = np.array(found.test_scores), np.array(found.test_labels)
            assert found.area == pytest.approx(roc_auc_score(truth, scores))
            (point,) = (p for p in seed.permuted if p["code"] == found.code and p["size"] == 16)
            assert point["accuracy"] == ((scores >= 0.5) == truth).mean()
            held, known = np.array(found.validation_scores), np.array(found.validation_labels)
            false, true, thresholds = roc_curve(known, held, drop_intermediate=False)
            best = true[false == 0].max()
            if found.chosen is None:
                assert best == 0
                continue
            assert found.chosen.true_positive_rate == pytest.approx(best)
            assert found.chosen.threshold == pytest.approx(thresholds[(false == 0)][-1])
            assert found.tested is not None
            assert found.tested[1] == (scores[truth] >= found.chosen.threshold).mean()


def test_no_threshold_where_the_highest_photo_shows_no_damage() -> None:
    found = Permutation("a-b-c", [0.1, 0.9], [True, False], [0.2, 0.3], [True, False])
    assert found.chosen is None
    assert found.tested is None


def test_the_plane_and_its_neighbours(done: OaxacaStudied) -> None:
    points, town = np.array(done.plane.points), np.array(done.plane.town)
    assert points.shape == (120, 2)
    near = NearestNeighbors(n_neighbors=1).fit(points).kneighbors(return_distance=False)[:, 0]
    assert done.plane.neighbours == pytest.approx((town == town[near]).mean())
    assert done.plane.counts == [(name, 20, 20) for name in TOWNS]
    assert done.plane.unreadable == 1
    assert done.plane.passed_over == 2


def test_the_page(done: OaxacaStudied, photos: Path) -> None:
    page = (done.path / "study.html").read_text()
    assert str(photos.parent) not in page  # it is sent on
    assert "<Xadani>" not in page
    assert "with random weights" in page
    assert "2 have no label or are of no town" in page
    assert "0.983629" in page
    assert "±" in done.text()
    drawings = re.findall(r"<svg.*?</svg>", page, re.S)
    curve, roc, plane = (ElementTree.fromstring(drawing) for drawing in drawings)
    name = "{http://www.w3.org/2000/svg}"
    assert len(curve.findall(f".//{name}polyline")) == 2 + len(METHODS)
    assert len(roc.findall(f".//{name}polyline")) == 6
    assert len(plane.findall(f".//{name}circle")) == 60
    for line in roc.iter(f"{name}polyline"):
        assert line.attrib["points"].startswith("0.0,340.0 ")
        assert line.attrib["points"].endswith(" 440.0,0.0")
    told = json.loads((done.path / "study.json").read_text())
    assert told["published"]["accuracy"]["U-J-S"][0] == 0.9


def test_again_only_what_is_missing_is_done(done: OaxacaStudied, photos: Path) -> None:
    before = (done.path / "study.json").read_bytes()
    kept = done.path / "seed-0" / "outcome.json"
    stamp = kept.stat().st_mtime_ns
    (done.path / "seed-1" / "outcome.json").unlink()
    carried_out("oaxaca", done.path, settings(photos), 2)
    assert (done.path / "study.json").read_bytes() == before
    assert kept.stat().st_mtime_ns == stamp
    with pytest.raises(Refused, match=r"another study: .*steps was 20, now 30"):
        carried_out("oaxaca", done.path, settings(photos) | {"steps": 30}, 2)


@pytest.mark.slow
def test_killed_and_run_again(photos: Path, done: OaxacaStudied, tmp_path: Path) -> None:
    killed("oaxaca", tmp_path, settings(photos), (tmp_path / "plane/outcome.json").exists, 2)
    again = carried_out("oaxaca", tmp_path, settings(photos), 2)
    assert isinstance(again, OaxacaStudied)
    assert again.permuted == done.permuted
    assert again.methods("auc") == done.methods("auc")


def test_synthetic_photos_show_what_the_truth_says(tmp_path: Path) -> None:
    recipe = PhotoRecipe((("north", 910_010),), 6, 4, parts=(("train", 0.5), ("test", 0.5)))
    folder = synthetic_photos(tmp_path, recipe)
    stamps = {p: p.stat().st_mtime_ns for p in folder.rglob("*.png")}
    assert synthetic_photos(tmp_path, recipe) == folder
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.png")} == stamps
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]
    photos = open_photos(folder, 96)
    assert photos.towns == ("north",)
    assert [len(photos.part(part)) for part in ("train", "test")] == [5, 5]
    for index, photo in enumerate(photos.photos):
        seed, row, col = map(int, photo.path.stem.split("-"))
        side = 6 * 8 * 96  # 1,400 m in blocks of 8 squares
        scene = Synth(size=side, seed=seed, gsd=0.3)
        codes = render(scene, "truth", row, col, 96, 96)
        assert photo.damaged == bool((codes == 4).mean() >= 0.1)
        if not photo.damaged:
            assert set(np.unique(codes)) <= {0, 1}
        if index < 2:
            pixels = render(scene, "post", row, col, 96, 96)
            assert np.array_equal(photos.image(index), pixels)


def test_settings_are_the_preset_s(tmp_path: Path) -> None:
    config = Oaxaca(Asked(tmp_path, 1, {}, {})).config
    assert (config.backbone, config.side, config.steps, config.batch) == (
        "inception_v3",
        299,
        1000,
        10,
    )
    assert config.sizes == (20, 50, 100, 150, 200)
    small = SmallOaxaca(Asked(tmp_path, 1, {"chip": 64}, {})).config
    assert (small.side, small.sizes, small.test_size) == (64, config.sizes, 100)


def test_an_encoder_is_told_by_its_content(tmp_path: Path) -> None:
    """Another one of the same name is another study."""
    file, found = tmp_path / "secret" / "timm.safetensors", []
    file.parent.mkdir()
    for content in (b"one", b"two", b"one"):
        file.write_bytes(content)
        found.append(Oaxaca(Asked(tmp_path, 1, {"encoder": str(file)}, {})).settings())
    assert found[0] == found[2]
    assert found[0] != found[1]
    assert found[0]["encoder"] == "timm.safetensors"


def test_what_cannot_be_studied_is_refused_before_anything_is_made(
    photos: Path, tmp_path: Path
) -> None:
    def refuses(kind: type[Exception], told: str, **changes: object) -> None:
        refused("oaxaca", tmp_path / "out", settings(photos) | changes, kind, told)

    refuses(Refused, "There is no folder", data=(str(tmp_path / "none"),))
    refuses(Refused, "from 3 towns or more", data=(str(photos / TOWNS[0]),))
    refuses(Refused, "30 photos without damage are needed", test_size=30)
    refuses(UsageError, "no model 'huge'", backbone="huge")
    refuses(UsageError, "Give --data once", data=("a", "b"))
    refuses(UsageError, "does not heed --epochs, --size", epochs=3, size="small")
    refuses(UsageError, "without =", weights=(1.0,))
    refuses(UsageError, "steps must be positive", steps=0)
    refuses(UsageError, r"even numbers .* got \[8, 9\]", sizes=(8, 9))
    many = {"towns": [[name, 1] for name in "abc"], "intact": 7, "damaged": 9}
    refuses(
        Refused,
        "8 synthetic photos of each class are needed; got 7",
        data=("synthetic",),
        synthetic=many,
        sizes=(8,),
        test_size=8,
    )
    refuses(Refused, "none.safetensors", encoder=str(tmp_path / "none.safetensors"))
