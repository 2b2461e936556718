"""The layout of the xBD challenge: masks from labels, grounds from their corners, parts."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import shapely
from aftermap.models.chips.open import open_chips
from aftermap.models.chips.xbd import read_challenge
from aftermap.models.chips.xbd_targets import XbdMask
from aftermap.scenes.errors import Refused
from aftermap.scenes.split import divide, leaks
from aftermap.scenes.xbd import read_xbd
from aftermap.scenes.xbd_ground import ground
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shapely.affinity import rotate, translate
from skimage.draw import polygon as skimage_polygon

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
Write = Callable[[Path, np.ndarray], None]
Label = Callable[..., None]
SIDE = 64
HOUSE = shapely.box(10, 20, 30, 40)


def tile(
    root: Path,
    name: str,
    buildings: list[tuple[str | None, shapely.Geometry]] | None,
    write_image: Write,
    write_label: Label,
    affine: tuple[float, ...] | None = None,
    suffix: str = ".png",
) -> None:
    rng = np.random.default_rng(0)
    for when in ("pre", "post"):
        image = rng.integers(1, 255, (3, SIDE, SIDE), np.uint8)
        write_image(root / "images" / f"{name}_{when}_disaster{suffix}", image)
        if buildings is not None:
            own = [(None if when == "pre" else level, shape) for level, shape in buildings]
            write_label(root / "labels" / f"{name}_{when}_disaster.json", own, SIDE, affine)


def centres(shape: shapely.Geometry) -> np.ndarray:
    """Pixels whose centre lies in a shape, by shapely."""
    rows, cols = np.mgrid[:SIDE, :SIDE] + 0.5
    return shapely.contains_xy(shape, cols, rows)


def test_masks_have_levels_holes_and_order(
    tmp_path: Path, write_image: Write, write_label: Label
) -> None:
    ring = shapely.box(5.2, 5.3, 40.4, 40.2).difference(shapely.box(15.1, 15.2, 25.3, 25.4))
    parts = shapely.MultiPolygon([shapely.box(45, 2, 50, 7), shapely.box(52, 2, 60, 9)])
    crown = rotate(shapely.box(20.2, 30.1, 50.3, 55.4), 33)
    # Not in the order in which they are drawn.
    buildings = [
        ("un-classified", translate(HOUSE, 25, 15)),
        ("destroyed", crown),
        ("no-damage", ring),
        ("major-damage", parts),
        ("minor-damage", translate(ring, 8.5, 4)),
        (None, shapely.box(0, 60, 4, 64)),
    ]
    tile(tmp_path, "a-fire_00000001", buildings, write_image, write_label)
    chips = open_chips(tmp_path, classes=5)
    expected = np.zeros((SIDE, SIDE), np.uint8)
    for code, shape in (
        (1, ring),
        (2, translate(ring, 8.5, 4)),
        (3, parts),
        (4, crown),
        (255, translate(HOUSE, 25, 15)),
        (255, shapely.box(0, 60, 4, 64)),
    ):
        expected[centres(shape)] = code
    assert np.array_equal(chips.chip(0).codes, expected)
    assert chips.values == set(np.unique(expected)) == {0, 1, 2, 3, 4, 255}
    assert chips.places[0].label == "damaged"


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(st.tuples(st.integers(-3000, 9000), st.integers(-3000, 9000)), min_size=3, max_size=9),
    st.sampled_from(["no-damage", "destroyed"]),
)
def test_any_simple_polygon_is_drawn_by_pixel_centres(
    tmp_path: Path, write_label: Label, points: list[tuple[int, int]], subtype: str
) -> None:
    shape = shapely.MultiPoint(np.array(points) / 100).convex_hull
    if shape.geom_type != "Polygon":
        return
    path = tmp_path / "label.json"
    write_label(path, [(subtype, shape)], SIDE)
    mask = XbdMask(path).read(1)[0]
    rows, cols = np.mgrid[:SIDE, :SIDE] + 0.5
    at = shapely.points(cols, rows)
    clear = shapely.distance(shape.exterior, at) > 1e-9  # a centre on an edge belongs to either
    inside = shapely.contains(shape, at)
    assert np.array_equal((mask > 0)[clear], inside[clear])
    # And by scikit-image, whose pixel centres are whole numbers.
    xy = shapely.get_coordinates(shape.exterior) - 0.5
    other = np.zeros((SIDE, SIDE), bool)
    other[skimage_polygon(xy[:, 1], xy[:, 0], (SIDE, SIDE))] = True
    assert np.array_equal((mask > 0)[clear], other[clear])


def lonlat(lon: float, lat: float) -> tuple[float, ...]:
    """Pixels to degrees, as shapely wants it: north up, 0.5 m, the corner at a place."""
    return (5e-6, 0, 0, -4.5e-6, lon, lat)


def test_the_ground_follows_from_the_corners(
    tmp_path: Path, write_image: Write, write_label: Label
) -> None:
    step, down = 5e-6 * SIDE, 4.5e-6 * SIDE
    for i in range(4):
        buildings = [("no-damage", HOUSE), ("destroyed", translate(HOUSE, 20, 9))]
        affine = lonlat(-99 + i * step, 19)
        tile(tmp_path, f"a-quake_{i:08}", buildings, write_image, write_label, affine)
    tile(tmp_path, "a-quake_00000009", [], write_image, write_label, lonlat(-99, 19))
    chips = open_chips(tmp_path, classes=5)
    places = chips.places
    for i, place in enumerate(places[:4]):
        assert place.crs == "EPSG:4326"
        expected = (-99 + i * step, 19 - down, -99 + (i + 1) * step, 19)
        assert place.box == pytest.approx(expected, abs=1.1 * 5e-6)
        west, south, east, north = place.box
        assert west < expected[0]
        assert south < expected[1]
        assert east > expected[2]
        assert north > expected[3]
        assert place.group == ""
    # A tile without buildings does not tell where it lies.
    assert (places[4].box, places[4].group, places[4].label) == (None, "a-quake", "intact")
    assert len(leaks(places, ["train", "test", "train", "test", ""])) == 3
    splits = divide(places, {"train": 0.5, "test": 0.5}, 0)
    assert leaks(places, splits) == []


def test_a_ground_that_cannot_be_told(tmp_path: Path, write_label: Label) -> None:
    path = tmp_path / "label.json"
    write_label(path, [("no-damage", HOUSE)], SIDE)
    assert ground(read_xbd(path)) is None
    write_label(path, [("no-damage", shapely.box(5, 5, 5.4, 60))], SIDE, lonlat(0, 0))
    assert ground(read_xbd(path)) is None, "all corners lie on a line"
    write_label(path, [("no-damage", HOUSE)], SIDE, lonlat(0, 0))
    assert ground(read_xbd(path)) is not None
    label = json.loads(path.read_text())
    label["features"]["lng_lat"][0]["wkt"] = "POLYGON ((0 0, 1e-4 3e-4, 2e-4 0, 1e-4 9e-4, 0 0))"
    path.write_text(json.dumps(label))
    assert ground(read_xbd(path)) is None, "no affine map fits"


def test_the_fit_bears_noise(tmp_path: Path, write_label: Label) -> None:
    path = tmp_path / "label.json"
    write_label(path, [("no-damage", HOUSE)], SIDE, lonlat(10, 50))
    label = json.loads(path.read_text())
    rng = np.random.default_rng(0)
    for feature in label["features"]["lng_lat"]:
        shape = shapely.from_wkt(feature["wkt"])
        ring = shapely.get_coordinates(shape)[:-1]
        moved = shapely.Polygon(ring + rng.normal(0, 2e-7, ring.shape))
        feature["wkt"] = shapely.to_wkt(moved, rounding_precision=12)
    path.write_text(json.dumps(label))
    box = ground(read_xbd(path))
    assert box == pytest.approx((10, 50 - 4.5e-6 * SIDE, 10 + 5e-6 * SIDE, 50), abs=2e-5)


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        (
            ("train", "tier3", "test", "hold"),
            {"train": "train", "tier3": "train", "test": "validation", "hold": "test"},
        ),
        (("train", "hold"), {"train": "train", "hold": "validation"}),
        (("train", "tier3"), {"train": "", "tier3": ""}),
        (("test", "hold"), {"test": "", "hold": ""}),
        (("a-fire", "b-flood"), {"a-fire": "", "b-flood": ""}),
    ],
)
def test_parts_of_the_challenge(
    tmp_path: Path,
    write_image: Write,
    write_label: Label,
    folders: tuple[str, ...],
    parts: dict[str, str],
) -> None:
    for folder in folders:
        tile(tmp_path / folder, "c_00000000", [("destroyed", HOUSE)], write_image, write_label)
    chips = open_chips(tmp_path, classes=5)
    assert {p.name: p.split for p in chips.places} == {
        f"{folder}/c_00000000": split for folder, split in parts.items()
    }


def test_a_folder_without_labels_is_no_part(
    tmp_path: Path, write_image: Write, write_label: Label
) -> None:
    tile(tmp_path / "train", "c_00000000", [("destroyed", HOUSE)], write_image, write_label)
    tile(tmp_path / "test", "c_00000001", None, write_image, write_label)
    chips = open_chips(tmp_path, classes=5)
    assert [place.split for place in chips.places] == ["", ""], "all are divided"
    tile(tmp_path / "hold", "c_00000002", [("destroyed", HOUSE)], write_image, write_label)
    chips = open_chips(tmp_path, classes=5)
    assert {p.name.partition("/")[0]: p.split for p in chips.places} == {
        "train": "train", "test": "", "hold": "validation"
    }  # fmt: skip


def test_targets_where_there_are_no_labels(
    tmp_path: Path, write_image: Write, write_label: Label
) -> None:
    tile(tmp_path, "a_00000000", None, write_image, write_label)
    chips = read_challenge(tmp_path)
    assert chips is not None
    assert (chips.chip(0).codes == 255).all(), "nothing is known"
    target = np.random.default_rng(0).integers(0, 5, (SIDE, SIDE), np.uint8)
    write_image(tmp_path / "targets" / "a_00000000_post_disaster_target.png", target)
    chips = open_chips(tmp_path, classes=5)
    assert np.array_equal(chips.chip(0).codes, target)
    assert chips.places[0].group == "a"
    # With a label too, the label counts.
    tile(tmp_path, "a_00000000", [("minor-damage", HOUSE)], write_image, write_label)
    assert set(np.unique(open_chips(tmp_path, classes=5).chip(0).codes)) == {0, 2}


DAMAGES: dict[str, tuple[Callable[[Path, Path, Path], object], str]] = {
    "no label": (lambda pre, post, label: label.unlink(), "has no file after the event in labels/"),
    "half a label": (
        lambda pre, post, label: label.write_text(label.read_text()[:200]),
        "has a label after the event that cannot be read",
    ),
    "absurd size": (
        lambda pre, post, label: label.write_text(
            label.read_text().replace('"width": 64', '"width": 2000000000')
        ),
        "has a label of an image of another size",
    ),
    "no image after": (lambda pre, post, label: post.unlink(), "has no image after the event"),
    "no image before": (lambda pre, post, label: pre.unlink(), "has no image before the event"),
    "half an image": (
        lambda pre, post, label: pre.write_bytes(pre.read_bytes()[:-40]),
        "has an image before the event that is cut short or damaged",
    ),
    "no image at all": (
        lambda pre, post, label: post.write_text("<html>"),
        "has an image after the event that cannot be read",
    ),
    "empty image": (
        lambda pre, post, label: post.write_bytes(b""),
        "has an image after the event that cannot be read",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_tiles_that_cannot_be_used_are_left_out(
    tmp_path: Path,
    write_image: Write,
    write_label: Label,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    spoil, reason = DAMAGES[damage]
    for name in ("a_00000000", "a_00000001"):
        tile(tmp_path, name, [("destroyed", HOUSE)], write_image, write_label)
    pre, post = (tmp_path / "images" / f"a_00000001_{w}_disaster.png" for w in ("pre", "post"))
    spoil(pre, post, tmp_path / "labels" / "a_00000001_post_disaster.json")
    chips = open_chips(tmp_path, classes=5)
    assert [place.name for place in chips.places] == ["a_00000000"]
    assert f"1 tile: {reason} (a_00000001" in caplog.text
    # Nothing else is left.
    for path in tmp_path.rglob("a_00000000*"):
        path.unlink()
    with pytest.raises(Refused, match=f"No tile of .* can be used: 1 tile: {reason}"):
        open_chips(tmp_path, classes=5)


def test_images_that_do_not_fit_are_left_out(
    tmp_path: Path, write_image: Write, write_label: Label, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a_00000000", "a_00000001", "a_00000002"):
        tile(tmp_path, name, [("destroyed", HOUSE)], write_image, write_label)
    small = np.ones((3, SIDE, SIDE - 1), np.uint8)
    write_image(tmp_path / "images" / "a_00000001_pre_disaster.png", small)
    grey = np.ones((1, SIDE, SIDE), np.uint8)
    write_image(tmp_path / "images" / "a_00000002_post_disaster.png", grey)
    assert len(open_chips(tmp_path, classes=5)) == 1
    assert "has images of different sizes before and after" in caplog.text
    assert "has an image after the event that is not RGB of 8 bits" in caplog.text


def test_targets_that_do_not_fit_are_left_out(
    tmp_path: Path, write_image: Write, write_label: Label, caplog: pytest.LogCaptureFixture
) -> None:
    target = np.zeros((SIDE, SIDE), np.uint8)
    target[:9, :9] = 4
    for name in ("a_00000000", "a_00000001", "a_00000002"):
        tile(tmp_path, name, None, write_image, write_label)
        write_image(tmp_path / "targets" / f"{name}_post_disaster_target.png", target)
    write_image(tmp_path / "targets" / "a_00000001_post_disaster_target.png", target[:-1])
    (tmp_path / "targets" / "a_00000002_post_disaster_target.png").write_text("none")
    assert [place.name for place in open_chips(tmp_path, classes=5).places] == ["a_00000000"]
    assert "1 tile: has a target of another size than its images" in caplog.text
    assert "1 tile: has a target that cannot be read" in caplog.text


def test_an_image_that_is_there_twice_is_refused(
    tmp_path: Path, write_image: Write, write_label: Label
) -> None:
    tile(tmp_path, "a_00000000", None, write_image, write_label)
    tile(tmp_path, "a_00000000", None, write_image, write_label, suffix=".tif")
    with pytest.raises(Refused, match=r"_disaster.tif and a_00000000.*.png are the same image"):
        open_chips(tmp_path, classes=5)


def test_a_label_without_size_is_of_its_image(
    tmp_path: Path, write_image: Write, write_label: Label
) -> None:
    tile(tmp_path, "a_00000000", [("destroyed", HOUSE)], write_image, write_label)
    label = tmp_path / "labels" / "a_00000000_post_disaster.json"
    content = json.loads(label.read_text())
    content["metadata"] = {}
    label.write_text(json.dumps(content))
    chips = open_chips(tmp_path, classes=5)
    assert np.array_equal(chips.chip(0).codes == 4, centres(HOUSE))
    mask = chips.records[0].posts[0].mask
    assert isinstance(mask, XbdMask)
    assert mask.outlines_on == "before"


@pytest.mark.parametrize(
    "wkt",
    [
        "POLYGON ((1e300 0, 1e300 1e300, 0 1e300, 1e300 0))",
        "POLYGON ((-1e9 -1e9, 1e9 -1e9, 1e9 1e9, -1e9 -1e9))",
        "POLYGON ((nan 0, 5 5, 9 0, nan 0))",
        "POLYGON ((inf 0, 5 5, 9 0, inf 0))",
        "GEOMETRYCOLLECTION EMPTY",
        "POINT (3 4)",
    ],
)
def test_absurd_outlines_are_left_out(tmp_path: Path, write_label: Label, wkt: str) -> None:
    path = tmp_path / "label.json"
    write_label(path, [("destroyed", HOUSE), ("no-damage", shapely.box(0, 0, 5, 5))], SIDE)
    label = json.loads(path.read_text())
    label["features"]["xy"][0]["wkt"] = wkt
    path.write_text(json.dumps(label))
    assert np.array_equal(XbdMask(path).read(1)[0] > 0, centres(shapely.box(0, 0, 5, 5)))


def test_bow_ties_and_labels_without_buildings(tmp_path: Path, write_label: Label) -> None:
    path = tmp_path / "label.json"
    write_label(path, [("destroyed", shapely.Polygon([(0, 0), (20, 20), (20, 0), (0, 30)]))], SIDE)
    assert set(np.unique(XbdMask(path).read(1))) == {0, 4}
    write_label(path, [], SIDE)
    assert not XbdMask(path).read(1).any()
    assert pickle.loads(pickle.dumps(XbdMask(path))) == XbdMask(path)


def test_unclassified_buildings_alone_are_not_damage(
    tmp_path: Path, write_image: Write, write_label: Label
) -> None:
    """Masks of 0 and 255, or of 0 and 1, are damage codes here and never damaged and not."""
    for level, code in (("un-classified", 255), ("no-damage", 1)):
        tile(tmp_path, "a_00000000", [(level, HOUSE)], write_image, write_label)
        chips = open_chips(tmp_path, classes=1)
        assert set(np.unique(chips.chip(0).codes)) == {0, code}
        assert not chips.chip(0).shows_damage
