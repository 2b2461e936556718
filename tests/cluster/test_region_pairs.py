"""The pairs of a region, from the [images] table to scenes; on the real event, checked with pandas."""

from __future__ import annotations

import builtins
import json
import time
from datetime import date
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from aftermap.cluster.regions.file import Images
from aftermap.cluster.regions.pairs import find_pairs, wanted_area
from aftermap.scenes.errors import Refused, UsageError
from catalogs import HOST, ard_box, ard_feature, check_cores, stac_item, write_features
from rasters import UTM, write_raster

DAY = date(2023, 2, 6)
WEST, EAST = "031133012312", "031133012313"


def town(tmp_path: Path, **changes: Any) -> Images:
    """Two tiles with both dates and a third without a before image, as a Maxar catalog."""
    features = [
        ard_feature(WEST, "2022-07-26", "B1"),
        ard_feature(EAST, "2022-07-26", "B1"),
        ard_feature(WEST, "2023-02-08", "A1", cloud=30),
        ard_feature(WEST, "2023-02-09", "A2", cloud=3),
        ard_feature(EAST, "2023-02-08", "A1"),
        ard_feature("031133012330", "2023-02-08", "A1"),
    ]
    file = write_features(tmp_path / "town.geojson", features)
    options: dict[str, Any] = {"kind": "maxar", "path": str(file), "event_date": DAY}
    return Images(**options | {"allow_remote": True} | changes)


def test_a_small_event(tmp_path: Path) -> None:
    pairing = find_pairs(town(tmp_path))
    assert [p.scene_id for p in pairing.pairs] == [f"37-{WEST}", f"37-{EAST}"]
    assert [(p.pre and p.pre.name, p.post.name) for p in pairing.pairs] == [
        ("B1", "A2"), ("B1", "A1"),
    ]  # fmt: skip
    assert pairing.pairs[0].post.href == f"{HOST}/ard/37/{WEST}/2023-02-09/A2-visual.tif"
    assert pairing.counts == {
        "images": 6, "duplicates removed": 0, "before": 2, "after": 4, "before within limits": 2,
        "after within limits": 4, "places": 3, "places with both dates": 2, "pairs": 2,
    }  # fmt: skip
    assert set(pairing.left_out) == {
        "1 place: no before image of it (37/031133012330)",
        f"1 image: another image of its place was chosen (37/{WEST}/A1)",
    }
    check_cores(pairing)


def test_duplicates_are_counted_once(tmp_path: Path) -> None:
    images = town(tmp_path)
    assert images.path is not None
    content = json.loads(Path(images.path).read_text())
    mirrored = json.loads(json.dumps(content["features"][0]).replace(HOST, "https://mirror.org"))
    content["features"] += [content["features"][2], mirrored]
    Path(images.path).write_text(json.dumps(content))
    pairing = find_pairs(images)
    assert pairing.counts["images"] == 8
    assert pairing.counts["duplicates removed"] == 2
    assert [p.why for p in pairing.pairs] == [p.why for p in find_pairs(town(tmp_path)).pairs]


def test_limits_and_area_narrow_the_choice(tmp_path: Path) -> None:
    assert find_pairs(town(tmp_path, max_cloud=2)).pairs[0].scene_id == f"37-{EAST}"
    west, south, east, north = ard_box(EAST)
    middle = gpd.GeoSeries([shapely.box(west + 400, south, east, north)], crs="EPSG:32637")
    box = tuple(middle.to_crs("EPSG:4326").total_bounds.tolist())
    pairing = find_pairs(town(tmp_path, bbox=box))
    assert pairing.pairs[-1].scene_id == f"37-{EAST}"
    assert shapely.box(*box).buffer(1e-12).contains(pairing.pairs[-1].core)
    gpd.GeoDataFrame(geometry=middle).to_file(tmp_path / "area.gpkg")
    by_file = find_pairs(town(tmp_path, aoi=str(tmp_path / "area.gpkg")))
    assert [p.scene_id for p in by_file.pairs] == [f"37-{EAST}"]
    with pytest.raises(Refused, match="6 images: outside the area asked for"):
        find_pairs(town(tmp_path, bbox=(10, 10, 11, 11)))


def test_areas_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    for bbox in ((37, 37, 36, 38), (36, 37, 37, 91), (0, 0, float("nan"), 1)):
        with pytest.raises(UsageError, match="is not west south east north"):
            wanted_area(bbox, None)
    (tmp_path / "a.geojson").write_text("nothing")
    with pytest.raises(Refused, match="cannot be read"):
        wanted_area(None, str(tmp_path / "a.geojson"))
    points = gpd.GeoDataFrame(geometry=[shapely.Point(36, 37)], crs="EPSG:4326")
    points.to_file(tmp_path / "points.gpkg")
    with pytest.raises(Refused, match="holds 1 features, none of them a polygon"):
        wanted_area(None, str(tmp_path / "points.gpkg"))
    area = gpd.GeoDataFrame(geometry=[shapely.box(36, 37, 37, 38)], crs="EPSG:4326")
    area.to_file(tmp_path / "area.gpkg")
    with pytest.raises(Refused, match="no area in common"):
        wanted_area((10, 10, 11, 11), str(tmp_path / "area.gpkg"))


def test_files_on_the_network_need_root_or_permission(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"6 images lie on the network.*Give root.*--allow-remote"):
        find_pairs(town(tmp_path, allow_remote=False))
    with pytest.raises(Refused, match="is not a folder"):
        find_pairs(town(tmp_path, root=str(tmp_path / "none")))
    root = tmp_path / "copies"
    for quadkey, day, name in ((WEST, "2022-07-26", "B1"), (WEST, "2023-02-08", "A1")):
        file = root / "ard" / "37" / quadkey / day / f"{name}-visual.tif"
        file.parent.mkdir(parents=True)
        file.touch()
    pairing = find_pairs(town(tmp_path, root=str(root), allow_remote=False))
    assert [p.scene_id for p in pairing.pairs] == [f"37-{WEST}"]
    assert pairing.pairs[0].post.href == str(
        root / "ard" / "37" / WEST / "2023-02-08" / "A1-visual.tif"
    )
    assert (pairing.counts["before"], pairing.counts["after"]) == (2, 4)
    assert any(line.startswith("4 images: no local copy under root") for line in pairing.left_out)


def test_after_images_alone_are_refused_unless_the_method_needs_no_others(tmp_path: Path) -> None:
    after = town(tmp_path, event_date=date(2020, 1, 1))
    with pytest.raises(Refused, match=r"All 6 usable images .* are from after the event"):
        find_pairs(after)
    pairing = find_pairs(after, needs_before=False)
    assert [p.pre for p in pairing.pairs] == [None, None, None]
    check_cores(pairing)
    with pytest.raises(Refused, match=r"All 6 usable images .* are from before the event"):
        find_pairs(town(tmp_path, event_date=date(2030, 1, 1)))


def test_catalogs_without_a_usable_image_are_refused(tmp_path: Path) -> None:
    empty = write_features(tmp_path / "empty.geojson", [])
    with pytest.raises(Refused, match=r"empty\.geojson holds no image: the catalog is empty"):
        find_pairs(Images(kind="maxar", path=str(empty), event_date=DAY))
    bare = [stac_item(n, "2023-02-07", (36, 37, 37, 38), assets={}) for n in "abcde"]
    file = str(write_features(tmp_path / "bare.json", bare))
    for kind in ("maxar", "stac"):
        with pytest.raises(Refused, match=r"None of the 5 images .* 5 images: no assets \(a, b, c"):
            find_pairs(Images(kind=kind, path=file, event_date=DAY))


def test_dates_in_other_formats(tmp_path: Path) -> None:
    written = [
        "2023-02-05 23:59:59.999+00:00",
        "2023-02-06T02:59:00+03:00",
        "2023-02-06",
        "20230207T10Z",
    ]
    boxes = [(36 + i, 37, 36.9 + i, 38) for i in range(4)]
    items = [stac_item(f"i{n}", "2023-01-01", box) for n, box in enumerate(boxes)]
    for item, text in zip(items, written, strict=True):
        item["properties"]["datetime"] = text
    items += [stac_item(f"bad{n}", "2023-01-01", boxes[0]) for n in range(2)]
    items[4]["properties"]["datetime"] = 1675646255
    items[5]["properties"]["datetime"] = "6 Feb 2023"
    file = str(write_features(tmp_path / "items.json", items))
    images = Images(kind="stac", path=file, event_date=DAY, allow_remote=True)
    pairing = find_pairs(images, needs_before=False)
    assert (pairing.counts["before"], pairing.counts["after"]) == (2, 2)
    assert [p.scene_id[:-10] for p in pairing.pairs] == ["i2-", "i3-"]
    assert next(line for line in pairing.left_out if "its date" in line) == (
        "2 images: its date is not written like 2023-02-06T01:17Z "
        "(bad0: '1675646255', bad1: '6 Feb 2023')"
    )


def test_two_zones_in_one_catalog(tmp_path: Path) -> None:
    features = [
        ard_feature(quadkey, day, name, zone=zone)
        for zone, quadkey in ((36, "120022103201"), (37, WEST))
        for day, name in (("2022-07-26", "B1"), ("2023-02-08", "A1"))
    ]
    file = write_features(tmp_path / "a.geojson", features)
    pairing = find_pairs(Images(kind="maxar", path=str(file), event_date=DAY, allow_remote=True))
    assert [p.scene_id for p in pairing.pairs] == ["36-120022103201", f"37-{WEST}"]
    assert {p.post.epsg for p in pairing.pairs} == {32636, 32637}
    check_cores(pairing)


def test_folders_of_files(tmp_path: Path) -> None:
    pixels = np.zeros((3, 160, 200), np.uint8)
    for name, east in (("before/2022-07-26/a", 0), ("before/b", 100), ("after/20230208_a", 10),
                       ("after/b", 100), ("after/20220101", 300), ("after/far", 9000)):  # fmt: skip
        file = tmp_path / f"{name}.tif"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_raster(file, pixels, transform=Affine(UTM.a, 0, UTM.c + east, 0, UTM.e, UTM.f))
    images = Images(
        kind="folder",
        before=str(tmp_path / "before"),
        after=str(tmp_path / "after"),
        event_date=DAY,
    )
    pairing = find_pairs(images)
    assert [(p.scene_id[:-10], p.pre and p.pre.name) for p in pairing.pairs] == [
        ("20230208_a-", "a"), ("b-", "b"),
    ]  # fmt: skip
    assert pairing.counts == {
        "images": 6, "duplicates removed": 0, "before": 2, "after": 3, "before within limits": 2,
        "after within limits": 3, "places": 0, "places with both dates": 0, "pairs": 2,
    }  # fmt: skip
    assert any("other side of event_date" in line for line in pairing.left_out)
    assert "1 after image: no before image shows 10 % of it (far)" in pairing.left_out
    check_cores(pairing)


def test_one_folder_for_both_sides_is_refused(tmp_path: Path) -> None:
    (tmp_path / "all" / "after").mkdir(parents=True)
    write_raster(tmp_path / "all" / "after" / "a.tif", np.zeros((3, 16, 16), np.uint8))
    for before in ("all", "all/after"):
        folders = {"before": str(tmp_path / before), "after": str(tmp_path / "all" / "after")}
        with pytest.raises(Refused, match=r"share 1 files, such as .*a\.tif\. Give two folders"):
            find_pairs(Images(kind="folder", **folders))


def test_before_and_after_the_wrong_way_round_are_refused(tmp_path: Path) -> None:
    for name in ("early/20230105", "late/20230211"):
        file = tmp_path / f"{name}.tif"
        file.parent.mkdir()
        write_raster(file, np.zeros((3, 160, 200), np.uint8), transform=UTM)
    early, late = str(tmp_path / "early"), str(tmp_path / "late")
    assert len(find_pairs(Images(kind="folder", before=early, after=late)).pairs) == 1
    words = r"1 of the 1 pairs .* is of 2023-02-11, .* of 2023-01-05\. Check \[images\]"
    with pytest.raises(Refused, match=words):
        find_pairs(Images(kind="folder", before=late, after=early))
    (tmp_path / "pairs.csv").write_text("pre,post\nlate/20230211.tif,early/20230105.tif\n")
    with pytest.raises(Refused, match=words):
        find_pairs(Images(kind="list", path=str(tmp_path / "pairs.csv")))


def test_a_list_of_pairs(tmp_path: Path) -> None:
    pixels = np.zeros((3, 160, 200), np.uint8)
    for name, east in (("pre", 0), ("post", 50), ("far", 9000)):
        transform = Affine(UTM.a, 0, UTM.c + east, 0, UTM.e, UTM.f)
        write_raster(tmp_path / f"{name}.tif", pixels, transform=transform)
    (tmp_path / "pairs.csv").write_text(
        "pre,post,scene_id\npre.tif,post.tif,the market\nfar.tif,post.tif,x\npre.tif,pre.tif,\n"
    )
    pairing = find_pairs(Images(kind="list", path=str(tmp_path / "pairs.csv")))
    assert [p.scene_id[:4] for p in pairing.pairs] == ["pre-", "the-"]
    assert pairing.left_out == (
        "1 pair: its images (and the area asked for) have no ground in common (x)",
    )
    first = next(p for p in pairing.pairs if p.scene_id == "the-market")
    second = next(p for p in pairing.pairs if p.scene_id != "the-market")
    assert first.core.equals(shapely.intersection(first.pre.outline, first.post.outline))  # type: ignore[union-attr]
    assert second.core.area == pytest.approx(first.core.area, rel=0.01)  # 50 m of 100 m each
    check_cores(pairing)
    (tmp_path / "pairs.csv").write_text("pre,post\n")
    with pytest.raises(Refused, match="lists no pair"):
        find_pairs(Images(kind="list", path=str(tmp_path / "pairs.csv")))


def test_without_pystac_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_import = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.endswith("catalog_stac"):
            raise ModuleNotFoundError(f"No module named {name!r}", name="pystac")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    file = write_features(tmp_path / "items.json", [stac_item("a", "2023-02-07", (36, 37, 37, 38))])
    with pytest.raises(Refused) as refusal:
        find_pairs(Images(kind="stac", path=str(file), event_date=DAY))
    assert 'pip install "aftermap[stac]"' in str(refusal.value)


@pytest.mark.slow
def test_a_very_long_catalog_is_paired_in_seconds(tmp_path: Path) -> None:
    """30,000 untiled images of a whole country, each over the last one's edge."""
    items = []
    for number in range(15_000):
        west, south = 20 + 0.1 * (number % 150), 10 + 0.1 * (number // 150)
        box = (west, south, west + 0.12, south + 0.12)
        items += [
            stac_item(f"b{number}", "2023-01-01", box),
            stac_item(f"a{number}", "2023-02-07", box),
        ]
    file = str(write_features(tmp_path / "items.json", items))
    start = time.perf_counter()
    pairing = find_pairs(Images(kind="stac", path=file, event_date=DAY, allow_remote=True))
    assert time.perf_counter() - start < 120
    assert len(pairing.pairs) == 15_000
    check_cores(pairing)
