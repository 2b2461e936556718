"""The xBD reader takes what the data set and others write, and names what it could not take."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from aftermap.scenes.errors import Refused
from aftermap.scenes.xbd import (
    METADATA,
    SUBTYPES,
    XbdBuilding,
    outside,
    read_labels,
    read_xbd,
    unmatched,
    write_xbd,
)


def feature(wkt: Any, uid: Any = "a", **properties: Any) -> dict[str, Any]:
    return {
        "properties": {"feature_type": "building", "uid": uid} | properties,
        "wkt": wkt,
    }


def label(path: Path, xy: list[Any], lng_lat: list[Any] | None = None, **metadata: Any) -> Path:
    features = {"xy": xy, "lng_lat": lng_lat or []}
    path.write_text(json.dumps({"features": features, "metadata": metadata}), encoding="utf-8")
    return path


SQUARE = "POLYGON ((10 10, 20 10, 20 20, 10 20, 10 10))"
HOLLOW = "POLYGON ((0 0, 30 0, 30 30, 0 30, 0 0), (10 10, 20 10, 20 20, 10 20, 10 10))"
TWO = "MULTIPOLYGON (((0 0, 5 0, 5 5, 0 0)), ((50 50, 60 50, 60 60, 50 50)))"
MIXED = (
    f"GEOMETRYCOLLECTION (POINT (1 1), LINESTRING (0 0, 9 9), {SQUARE}, GEOMETRYCOLLECTION ({TWO}))"
)


def test_shapes_and_levels_of_the_data_set(tmp_path: Path) -> None:
    levels = ["no-damage", "minor-damage", "major-damage", "destroyed", "un-classified"]
    path = label(
        tmp_path / "a.json",
        [feature(SQUARE, f"u{k}", subtype=level) for k, level in enumerate(levels)],
        [feature("POLYGON ((36 37, 36.1 37, 36.1 37.1, 36 37))", "u3", subtype="destroyed")],
        width=1024,
        height=1024,
    )
    found = read_xbd(path)
    assert [each.damage_class for each in found.buildings] == [1, 2, 3, 4, 255]
    assert [each.subtype for each in found.buildings] == list(SUBTYPES)
    assert found.buildings[3].lng_lat is not None
    assert found.buildings[3].lng_lat.bounds == (36, 37, 36.1, 37.1)
    assert found.buildings[0].lng_lat is None
    assert found.size == found.said_size == (1024, 1024)
    assert found.outlines_on == "before"
    assert [str(problem) for problem in found.problems] == [
        f"xy {k} has no partner in lng_lat; kept: u{k}" for k in (0, 1, 2, 4)
    ]


def test_holes_parts_and_collections(tmp_path: Path) -> None:
    shapes = [HOLLOW, TWO, MIXED]
    found = read_xbd(label(tmp_path / "a.json", [feature(w, str(k)) for k, w in enumerate(shapes)]))
    hollow, two, mixed = (each.xy for each in found.buildings)
    assert hollow is not None and hollow.area == 900 - 100  # noqa: PT018
    assert two is not None and two.area == 12.5 + 50  # noqa: PT018
    assert mixed is not None and mixed.area == 100 + 12.5 + 50  # noqa: PT018
    assert [each.damage_class for each in found.buildings] == [None, None, None]
    assert found.problems == ()


def test_what_cannot_be_read_is_named_and_the_rest_kept(tmp_path: Path) -> None:
    broken = [
        feature(SQUARE, "good"),
        feature("POLYGON ((1 1, 2", "cut"),
        feature("POINT (1 1)", "point"),
        feature("POLYGON EMPTY", "empty"),
        feature(None, "none"),
        feature(SQUARE, "good"),
        feature(SQUARE, None),
        feature(SQUARE, "odd", subtype="flooded"),
        feature(SQUARE, "list", subtype=["destroyed"]),
        {"wkt": SQUARE},
        "text",
    ]
    found = read_xbd(label(tmp_path / "a.json", broken))
    assert [each.uid for each in found.buildings] == ["good", "good", "", "odd", "list"]
    assert [problem.where for problem in found.problems] == [f"xy {k}" for k in range(1, 11)]
    assert [problem.what for problem in found.problems] == [
        "has no readable wkt; left out",
        "has no area; left out",
        "has no area; left out",
        "has no readable wkt; left out",
        "has the uid of an earlier one; kept",
        "has no uid; kept",
        "has an unknown subtype; read as none",
        "has an unknown subtype; read as none",
        "has no properties; left out",
        "has no properties; left out",
    ]
    assert "flooded" in found.problems[6].found


def test_shapes_that_cannot_be_parsed_do_not_end_the_reading(tmp_path: Path) -> None:
    depth = 3000  # tens of thousands end the process
    odd = [
        "GEOMETRYCOLLECTION (" * depth + SQUARE + ")" * depth,
        "CURVEPOLYGON (CIRCULARSTRING (0 0, 4 0, 4 4, 0 4, 0 0))",
    ]
    features = [feature(wkt, str(k)) for k, wkt in enumerate([*odd, SQUARE])]
    found = read_xbd(label(tmp_path / "a.json", features))
    assert [each.uid for each in found.buildings] == ["2"]
    assert [problem.what for problem in found.problems] == ["has no readable wkt; left out"] * 2


def test_a_uid_that_two_features_have_gives_its_degrees_to_the_first(tmp_path: Path) -> None:
    degrees = "POLYGON ((36 37, 36.1 37, 36.1 37.1, 36 37))"
    twice = [feature(SQUARE, "a"), feature(TWO, "a")]
    found = read_xbd(label(tmp_path / "a.json", twice, [feature(degrees, "a")] * 2))
    first, second = found.buildings
    assert first.lng_lat == shapely.from_wkt(degrees)
    assert second.lng_lat is None


def test_lists_and_labels_that_do_not_match_are_reported(tmp_path: Path) -> None:
    far = "POLYGON ((1024.5 0, 1030 0, 1030 9, 1024.5 0))"
    reaching = "POLYGON ((1000 0, 1030 0, 1030 9, 1000 0))"
    xy = [feature(SQUARE, "a"), feature(far, "b"), feature(reaching, "c")]
    degrees = [feature(SQUARE, uid) for uid in ("a", "c", "d")]
    before = read_xbd(label(tmp_path / "pre.json", xy, degrees))
    assert [str(problem) for problem in before.problems] == [
        "xy 1 has no partner in lng_lat; kept: b",
        "uid d is in lng_lat but not in xy; left out",
    ]
    assert [building.uid for building in before.buildings] == ["a", "b", "c"]
    assert [problem.where for problem in outside(before, (1024, 1024))] == ["uid b"]
    assert outside(before, (1024, 2048)) == []
    after = read_xbd(label(tmp_path / "post.json", [feature(SQUARE, "a"), feature(SQUARE, "e")]))
    assert [str(problem) for problem in unmatched(before, after)] == [
        "uid b is in the label before the event but not in that after; kept",
        "uid c is in the label before the event but not in that after; kept",
        "uid e is in the label after the event but not in that before; kept",
    ]
    assert unmatched(before, before) == []


def test_the_size_that_a_label_says(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for said in ({}, {"width": 512}, {"width": "512", "height": 512}, {"width": 0, "height": 9}):
        found = read_xbd(label(path, [], **said))
        assert (found.said_size, found.size) == (None, (1024, 1024))
    assert found.sized((300, 200)).size == (300, 200)
    assert read_xbd(label(path, [], width=512, height=300)).said_size == (300, 512)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"features": []}',
        '{"features": {"xy": {}}}',
        '{"features": {"xy": []}, "metadata": 3}',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_a_file_that_is_no_label_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(Refused, match="cannot be read as an xBD label"):
        read_xbd(path)


def test_unreadable_files_of_a_folder_are_reported(tmp_path: Path) -> None:
    label(tmp_path / "a.json", [feature(SQUARE)])
    (tmp_path / "b.json").write_text("{")
    unreadable: list[str] = []
    paths = [tmp_path / name for name in ("a.json", "b.json", "gone.json")]
    assert [found.path.name for found in read_labels(paths, unreadable)] == ["a.json"]
    assert ["b.json" in unreadable[0], "gone.json" in unreadable[1]] == [True, True]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    buildings = []
    for k, subtype in enumerate([*SUBTYPES, None]):
        ring = rng.uniform(0, 1024, (3, 2))
        hull = shapely.MultiPoint(ring).convex_hull
        degrees = shapely.transform(hull, lambda xy: xy / 1e5 + (36, 37))
        buildings.append(XbdBuilding(f"uid-{k} <é>", subtype, hull, degrees))
    buildings.append(XbdBuilding("hollow", "destroyed", shapely.from_wkt(HOLLOW)))
    buildings.append(XbdBuilding("two", "destroyed", shapely.from_wkt(TWO)))
    path = tmp_path / "x_00000001_post_disaster.json"
    write_xbd(path, buildings, {"img_name": "x.png", "width": 512, "height": 300})
    found = read_xbd(path)
    assert [problem.found for problem in found.problems] == ["hollow", "two"], "without degrees"
    assert [each.uid for each in found.buildings] == [each.uid for each in buildings]
    assert [each.subtype for each in found.buildings] == [each.subtype for each in buildings]
    for back, wanted in zip(found.buildings, buildings, strict=True):
        assert shapely.equals_exact(back.xy, wanted.xy, 0.75e-6)
        if wanted.lng_lat is not None:
            assert shapely.equals_exact(back.lng_lat, wanted.lng_lat, 0.75e-9)
    assert found.size == (300, 512)
    written = json.loads(path.read_text(encoding="utf-8"))
    assert set(METADATA) == set(written["metadata"])
    assert written["metadata"]["sun_azimuth"] is None
    assert written["features"]["xy"][0]["properties"] == {
        "feature_type": "building",
        "subtype": "no-damage",
        "uid": "uid-0 <é>",
    }
    assert "subtype" not in written["features"]["xy"][5]["properties"]


def test_the_same_label_is_drawn_as_by_the_usual_mask_script(tmp_path: Path) -> None:
    """Rasterised exteriors of the written text, parsed without our reader, are the buildings."""
    from rasterio.features import rasterize

    shape = shapely.Polygon([(100.5, 50), (140, 60), (130, 90), (95, 80)])
    write_xbd(tmp_path / "a.json", [XbdBuilding("u", "destroyed", shape)], {})
    text = json.loads((tmp_path / "a.json").read_text())["features"]["xy"][0]["wkt"]
    numbers = re.fullmatch(r"POLYGON \(\((.*)\)\)", text).group(1)  # type: ignore[union-attr]
    ring = [tuple(map(float, pair.split())) for pair in numbers.split(", ")]
    assert (
        rasterize([shapely.Polygon(ring)], (200, 200)).sum() == rasterize([shape], (200, 200)).sum()
    )
