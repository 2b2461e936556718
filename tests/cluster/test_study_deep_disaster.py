"""The study of paper 000: a tiny one from end to end, its areas worked out by scikit-learn."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aftermap.cluster.studies.backbone import backbone_of
from aftermap.cluster.studies.deep_disaster import DeepDisasterStudy, SmallDeepDisaster
from aftermap.cluster.studies.deep_disaster_table import VARIANTS, DeepDisasterStudied, summary
from aftermap.cluster.studies.paper import Asked
from aftermap.cluster.studies.sheet import draw_sheet
from aftermap.models.adversarial import train_student
from aftermap.models.checkpoint import load
from aftermap.models.deep_disaster import DeepDisaster
from aftermap.models.fine_tuning import FineTuning, fine_tune
from aftermap.models.heads import Logistic
from aftermap.models.inception_window import InceptionWindow
from aftermap.models.loop import silence
from aftermap.models.photos.open import open_photos
from aftermap.models.photos.photoset import PhotoSet
from aftermap.models.published import DAD_EVENTS, DAD_TABLE_III
from aftermap.scenes.errors import Refused, UsageError
from photos_made import put, rubble
from PIL import Image
from rasters import texture
from sklearn.metrics import roc_auc_score
from studies import carried_out, killed, refused

FOLDERS = ("matthew", os.fsdecode(b"nepal <eq\xe9>"))
EVENTS = ("matthew", "nepal <eq\ufffd>")
"""As they are called: the second one's folder has a name that is no text."""

SIDE = 16


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth ground of two events; damage is hard noise."""
    root = tmp_path_factory.mktemp("secret") / "dad"
    for place, event in enumerate(FOLDERS):
        for number in range(24):
            part = ("train", "val", "test")[0 if number < 12 else 1 if number < 16 else 2]
            for damaged in (False, True):
                seed = 1000 * place + 10 * number + damaged
                pixels = rubble(SIDE, seed) if damaged else texture(SIDE, SIDE, seed)
                folder = root / event / part / ("damage" if damaged else "no_damage")
                put(folder / f"{number}.png", pixels)
    # The same photo is learnt from and tested on.
    copy = root / "matthew" / "test" / "no_damage" / "again.png"
    copy.write_bytes((root / "matthew" / "train" / "no_damage" / "0.png").read_bytes())
    # Of no event, without a label, of no part.
    for name in ("damage/a.png", "matthew/train/b.png", "matthew/damage/c.png"):
        put(root / name, texture(SIDE, SIDE, 7))
    (root / FOLDERS[1] / "train" / "broken.png").write_bytes(b"none")
    return root


def settings(photos: Path) -> dict[str, Any]:
    return {
        "data": (str(photos), str(photos / FOLDERS[1] / "train")), "side": SIDE, "width": 2,
        "teacher_width": 4, "epochs": 2, "batch": 6, "lr": 2e-3, "backbone": "test_byobnet",
        "backbone_side": 32, "tuning_epochs": 8,
    }  # fmt: skip


@pytest.fixture(scope="module")
def done(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> DeepDisasterStudied:
    out = tmp_path_factory.mktemp("study")
    found = carried_out("deep-disaster", out, settings(photos))
    assert isinstance(found, DeepDisasterStudied)
    return found


def scores(weights: Path, photos: PhotoSet) -> np.ndarray:
    """Of photos one by one."""
    network, _ = load(weights)
    assert isinstance(network, DeepDisaster)
    network.eval()
    with torch.no_grad():
        images = [torch.from_numpy(photos.image(i)).float() / 127.5 - 1 for i in range(len(photos))]
        return np.array([float(network.anomaly(image[None])[0]) for image in images])


def test_areas_are_scikit_learn_s(done: DeepDisasterStudied, photos: Path) -> None:
    pictures = open_photos(photos, SIDE)
    (seed,) = done.seeds
    assert set(seed.areas) == set(VARIANTS)
    for variant in VARIANTS:
        for place, event in enumerate(EVENTS):
            weights = done.path / "seed-0" / f"{variant}-{place}" / "deep-disaster.safetensors"
            for other in EVENTS:
                part = pictures.town(FOLDERS[EVENTS.index(other)]).part("test")
                expected = roc_auc_score(part.labels, scores(weights, part))
                assert seed.areas[variant][event][other] == pytest.approx(expected, abs=0.02)
    for event, found in seed.scores.items():
        area = roc_auc_score(found["labels"], found["scores"])
        assert seed.areas["paper"][event][event] == pytest.approx(area)


def test_variants_are_what_they_are_called(done: DeepDisasterStudied) -> None:
    made = {
        variant: load(done.path / "seed-0" / f"{variant}-0" / "deep-disaster.safetensors")[0]
        for variant in VARIANTS
    }
    teacher = load(done.path / "seed-0" / "teacher" / "skip-ganomaly.safetensors")[0].state_dict()
    for variant, network in made.items():
        assert isinstance(network, DeepDisaster)
        taught = variant not in ("teacher", "student", "together")
        if network.teacher is not None:
            same = all(v.equal(teacher[k]) for k, v in network.teacher.state_dict().items())
            assert same is taught, variant
    assert made["teacher"].student is None
    assert made["student"].teacher is None
    assert made["equal"].options["width"] == 4
    assert made["paper"].options["width"] == 2
    assert made["code"].options["form"] == "code"
    assert made["bottleneck"].projection.shape == (2 * 8, 4 * 8)  # type: ignore[union-attr]


def test_unseen_is_the_mean_of_the_other_students() -> None:
    areas = {
        "a": {"a": 0.9, "b": 0.1, "c": 0.2},
        "b": {"a": 0.3, "b": 0.8, "c": 0.4},
        "c": {"a": 0.5, "b": 0.6, "c": 0.7},
    }
    assert summary(areas, False) == pytest.approx({"a": 0.9, "b": 0.8, "c": 0.7, "": 0.8})
    assert summary(areas, True) == pytest.approx({"a": 0.4, "b": 0.35, "c": 0.3, "": 0.35})


def test_supervised_features_tell_noise_from_ground(done: DeepDisasterStudied) -> None:
    rows = done.rows
    assert rows["supervised: test_byobnet"].mean[""] > 0.9
    assert rows["supervised: test_byobnet, unseen"].mean[""] > 0.9


def test_a_backbone_trained_whole_is_judged_by_photos_that_it_did_not_learn_from(
    done: DeepDisasterStudied, photos: Path
) -> None:
    """The same network, made here by hand, and scikit-learn's areas of its scores photo by photo."""
    pictures = open_photos(photos, 32)
    network = backbone_of("test_byobnet", 32, None)
    train = pictures.town(FOLDERS[0]).part("train").labelled
    with torch.no_grad():
        features = np.concatenate([network.features(seen(network, train, i)) for i in range(24)])
    network.set_head(*Logistic().fit(features, train.labels).tensors())
    before = next(network.encoder.parameters()).clone()
    fine_tune(network, train, train.labels, np.arange(24), FineTuning(8))
    assert not before.equal(next(network.encoder.parameters()))
    for place, event in enumerate(EVENTS):
        test = pictures.town(FOLDERS[place]).part("test")
        with torch.no_grad():
            found = [float(network.scores(seen(network, test, i))) for i in range(len(test))]
        area = done.seeds[0].supervised["test_byobnet, trained whole"][EVENTS[0]][event]
        assert area == pytest.approx(roc_auc_score(test.labels, found), abs=0.03)
    assert done.rows["supervised: test_byobnet, trained whole"].mean[""] > 0.9


def seen(network: InceptionWindow, photos: PhotoSet, index: int) -> torch.Tensor:
    """A photo as the network sees it."""
    image = torch.from_numpy(photos.image(index)).float()[None] / 255
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (network.mean, network.std))
    return (image - mean) / std


def test_the_page(done: DeepDisasterStudied, photos: Path) -> None:
    page = (done.path / "study.html").read_text()
    assert str(photos.parent) not in page  # it is sent on
    assert "<eq>" not in page
    assert "fixed random projection" in page
    assert "again.png" in page  # a photo in two parts
    found = [list(pair) for pair in done.sifted.leaks]
    assert found == [["matthew/test/no_damage/again.png", "matthew/train/no_damage/0.png"]]
    assert done.sifted.counts[EVENTS[0]] == {
        "train": [12, 12],
        "validation": [4, 4],
        "test": [9, 8],
    }
    sifted = done.sifted
    assert (sifted.passed_over, sifted.unreadable) == (3, 1)
    assert (sifted.lessons, sifted.unreadable_lessons) == (24, 1)
    assert "3 have no label, no event or no part" in page
    assert "learnt from 24 photos of train (1 more could not be read)" in page
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", page)
    sizes = []
    for content in pictures:
        with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
            sizes.append(picture.size)
    assert sizes == [(8 * 126 + 6, 2 * 166), (3 * 246 + 6, 286)]
    assert "unseen" in done.text()


@pytest.mark.slow
def test_killed_and_run_again(done: DeepDisasterStudied, photos: Path, tmp_path: Path) -> None:
    """In the middle of a student: it goes on, what was trained before is left, the end is the same."""
    here = tmp_path / "seed-0"
    state = here / "paper-1" / "state.safetensors"
    killed("deep-disaster", tmp_path, settings(photos), state.exists)
    assert not (here / "outcome.json").exists()
    assert not (here / "together-0").exists()
    stamps = {file: file.stat().st_mtime_ns for file in here.rglob("state.safetensors")}
    assert {file.parent.name for file in stamps} >= {"teacher", "paper-0", "paper-1"}
    again = carried_out("deep-disaster", tmp_path, settings(photos))
    assert again.to_dict() == done.to_dict()
    del stamps[state]  # it may have had an epoch to go
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps


def test_the_test_part_decides_nothing(
    done: DeepDisasterStudied, photos: Path, tmp_path: Path
) -> None:
    """The same weights come of photos without any to test on."""
    study_folder = done.path / "seed-0"
    config = DeepDisasterStudy(Asked(tmp_path, 1, settings(photos), {})).config
    teacher = study_folder / "teacher" / "skip-ganomaly.safetensors"
    own = open_photos(photos, SIDE).town(FOLDERS[0])
    weights = train_student(
        config.student("paper", tmp_path / "alone", 0, teacher),
        own.part("train").labelled,
        None,
        silence,
    )
    alone, _ = load(weights)
    network, card = load(study_folder / "paper-0" / "deep-disaster.safetensors")
    for name, value in network.state_dict().items():
        assert value.equal(alone.state_dict()[name]), name
    assert card.options["omega"] == [0.4, 0.2, 0.4]


def test_photos_in_the_layout_of_the_published_code(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No photo to train on shows damage: students need none, supervised networks would."""
    for variant in VARIANTS.keys() - {"paper"}:
        monkeypatch.delitem(VARIANTS, variant)
    shutil.copytree(photos, tmp_path / "dad")
    for event in FOLDERS:
        shutil.rmtree(tmp_path / "dad" / event / "train" / "damage")
    asked = settings(tmp_path / "dad") | {"epochs": 1}
    found = carried_out("deep-disaster", tmp_path / "out", asked)
    assert list(found.to_dict()["rows"]) == [
        "student of a teacher, as in the paper", "student of a teacher, as in the paper, unseen",
    ]  # fmt: skip
    page = (tmp_path / "out" / "study.html").read_text()
    assert "No supervised network was trained" in page
    assert page.count("data:image/png") == 1


def test_names_on_a_sheet_stay_below_their_pictures() -> None:
    black = np.zeros((9, 9, 3), np.uint8)
    with Image.open(io.BytesIO(draw_sheet([("", [(black, "W" * 99), (black, "")])], 60))) as sheet:
        below = np.asarray(sheet)[82:100].min(axis=(0, 2))
    assert below[:66].min() < 100
    assert below[66:].min() == 255


def test_what_was_published() -> None:
    row = DAD_TABLE_III[-1]
    assert dict(zip(DAD_EVENTS, row.seen, strict=True))["Ecuador Earthquake"] == 0.91
    assert np.mean(row.seen) == pytest.approx(0.84, abs=0.001)
    means = {"VGG19": (0.85965, 0.756), "VGG16": (0.88765, 0.75875), "DANN": (0.761, 0.7105)}
    means |= {"SocialTrans": (0.7915, 0.7475), "Deep-Disaster": (0.84, 0.8035)}
    for row in DAD_TABLE_III:
        # Its 0.7105 is the mean of what it prints only within rounding.
        assert (np.mean(row.seen), np.mean(row.unseen)) == pytest.approx(
            means[row.method], abs=6e-4
        )


def test_settings_are_the_preset_s(tmp_path: Path) -> None:
    config = DeepDisasterStudy(Asked(tmp_path, 1, {}, {})).config
    assert (config.side, config.width, config.teacher_width, config.epochs) == (64, 16, 64, 15)
    assert config.backbones == ("vgg16", "vgg19")
    small = SmallDeepDisaster(Asked(tmp_path, 1, {"width": 4}, {})).config
    assert (small.width, small.side) == (4, 32)


def test_what_cannot_be_studied_is_refused_before_anything_is_made(
    photos: Path, tmp_path: Path
) -> None:
    def refuses(kind: type[Exception], told: str, **changes: object) -> None:
        refused("deep-disaster", tmp_path / "out", settings(photos) | changes, kind, told)

    refuses(Refused, "There is no folder", data=(str(tmp_path / "none"),))
    refuses(Refused, "two events or more", data=(str(photos / FOLDERS[0]),))
    refuses(Refused, "12 photos without damage of matthew to train on .* --batch", batch=64)
    refuses(UsageError, "8, 16, 32, 64", side=20)
    few = put(tmp_path / "few" / "a.png", rubble(SIDE, 1)).parent
    refuses(Refused, "1 photos of .*few to train on .* batch of 6", data=(str(photos), str(few)))
    tested = photos / "matthew" / "test"
    refuses(Refused, r"learn from 17, such as .*second --data", data=(str(photos), str(tested)))
    shutil.copytree(photos, tmp_path / "calm")
    shutil.rmtree(tmp_path / "calm" / "matthew" / "test" / "damage")
    refuses(
        Refused, "0 with and 9 without in the test part of matthew", data=(str(tmp_path / "calm"),)
    )
    town = {"towns": [["alder", 1]], "intact": 40, "damaged": 4}
    refuses(Refused, "two events or more", data=("synthetic",), synthetic=town)
    refuses(UsageError, "3 with. Ask for 4", data=("synthetic",), synthetic=town | {"damaged": 3})
    towns = town | {"towns": [["alder", 1], ["birch", 2]]}
    refuses(Refused, "24 photos of each town .* 64", data=("synthetic",), synthetic=towns, batch=64)
    refuses(UsageError, "Give --data once or twice", data=("a", "b", "c"))
    refuses(UsageError, "does not heed --size", size="small")
    asked = {"encoder": "vgg16.safetensors"}
    refused("deep-disaster", tmp_path / "out", asked, UsageError, "Name it with --backbone")
