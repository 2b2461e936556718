"""`aftermap xbd`: figures that are counted otherwise here, targets, and everything that may be wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from aftermap.cluster.xbd import survey
from aftermap.models.chips.open import open_chips
from aftermap.scenes.errors import Refused, UsageError
from aftermap.scenes.xbd import XbdBuilding, write_xbd
from PIL import Image
from typer.testing import CliRunner

from aftermap.cli import app

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
SIDE = 64
GROUND = Affine.translation(-99, 19) * Affine.scale(5e-6, -4.5e-6)
LEVELS = {
    "no-damage": 1,
    "minor-damage": 2,
    "major-damage": 3,
    "destroyed": 4,
    "un-classified": 255,
}
Houses = Mapping[str, tuple[str, shapely.Polygon]]

HOUSES: Houses = {
    "a": ("no-damage", shapely.box(4, 4, 14, 12)),
    "b": ("destroyed", shapely.box(30, 5, 40, 20)),
    "c": ("un-classified", shapely.box(20, 40, 33, 52)),
}


def image(path: Path, side: int = SIDE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(1, 255, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def write_label(path: Path, houses: Houses, graded: bool, side: int = SIDE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    buildings = [
        XbdBuilding(uid, level if graded else None, shape, _degrees(shape))
        for uid, (level, shape) in houses.items()
    ]
    write_xbd(path, buildings, {"width": side, "height": side})


def tile(outer: Path, name: str, houses: Houses = HOUSES) -> None:
    for when in ("pre", "post"):
        image(outer / "images" / f"{name}_{when}_disaster.png")
        write_label(outer / "labels" / f"{name}_{when}_disaster.json", houses, when == "post")


def _degrees(shape: shapely.Polygon) -> shapely.Polygon:
    return shapely.transform(shape, lambda xy: np.column_stack(GROUND * xy.T))


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read(1)


def boxes(houses: Houses, before: bool = False) -> np.ndarray:
    """The target of upright boxes with whole corners, which are part of them."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for level, shape in sorted(houses.values(), key=lambda house: LEVELS[house[0]]):
        left, top, right, bottom = map(int, shape.bounds)
        mask[top : bottom + 1, left : right + 1] = 1 if before else LEVELS[level]
    return mask


def test_figures_by_folder_and_disaster(tmp_path: Path) -> None:
    tile(tmp_path / "train", "fire_00000000")
    tile(tmp_path / "train", "flood_00000000", {"a": HOUSES["a"]})
    tile(tmp_path / "tier3", "fire_00000001", {})
    tile(tmp_path / "test", "fire_00000002")
    tile(tmp_path / "hold", "flood_00000001")
    done = survey(tmp_path)
    assert (done.left_out, done.problems, done.exit_code) == ((), (), 0)
    assert done.parts == {"train": "train", "tier3": "train", "test": "validation", "hold": "test"}
    assert {name: (t.tiles, t.pairs) for name, t in done.by_folder.items()} == {
        "hold": (1, 1), "test": (1, 1), "tier3": (1, 1), "train": (2, 2)
    }  # fmt: skip
    assert dict(done.by_disaster["flood"].buildings) == {1: 2, 4: 1, 255: 1}
    told = done.to_dict()
    assert told["total"]["buildings"] == {
        "no-damage": 4, "minor-damage": 0, "major-damage": 0, "destroyed": 3, "un-classified": 3
    }  # fmt: skip
    share = (3 * boxes(HOUSES) == 4 * 3).sum() / SIDE**2
    assert told["by_folder"]["test"]["area_share"]["destroyed"] == pytest.approx(share)
    assert told["total"]["area_share"]["destroyed"] == pytest.approx(share * 3 / 5)
    assert told["outlines_on"] == "before"
    assert json.loads(json.dumps(told)) == told
    text = done.text()
    assert "fire" in text
    assert "test is validation, hold is test" in text
    shutil.rmtree(tmp_path / "test" / "labels")
    assert survey(tmp_path).parts == {"train": "train", "tier3": "train", "hold": "validation"}


@pytest.mark.parametrize("unclassified", [None, "ignore", "no-damage"])
def test_targets_as_paper_002_draws_them(tmp_path: Path, unclassified: str | None) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    tile(data / "train", "fire_00000000")
    done = survey(data, out, unclassified=unclassified)
    own = out / "train" / "targets"
    after = boxes(HOUSES)
    if unclassified == "no-damage":
        after[after == 255] = 1
    assert np.array_equal(read(own / "fire_00000000_post_disaster_target.png"), after)
    before = read(own / "fire_00000000_pre_disaster_target.png")
    assert np.array_equal(before, boxes(HOUSES, before=True))
    about = json.loads((out / "targets.json").read_text())
    assert about["total"] == done.to_dict()["total"]
    assert about["rules_in_full"]["unclassified"] == (unclassified or "ignore")
    # Laid over the data they are its targets.
    shutil.rmtree(data / "train" / "labels")
    shutil.copytree(own, data / "train" / "targets")
    chips = open_chips(data, classes=5)
    assert np.array_equal(chips.chip(0).codes, after)
    again = survey(data)
    assert again.total.pixels == done.total.pixels
    assert again.total.labelled == 0


def test_names_of_old_and_their_targets(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    for when in ("pre", "post"):
        image(data / "test" / "images" / f"test_{when}_00000.png")
        write_label(data / "test" / "labels" / f"test_{when}_00000.json", HOUSES, when == "post")
    survey(data, out, unclassified="no-damage")
    own = out / "test" / "targets"
    assert np.array_equal(
        read(own / "test_localization_00000_target.png"), boxes(HOUSES, before=True)
    )
    assert set(np.unique(read(own / "test_damage_00000_target.png")).tolist()) == {0, 1, 4}
    # As the challenge handed them out: without labels.
    shutil.rmtree(data / "test" / "labels")
    shutil.copytree(own, data / "test" / "targets")
    chips = open_chips(data, classes=5)
    assert chips.places[0].name == "test/test_00000"
    assert set(np.unique(chips.chip(0).codes).tolist()) == {0, 1, 4}
    assert survey(data, tmp_path / "more").problems == (
        "1 case: has no label to draw targets from (test/test_post_00000.png)",
    )


def test_geotiffs_lie_where_the_labels_say(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    tile(data, "fire_00000000")
    tile(data, "fire_00000001", {})
    done = survey(data, out, geotiff=True)
    path = out / "targets" / "fire_00000000_post_disaster_target.tif"
    with rasterio.open(path) as source:
        assert source.crs.to_epsg() == 4326
        for corner in ((0, 0), (SIDE, SIDE)):
            assert ~GROUND * (source.transform * corner) == pytest.approx(corner, abs=1e-2)
        assert np.array_equal(source.read(1), boxes(HOUSES))
    assert read(out / "targets" / "fire_00000001_pre_disaster_target.tif").sum() == 0
    assert done.problems == (
        "1 case: does not tell where it lies: no coordinates (fire_00000001_post_disaster.json)",
    )


def test_everything_that_may_be_wrong_is_told(tmp_path: Path) -> None:
    data = tmp_path / "train"
    for k in range(12):
        tile(data, f"fire_{k:08}")
    images, labels = data / "images", data / "labels"
    (images / "fire_00000001_post_disaster.png").unlink()
    pre = images / "fire_00000002_pre_disaster.png"
    whole = pre.read_bytes()
    middle = len(whole) // 2
    pre.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    (labels / "fire_00000003_post_disaster.json").write_text("{")
    (labels / "fire_00000004_post_disaster.json").unlink()
    image(images / "fire_00000005_pre_disaster.png", side=32)
    write_label(labels / "fire_00000006_post_disaster.json", HOUSES, True, side=32)
    (labels / "fire_00000007_pre_disaster.json").write_text("[]")
    (labels / "fire_00000008_pre_disaster.json").unlink()
    odd = {"a": HOUSES["a"], "new": HOUSES["b"], "far": ("destroyed", shapely.box(70, 70, 80, 80))}
    write_label(labels / "fire_00000009_post_disaster.json", odd, True)
    label = labels / "fire_00000010_post_disaster.json"
    features = json.loads(label.read_text())
    features["features"]["xy"][0]["properties"]["subtype"] = "flooded"
    features["features"]["xy"][1]["wkt"] = "POLYGON EMPTY"
    features["features"]["lng_lat"][2]["properties"]["uid"] = "z"
    label.write_text(json.dumps(features))
    for when in ("pre", "post"):
        (images / f"fire_00000011_{when}_disaster.png").unlink()
    done = survey(tmp_path)
    assert set(done.left_out) == {
        "1 tile: has no image after the event (train/fire_00000001_pre_disaster.png)",
        "1 tile: has an image before the event that is cut short or damaged "
        "(train/fire_00000002_pre_disaster.png)",
        "1 tile: has a label after the event that cannot be read "
        "(train/fire_00000003_post_disaster.json)",
        "1 tile: has no file after the event in labels/ (train/fire_00000004_post_disaster.png)",
        "1 tile: has images of different sizes before and after "
        "(train/fire_00000005_post_disaster.png)",
        "1 tile: has a label of an image of another size (train/fire_00000006_post_disaster.json)",
    }
    told = "\n".join(done.problems)
    for words in (
        "3 labels: has no image (train/labels/fire_00000001_post_disaster.json, "
        "train/labels/fire_00000011_post_disaster.json, ",
        "1 case: cannot be read; outlines are those of the label after "
        "(train/fire_00000007_pre_disaster.json file)",
        "1 case: is not there; outlines are those of the label after "
        "(train/fire_00000008_pre_disaster.json file)",
        "1 case: lies outside the image; kept (train/fire_00000009_post_disaster.json uid far)",
        "is in the label before the event but not in that after; kept "
        "(train/fire_00000009_pre_disaster.json uid b",
        "2 cases: is in the label after the event but not in that before; kept "
        "(train/fire_00000009_pre_disaster.json uid far, ",
        "1 case: has an unknown subtype; read as none (train/fire_00000010_post_disaster.json xy 0)",
        "1 case: has no area; left out (train/fire_00000010_post_disaster.json xy 1)",
        "1 case: has no partner in lng_lat; kept (train/fire_00000010_post_disaster.json xy 2)",
        "1 case: is in lng_lat but not in xy; left out "
        "(train/fire_00000010_post_disaster.json uid z)",
    ):
        assert words in told
    assert (done.total.tiles, done.total.pairs, done.exit_code) == (11, 5, 4)
    assert "left out   1 tile: " in done.text()


def test_targets_that_cannot_be(tmp_path: Path) -> None:
    for k in range(3):
        tile(tmp_path, f"fire_{k:08}")
    shutil.rmtree(tmp_path / "labels")
    targets = tmp_path / "targets"
    targets.mkdir()
    for k, mask in enumerate((boxes(HOUSES), boxes(HOUSES)[:40], boxes(HOUSES) + 7)):
        Image.fromarray(mask).save(targets / f"fire_{k:08}_post_disaster_target.png")
    done = survey(tmp_path)
    assert done.total.pairs == 1
    assert set(done.left_out) == {
        "1 tile: has a target of another size than its images "
        "(fire_00000001_post_disaster_target.png)",
        "1 tile: has a target with other values than 0-4 and 255 "
        "(fire_00000002_post_disaster_target.png)",
    }


def test_other_peoples_folders_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    tile(data, "fire_00000000")
    survey(data, out)
    survey(data, out, rules="baseline")
    assert json.loads((out / "targets.json").read_text())["rules"] == "baseline"
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    survey(data, Path())
    assert (empty / "targets.json").is_file()
    (out / "targets" / "notes.txt").touch()
    with pytest.raises(Refused, match=r"holds 'targets.notes.txt', which is none of the targets"):
        survey(data, out)
    (out / "targets" / "notes.txt").unlink()
    (out / "targets.json").unlink()
    for other in (out, data, tmp_path, data / "images"):
        with pytest.raises(Refused, match="Give --targets a new folder"):
            survey(data, other)
    with pytest.raises(Refused, match="is a file"):
        survey(data, data / "images" / "fire_00000000_pre_disaster.png")
    assert len(list(data.rglob("*.*"))) == 4
    assert not list(tmp_path.glob(".*")), "nothing half-written is left"


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="There is no folder"):
        survey(tmp_path / "gone")
    with pytest.raises(Refused, match="holds no tiles of xBD"):
        survey(tmp_path)
    image(tmp_path / "data" / "images" / "fire_00000000_pre_disaster.png")
    with pytest.raises(Refused, match=r"No tile of .* can be used: 1 tile: has no image after"):
        survey(tmp_path / "data", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    tile(tmp_path / "data", "fire_00000000")
    with pytest.raises(UsageError, match="--rules is one of dual-hrnet, baseline, exact"):
        survey(tmp_path / "data", rules="mine")
    with pytest.raises(UsageError, match="--unclassified is ignore or no-damage"):
        survey(tmp_path / "data", unclassified="1")
    with pytest.raises(UsageError, match="Give --targets OUT too"):
        survey(tmp_path / "data", geotiff=True)


def test_names_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    """Control characters of a stranger's label do not reach the terminal."""
    tile(tmp_path, "fire_00000000")
    label = tmp_path / "labels" / "fire_00000000_post_disaster.json"
    content = json.loads(label.read_text())
    content["metadata"]["disaster"] = "fire\x1b[2J\n"
    content["features"]["xy"][0]["properties"]["uid"] = "\x1b[31m"
    label.write_text(json.dumps(content))
    assert "\x1b" not in survey(tmp_path).text()


def test_the_command(tmp_path: Path) -> None:
    tile(tmp_path / "data", "fire_00000000")
    out = tmp_path / "out"
    asked: list[Any] = ["xbd", tmp_path / "data", "--targets", out, "--rules", "baseline", "--json"]
    done = CliRunner().invoke(app, [str(word) for word in asked])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["rules"] == "baseline"
    assert told["targets"] == str(out)
    mask = read(out / "targets" / "fire_00000000_post_disaster_target.png")
    assert set(np.unique(mask).tolist()) == {0, 1, 4}
    (tmp_path / "data" / "images" / "fire_00000009_pre_disaster.png").touch()
    done = CliRunner().invoke(app, ["xbd", str(tmp_path / "data")])
    assert done.exit_code == 4
    assert "has no image after the event" in done.stdout


@pytest.mark.real
def test_the_puebla_earthquake_in_the_layout_of_the_challenge(tmp_path: Path, real: Path) -> None:
    """Targets only, at half resolution, as JPEG; counted here by Pillow."""
    source = real.parent / "train" / "mexico"
    if not source.is_dir():
        pytest.skip(f"real chips are not at {source}")
    outer = tmp_path / "train"
    (outer / "images").mkdir(parents=True)
    (outer / "targets").mkdir()
    for folder, into in (("img_pre", "images"), ("img_post", "images"), ("gt_post", "targets")):
        for path in (source / folder).iterdir():
            (outer / into / path.name).symlink_to(path)
    done = survey(tmp_path)
    expected = np.zeros(256, np.int64)
    for path in (source / "gt_post").iterdir():
        expected += np.bincount(np.asarray(Image.open(path)).ravel(), minlength=256)
    assert (done.left_out, done.problems) == ((), ())
    assert (done.total.pairs, done.total.labelled) == (121, 0)
    assert {code: n for code, n in done.total.pixels.items() if n} == {
        code: n for code, n in enumerate(expected.tolist()) if n
    }
    assert list(done.by_disaster) == ["mexico-earthquake"]
