"""What a catalog's fields mean: dates, addresses, outlines, assets."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime

import pytest
import shapely
from aftermap.scenes.catalog_item import Unusable, clean_href, outline_of, read_item, utc_time
from aftermap.scenes.reading import Reading
from catalogs import HOST, ard_feature, stac_item
from hypothesis import given, settings
from hypothesis import strategies as st

MOMENT = datetime(2023, 2, 6, 1, 17, 35, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2023-02-06T01:17:35Z",
        "2023-02-06t01:17:35z",
        "2023-02-06T01:17:35.000Z",
        "2023-02-06T01:17:35.000000000Z",
        "2023-02-06 01:17:35+00:00",
        "2023-02-06 01:17:35 +0000",
        "2023-02-06 01:17:35 UTC",
        "2023-02-06T04:17:35+03:00",
        "2023-02-05T20:17:35-05:00",
        "20230206T011735Z",
        "2023-02-06T01:17:35",
    ],
)
def test_dates_in_many_formats_are_one_moment(text: str) -> None:
    assert utc_time(text) == MOMENT
    assert utc_time(text).tzinfo is UTC


def test_a_date_alone_is_its_first_instant() -> None:
    assert utc_time("2023-02-06") == utc_time("20230206") == datetime(2023, 2, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    ["1675646255", 1675646255, 1675646255.0, "1675646255000", "202302061", "06/02/2023", "yesterday",
     "", None, True, "2023-02-30", "2023-13-01", "0001-01-01T00:00:00+23:00", ["2023-02-06"]],
)  # fmt: skip
def test_dates_that_could_mean_something_else_are_not_guessed(value: object) -> None:
    with pytest.raises(Unusable, match="is not written like 2023-02-06"):
        utc_time(value)


@pytest.mark.parametrize(
    ("href", "clean"),
    [
        ("https://a.org/x.tif?sig=SECRET&se=1#part", "https://a.org/x.tif"),
        ("https://user:SECRET@a.org:8443/x.tif", "https://a.org:8443/x.tif"),
        ("HTTP://A.org/x.tif", "http://a.org/x.tif"),
        ("https://[2001:db8::1]:80/x.tif", "https://[2001:db8::1]:80/x.tif"),
        ("../ard/x.tif", "/data/ard/x.tif"),
        ("/elsewhere/x.tif", "/elsewhere/x.tif"),
    ],
)
def test_addresses_lose_queries_and_users(href: str, clean: str) -> None:
    assert clean_href(href, "/data/catalog/items.json") == clean


def test_relative_addresses_of_a_remote_catalog_stay_on_its_host() -> None:
    base = "https://a.org/events/town/collection.json?token=SECRET"
    assert clean_href("./ard/x.tif", base) == "https://a.org/events/town/ard/x.tif"
    assert clean_href("/etc/passwd", base) == "https://a.org/etc/passwd"
    assert clean_href("//b.org/x.tif", base) == "https://b.org/x.tif"


@pytest.mark.parametrize(
    "href",
    ["file:///etc/passwd", "s3://bucket/x.tif", "ftp://a.org/x.tif", "/vsicurl/https://a.org/x.tif",
     "../../../vsizip/x.zip", "WMS:https://a.org", "gs://b/x", "//host/share/x.tif", "\\\\host\\x.tif",
     "http://", "https://[::1/x.tif", "https://a.org:99999999/x", "a\nb.tif", "", None, 7, ["x"]],
)  # fmt: skip
def test_addresses_of_other_kinds_are_not_read(href: object) -> None:
    with pytest.raises(Unusable, match="an address"):
        clean_href(href, "/data/catalog/items.json")


@pytest.mark.parametrize(
    ("geometry", "reason"),
    [
        ({"type": "Polygon", "coordinates": [[[36, 37], [361, 37], [361, 38], [36, 37]]]}, "outside"),
        ({"type": "Polygon", "coordinates": [[[36, 37], [37, 91], [37, 38], [36, 37]]]}, "outside"),
        ({"type": "Point", "coordinates": [36, 37]}, "without an area"),
        ({"type": "LineString", "coordinates": [[36, 37], [37, 38]]}, "without an area"),
        ({"type": "Polygon", "coordinates": []}, "empty"),
        ({"type": "Polygon", "coordinates": [[[36, 37], [37, 37], [36, 37], [36, 37]]]}, "area"),
        ({"type": "Polygon", "coordinates": [[[36, math.nan], [37, 37], [37, 38]]]}, "geometry|outside"),
        ({"type": "Polygon"}, "not GeoJSON"),
        ({"type": "Circle", "coordinates": [36, 37]}, "not GeoJSON"),
        ("POLYGON ((0 0, 1 0, 1 1, 0 0))", "not GeoJSON"),
        (12, "not GeoJSON"),
    ],
)  # fmt: skip
def test_outlines_that_are_no_ground_are_told(geometry: object, reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        outline_of({"geometry": geometry, "properties": {}})


def test_a_bow_tie_is_repaired_and_heights_are_dropped() -> None:
    ring = [[36, 37, 5], [37, 38, 5], [37, 37, 5], [36, 38, 5], [36, 37, 5]]
    shape = outline_of({"geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}})
    assert shape.is_valid
    assert not shape.has_z
    assert shape.area == pytest.approx(0.5)


def test_an_outline_over_the_antimeridian_is_cut_there() -> None:
    ring = [[179.5, -17], [-179.5, -17], [-179.5, -16], [179.5, -16], [179.5, -17]]
    shape = outline_of({"geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}})
    assert shape.area == pytest.approx(1.0)
    assert shape.bounds == (-180, -17, 180, -16)


def test_without_geometry_the_projected_box_or_the_box_serves() -> None:
    feature = ard_feature("031133012312", "2023-02-07", "A1")
    whole = shapely.from_geojson(str(feature["geometry"]).replace("'", '"'))
    by_box = outline_of({"geometry": None, "properties": feature["properties"]})
    # The box keeps the curve of its edges in degrees, some decimetres; the geometry has corners only.
    assert by_box.symmetric_difference(whole).area < 2e-4 * whole.area
    assert outline_of({"bbox": [36, 37, -5, 38, 39, 5], "properties": {}}).bounds == (
        36,
        37,
        38,
        39,
    )
    with pytest.raises(Unusable, match="no geometry"):
        outline_of({"geometry": None, "properties": {}})
    with pytest.raises(Unusable, match="an unknown coordinate system"):
        outline_of({"properties": {"proj:bbox": [0, 0, 1, 1], "proj:code": "EPSG:99999"}})


def test_an_item_becomes_an_image() -> None:
    item = stac_item("scene-7", "2023-02-07", (36, 37, 37, 38))
    item["properties"] |= {
        "eo:cloud_cover": 12.5, "view:off_nadir": 21, "gsd": 0.5, "proj:code": "EPSG:32637",
        "proj:shape": [100, 200], "grid:code": "MGRS-37SBA",
    }  # fmt: skip
    image, remark = read_item(item, "/data/items.json", "visual")
    assert remark is None
    assert (image.name, image.place, image.cell) == ("scene-7", "MGRS-37SBA", None)
    assert (image.cloud, image.off_nadir, image.gsd, image.epsg) == (12.5, 21, 0.5, 32637)
    assert image.shape == (100, 200)
    assert image.href == f"{HOST}/scene-7.tif"


@pytest.mark.parametrize("value", ["much", -1, 101, None, [5], math.nan])
def test_figures_that_are_none_are_unknown(value: object) -> None:
    item = stac_item("a", "2023-02-07", (36, 37, 37, 38))
    item["properties"]["eo:cloud_cover"] = value
    assert read_item(item, "/d/i.json", "visual")[0].cloud is None


@pytest.mark.parametrize(
    ("assets", "reason"),
    [
        ({}, "no assets"),
        (None, "no assets"),
        (["visual"], "no assets"),
        ({"thumbnail": {"href": "t.png", "roles": ["thumbnail"]}}, "no asset 'visual'"),
        ({"B04": {"href": "b4.tif"}, "B03": {"href": "b3.tif"}}, "no asset 'visual'"),
        ({"visual": {"title": "without an address"}}, "an address that is no text"),
        ({"visual": "x.tif"}, "no asset 'visual'"),
    ],
)
def test_items_without_the_asset_are_unusable(assets: object, reason: str) -> None:
    item = stac_item("a", "2023-02-07", (36, 37, 37, 38), assets=assets)
    with pytest.raises(Unusable, match=reason):
        read_item(item, "/d/i.json", "visual")


def test_the_reason_is_the_same_for_all_and_the_detail_is_told_apart() -> None:
    details = []
    for name in ("a", "b"):
        item = stac_item("x", "2023-02-07", (36, 37, 37, 38), assets={name: {"href": "x.json"}})
        with pytest.raises(Unusable) as unusable:
            read_item(item, "/d/i.json", "visual")
        assert str(unusable.value) == "no asset 'visual'"
        details.append(unusable.value.detail)
    assert details == ["it has 'a'", "it has 'b'"]


def test_another_asset_is_read_only_where_it_is_clear_which() -> None:
    thumb = {"href": "t.tif", "roles": ["thumbnail"]}
    item = stac_item("a", "2023-02-07", (36, 37, 37, 38))
    item["assets"] = {"image": {"href": "i.tif", "type": "image/tiff"}, "thumbnail": thumb}
    image, remark = read_item(item, "/d/i.json", "visual")
    assert image.href == "/d/i.tif"
    assert remark == "no asset 'visual', so 'image', its only image, is read"
    item["assets"] = {"b": {"href": "b.tif"}, "rgb": {"href": "r.tif", "roles": ["data", "visual"]}}
    image, remark = read_item(item, "/d/i.json", "visual")
    assert image.href == "/d/r.tif"
    assert "shown as visual" in str(remark)


def test_an_image_of_many_days_must_not_straddle_the_event() -> None:
    item = stac_item("a", "2023-02-07", (36, 37, 37, 38))
    span = {
        "datetime": None,
        "start_datetime": "2023-01-01",
        "end_datetime": "2023-02-20T12:00:00Z",
    }
    item["properties"] = span
    with pytest.raises(Unusable, match="before and after the event"):
        read_item(item, "/d/i.json", "visual", date(2023, 2, 6))
    image, _ = read_item(item, "/d/i.json", "visual", date(2023, 3, 6))
    assert image.time == datetime(2023, 1, 1, tzinfo=UTC)
    item["properties"] = {"datetime": None}
    with pytest.raises(Unusable, match="no date"):
        read_item(item, "/d/i.json", "visual")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["2023-02-06", "x.tif", "https://a.org/x", "37", "031133012312", "EPSG:32637"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["type", "coordinates", "href", "roles", "Polygon"]), inner),
    max_leaves=8,
)  # fmt: skip
_MEMBERS = (
    "datetime", "start_datetime", "end_datetime", "catalog_id", "utm_zone", "quadkey", "grid:code",
    "proj:epsg", "proj:code", "proj:bbox", "proj:geometry", "proj:shape", "gsd", "view:off_nadir",
    "tile:clouds_percent", "visual",
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    properties=st.dictionaries(st.sampled_from(_MEMBERS), _JSON, max_size=4),
    members=st.dictionaries(
        st.sampled_from(["geometry", "bbox", "assets", "id", "properties"]), _JSON, max_size=2
    ),
)
def test_whatever_an_item_holds_it_is_an_image_or_has_a_reason(
    properties: dict[str, object], members: dict[str, object]
) -> None:
    item = ard_feature("031133012312", "2023-02-07", "A1")
    item["properties"] |= properties
    item |= members
    reading = Reading()
    reading.take(item, "/data/items.json")
    assert len(reading.images) + len(reading.left_out) == 1
    for image in reading.images:
        assert image.outline.is_valid
        assert image.outline.area > 0
    assert all(line.isprintable() for line in reading.lines())
