"""Names and folders of xBD, the old ones too."""

from __future__ import annotations

from pathlib import Path

import pytest
from aftermap.models.chips.xbd_layout import find_tiles, parts_of, stray_labels, target_stem


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("stem", "target"),
    [
        ("a-b_00000001_pre_disaster", "a-b_00000001_pre_disaster_target"),
        ("a-b_00000001_post_disaster", "a-b_00000001_post_disaster_target"),
        ("test_pre_00012", "test_localization_00012_target"),
        ("hold_post_00012", "hold_damage_00012_target"),
    ],
)
def test_names_of_targets(stem: str, target: str) -> None:
    assert target_stem(stem) == target


def test_all_layouts(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "train/images/guatemala-volcano_00000003_pre_disaster.png",
        "train/images/guatemala-volcano_00000003_post_disaster.png",
        "test/images/test_pre_00007.png",
        "test/images/test_post_00007.png",
        "flood/images/flood_00000000_pre_disaster.tif",
        "flood/masks/flood_00000000_pre_disaster.png",
        "flood/labels/flood_00000000_pre_disaster.json",
        "flood/labels/flood_00000001_pre_disaster.json",
        "flood/labels/notes.json",
        "flood/images/.flood_00000009_pre_disaster.png",
        "other/images/holiday.png",
        "images/a_00000000_post_disaster.jpg",
        "readme.txt",
    )
    found = find_tiles(tmp_path)
    assert [outer.name for outer in found] == [tmp_path.name, "flood", "test", "train"]
    tiles = [tile for tiles in found.values() for tile in tiles]
    assert [(t.prefix, t.name, t.disaster, sorted(t.images)) for t in tiles] == [
        ("", "a_00000000", "a", ["post"]),
        ("flood/", "flood_00000000", "flood", ["pre"]),
        ("test/", "test_00007", "test", ["post", "pre"]),
        ("train/", "guatemala-volcano_00000003", "guatemala-volcano", ["post", "pre"]),
    ]
    numbered = tiles[2]
    assert numbered.target("pre") == tmp_path / "test/targets/test_localization_00007_target.png"
    assert numbered.target("post") == tmp_path / "test/targets/test_damage_00007_target.png"
    assert numbered.label("post") == tmp_path / "test/labels/test_post_00007.json"
    flood = tmp_path / "flood"
    assert [p.name for p in stray_labels(flood, found[flood])] == [
        "flood_00000001_pre_disaster.json"
    ]
    assert find_tiles(tmp_path / "other") == {}


def test_parts() -> None:
    assert parts_of(["hold", "train", "test", "tier3"]) == {
        "train": "train",
        "tier3": "train",
        "test": "validation",
        "hold": "test",
    }
    assert parts_of(["train", "test"]) == {"train": "train", "test": "validation"}
    assert parts_of(["test", "hold"]) == parts_of(["train"]) == parts_of(["a", "b"]) == {}
