"""Chips with instances in the COCO format."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from aftermap.models.chips.open import open_chips
from aftermap.scenes.coco import write_coco
from aftermap.scenes.errors import Refused
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pycocotools import mask as coco_mask

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
Write = Callable[[Path, np.ndarray], None]
SIDE = (48, 64)
LEVELS = [
    {"id": code, "name": name}
    for code, name in enumerate(("No damage", "minor-damage", "MAJOR DAMAGE", "destroyed"), 1)
]


def images(root: Path, names: str | list[str], write_image: Write) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    for name in names:
        for folder in ("pre", "post"):
            write_image(root / folder / f"{name}.png", rng.integers(1, 255, (3, *SIDE), np.uint8))
    return [
        {"id": i, "file_name": f"{name}.png", "height": SIDE[0], "width": SIDE[1]}
        for i, name in enumerate(names)
    ]


def write(root: Path, name: str = "annotations.json", **content: Any) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps({"categories": LEVELS} | content))


def square(x: float, y: float, side: float) -> list[float]:
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def note(image: int, category: int, segmentation: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "segmentation": segmentation}


def block(rows: slice, cols: slice) -> np.ndarray:
    found = np.zeros(SIDE, bool)
    found[rows, cols] = True
    return found


def test_polygons_and_run_lengths(tmp_path: Path, write_image: Write) -> None:
    region = np.zeros(SIDE, np.uint8, order="F")
    region[30:40, 5:50] = 1
    region[33:36, 10:20] = 0
    packed = coco_mask.encode(region)
    packed["counts"] = packed["counts"].decode()
    flat = np.concatenate([[0], region.ravel(order="F"), [0]]).astype(int)
    edges = np.flatnonzero(np.diff(flat))
    plain = np.diff(np.concatenate([[0], edges, [region.size]])).tolist()
    listed = images(tmp_path, "ab", write_image)
    write(
        tmp_path,
        images=listed,
        annotations=[
            note(0, 4, [square(10, 10, 8), square(40, 2, 6)]),
            note(0, 1, [square(5, 5, 10)]),
            note(0, 2, packed),
            note(1, 3, {"size": list(SIDE), "counts": plain}),
        ],
    )
    chips = open_chips(tmp_path, classes=5)
    expected = np.zeros(SIDE, np.uint8)
    expected[block(slice(5, 15), slice(5, 15))] = 1
    expected[region > 0] = 2
    expected[block(slice(10, 18), slice(10, 18))] = 4
    expected[block(slice(2, 8), slice(40, 46))] = 4
    assert np.array_equal(chips.chip(0).codes, expected)
    assert np.array_equal(chips.chip(1).codes, region * 3)
    for record in chips.records:  # they travel to other processes
        mask = record.posts[0].mask
        assert mask is not None
        assert np.array_equal(pickle.loads(pickle.dumps(mask)).read(1), mask.read(1))
    assert [p.name for p in chips.places] == ["a", "b"]
    assert chips.values == {0, 1, 2, 3, 4}


@given(st.integers(0, 2**32), st.floats(0, 1), st.integers(1, 70), st.integers(1, 70))
def test_packed_run_lengths_as_pycocotools_has_them(
    seed: int, share: float, height: int, width: int
) -> None:
    from aftermap.models.chips.instances import CocoMask, read_instances

    rng = np.random.default_rng(seed)
    region = np.asfortranarray((rng.random((height, width)) < share).astype(np.uint8))
    packed = coco_mask.encode(region)
    shape = {"size": packed["size"], "counts": packed["counts"].decode()}
    found = read_instances([note(0, 7, shape)], {7: 4}, (height, width))
    assert np.array_equal(CocoMask("", found).read(1)[0], region * 4)


def test_polygons_are_close_to_those_of_pycocotools(tmp_path: Path, write_image: Write) -> None:
    """They upsample outlines; only pixels that the outline crosses may differ."""
    rng = np.random.default_rng(1)
    ring = np.column_stack([rng.uniform(0, 64, 7), rng.uniform(0, 48, 7)])
    hull = shapely.MultiPoint(ring).convex_hull
    corners = shapely.get_coordinates(hull)[:-1].ravel().tolist()
    write(
        tmp_path,
        images=images(tmp_path, "a", write_image),
        annotations=[note(0, 2, [corners])],
    )
    ours = open_chips(tmp_path, classes=5).chip(0).codes == 2
    theirs = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([corners], *SIDE))) > 0
    rows, cols = np.mgrid[: SIDE[0], : SIDE[1]] + 0.5
    edge = shapely.distance(hull.exterior, shapely.points(cols, rows)) < 1
    assert np.array_equal(ours[~edge], theirs[~edge])
    assert np.array_equal(ours, shapely.contains_xy(hull, cols, rows))


def test_what_we_export_comes_back(tmp_path: Path, write_image: Write) -> None:
    grid = GeoBox(SIDE, Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000), "EPSG:32637")
    pixels = [shapely.box(x, 5.2, x + 7, 20.2) for x in (2, 12, 22, 32, 42, 52)]
    codes = [1, 2, 3, 4, 5, 255]
    frame = gpd.GeoDataFrame(
        {"building_id": range(6), "damage_class": codes, "damage_score": 0.5}
        | {f"p_{name}": 0.25 for name in ("none", "minor", "major", "destroyed")},
        geometry=[
            shapely.transform(p, lambda xy: np.column_stack(grid.affine * xy.T)) for p in pixels
        ],
        crs=grid.crs,
    )
    images(tmp_path, ["scene"], write_image)
    count = write_coco(tmp_path / "annotations.json", [frame], grid, "scene.png", {})
    assert count.annotations == 6
    got = open_chips(tmp_path, classes=1).chip(0).codes
    expected = np.zeros(SIDE, np.uint8)
    rows, cols = np.mgrid[: SIDE[0], : SIDE[1]] + 0.5
    for code, shape in zip(codes, pixels, strict=True):
        expected[shapely.contains_xy(shape, cols, rows)] = code
    assert np.array_equal(got, expected)


@pytest.mark.parametrize(
    ("category", "code"),
    [
        ({"id": 9, "name": "No damage"}, 1),
        ({"id": 9, "name": "undamaged"}, 1),
        ({"id": 1, "name": "major_damage"}, 3),
        ({"id": 9, "name": "Destroyed"}, 4),
        ({"id": 1, "name": "damaged"}, 5),
        ({"id": 1, "name": "Damage"}, 5),
        ({"id": 1, "name": "damaged-buildings"}, 5),
        ({"id": 1, "name": "Damaged, level not graded"}, 5),
        ({"id": 1, "name": "un-classified"}, 255),
        ({"id": 255, "name": "Not analysed"}, 255),
        ({"id": 3, "name": "3"}, 3),
        ({"id": 3}, 3),
        ({"id": 3, "name": "collapsed"}, None),
        ({"id": 1, "name": "building"}, None),
        ({"id": 7}, None),
    ],
)
def test_categories(
    tmp_path: Path, write_image: Write, category: dict[str, Any], code: int | None
) -> None:
    write(
        tmp_path,
        images=images(tmp_path, "a", write_image),
        annotations=[note(0, category["id"], [square(5, 5, 10)])],
        categories=[{"id": 0, "name": "never used"}, category],
    )
    if code is None:
        with pytest.raises(Refused, match=r"has categories that are no damage levels: \d"):
            open_chips(tmp_path, classes=1)
    else:
        chips = open_chips(tmp_path, classes=1)
        assert set(np.unique(chips.chip(0).codes)) == {0, code}


def test_several_lists_are_parts(tmp_path: Path, write_image: Write) -> None:
    listed = images(tmp_path, "abc", write_image)
    for name, chosen in (("instances_train2020", listed[:1]), ("val", listed[1:])):
        write(tmp_path, f"annotations/{name}.json", images=chosen, annotations=[])
    chips = open_chips(tmp_path, classes=1)
    assert {p.name: (p.split, p.label) for p in chips.places} == {
        "a": ("train", "intact"),
        "b": ("validation", "intact"),
        "c": ("validation", "intact"),
    }
    write(tmp_path, "annotations/test.json", images=listed[:1], annotations=[])
    with pytest.raises(Refused, match=r"'a.png' and .*'a.png' are the same place twice"):
        open_chips(tmp_path, classes=1)


def test_dates_of_a_place(tmp_path: Path, write_image: Write) -> None:
    key = "031131233232_{}-visual_3"
    names = [key.format(x) for x in ("2023-02-08_B", "2023-02-07_A")]
    listed = images(tmp_path, names, write_image)
    write(tmp_path, images=listed, annotations=[note(0, 4, [square(0, 0, 9)])])
    chips = open_chips(tmp_path, classes=5)
    assert [p.name for p in chips.places] == ["031131233232_3"]
    assert chips.places[0].box is not None
    assert chips.places[0].label == "damaged"
    seen = {int((chips.chip(0, np.random.default_rng(s)).codes == 4).sum()) for s in range(20)}
    assert seen == {0, 81}
    assert (chips.chip(0).codes == 0).all(), "the earliest image has no damage"


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "/etc/a.png", "a/../../b.png", "C:\\a.png", "..\\a.png", "a\0.png", ""],
)
def test_names_do_not_lead_out(tmp_path: Path, write_image: Write, name: str) -> None:
    root = tmp_path / "chips"
    listed = images(root, "a", write_image)
    write_image(tmp_path / "secret.png", np.ones((3, *SIDE), np.uint8))
    write(root, images=[listed[0] | {"file_name": name}], annotations=[])
    with pytest.raises(Refused, match="does not lie in the folder of images"):
        open_chips(root, classes=1)


def test_names_within_folders(tmp_path: Path, write_image: Write) -> None:
    listed = images(tmp_path, ["town/a"], write_image)
    for name in ("town/a.png", "post/town/a.png"):
        write(tmp_path, images=[listed[0] | {"file_name": name}], annotations=[])
        assert open_chips(tmp_path, classes=1).places[0].name == "town/a"


BROKEN = [
    {"images": [{"id": 0, "file_name": "a.png"}], "annotations": []},
    {"images": [{"id": 0, "file_name": 5, "height": 48, "width": 64}], "annotations": []},
    {"images": 5, "annotations": []},
    {"images": []},
    [],
    {"images": [], "annotations": [{"image_id": 0}]},
    {"images": [], "annotations": [note(99, 1, [square(0, 0, 5)])]},
]
SHAPES = [
    [[1, 2, 3, 4, 5, 6, 7]],
    [["a"] * 6],
    [[0, 0, float("nan"), 1, 1, 1]],
    "oops!",
    5,
    {"size": [48, 64], "counts": [5, 5]},
    {"size": [48, 64], "counts": [2**62, 2**62, 2**62, 2**62, 48 * 64]},
    {"size": [48, 64], "counts": [-1, 48 * 64 + 1]},
    {"size": [64, 48], "counts": [48 * 64]},
    {"size": [48, 64], "counts": "\x7f\x7f"},
    {"size": [48, 64], "counts": "oooooooooooooooooooo0"},
    {"counts": [48 * 64]},
]


@pytest.mark.parametrize("content", BROKEN)
def test_lists_that_are_none(tmp_path: Path, write_image: Write, content: Any) -> None:
    images(tmp_path, "a", write_image)
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(Refused, match=r"annotations.json cannot be read as COCO instances"):
        open_chips(tmp_path, classes=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_segmentations_that_are_none(tmp_path: Path, write_image: Write, shape: Any) -> None:
    write(tmp_path, images=images(tmp_path, "a", write_image), annotations=[note(0, 2, shape)])
    with pytest.raises(Refused, match=r"annotations.json cannot be read as COCO instances"):
        open_chips(tmp_path, classes=1)


def test_incomplete_folders(tmp_path: Path, write_image: Write) -> None:
    listed = images(tmp_path, "ab", write_image)
    write(tmp_path, images=listed, annotations=[])
    (tmp_path / "pre" / "b.png").unlink()
    with pytest.raises(Refused, match=r"chip 'b' of .*post has no image of the same name in .*pre"):
        open_chips(tmp_path, classes=1)
    (tmp_path / "post" / "b.png").unlink()
    with pytest.raises(Refused, match=r"lists 'b.png', but .*b.png is no PNG, TIFF or JPEG file"):
        open_chips(tmp_path, classes=1)
    write(tmp_path, images=[], annotations=[])
    with pytest.raises(Refused, match="lists no image"):
        open_chips(tmp_path, classes=1)
    write(tmp_path, images=[listed[0] | {"height": 10**12}], annotations=[])
    with pytest.raises(Refused, match=r"image 'a.png' says that its image is 64 × 1000000000000"):
        open_chips(tmp_path, classes=1)
    (tmp_path / "annotations.json").write_text("[" * 100_000)
    with pytest.raises(Refused, match="cannot be read as COCO instances"):
        open_chips(tmp_path, classes=1)


def test_masks_count_where_both_are(tmp_path: Path, write_image: Write) -> None:
    listed = images(tmp_path, "a", write_image)
    write(tmp_path, images=listed, annotations=[note(0, 4, [square(0, 0, 9)])])
    write_image(tmp_path / "masks" / "a.png", np.full(SIDE, 3, np.uint8))
    assert open_chips(tmp_path, classes=5).values == {3}
