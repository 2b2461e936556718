"""Tags over the wire: kept once, corrected by whom it is allowed, and told as they were said."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import rasterio
import shapely
from aftermap.cluster.catalog.imagery import add_images
from aftermap.cluster.catalog.labels import change_labels, latest
from aftermap.cluster.catalog.pixels import open_pixels
from aftermap.cluster.catalog.tables import Scene, Suggestion, Tag
from PIL import Image
from rasterio.warp import transform as warp
from rasters import texture, write_raster
from sqlalchemy import delete
from web_made import MARKUP, Site

INJECTION = "x' OR '1'='1'; DROP TABLE tags; --"


def _id() -> str:
    return str(uuid.uuid4())


def _said(server: Site, **more: Any) -> dict[str, Any]:
    said = {"id": _id(), "scene": server.pair, "label_set": server.labels, "label": "damage"}
    return said | more


def _fix(server: Site, name: str, tag: str, label: str | None) -> httpx.Response:
    said = {"id": _id(), "label_set": server.labels, "label": label, "replaces": tag}
    return server.as_(name).post("/tags", json=said)


def _tags(server: Site, **wanted: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.as_("viewer").get("/tags", params=wanted).json()["tags"]
    return found


def test_a_tag_is_kept_with_its_pixels(server: Site) -> None:
    answer = server.tag("ana", (100, 200, 64))
    assert answer.status_code == 201
    tag = answer.json()
    assert tag["square"] == [100, 200, 64]
    assert (tag["user"], tag["mine"], tag["label"]) == ("ana", True, "damage")
    assert tag["scene_name"] == "post_20230208.tif"
    with server.catalog.reading() as session:
        scene = session.get_one(Scene, server.pair)
        before = session.get_one(Scene, scene.before_id)
    kept = open_pixels(server.catalog.files, scene, before).square(100, 200, 64)
    for layer, wanted in zip(("post", "pre"), kept, strict=True):
        png = server.as_("viewer").get(f"/chips/{tag['chip']}", params={"layer": layer})
        assert "immutable" in png.headers["cache-control"]
        image = np.asarray(Image.open(io.BytesIO(png.content))).transpose(2, 0, 1)
        np.testing.assert_array_equal(image, wanted)
    assert _tags(server, user="ana", scene=server.pair)[0]["mine"] is False  # the viewer's view


def test_sent_twice_it_is_one_tag(server: Site) -> None:
    said = _said(server, square=[10, 300, 32])
    codes = [server.as_("ana").post("/tags", json=said).status_code for _ in range(3)]
    assert codes == [201, 200, 200]
    with server.catalog.reading() as session:
        assert session.get(Tag, said["id"]) is not None
    other = server.as_("ana").post("/tags", json=said | {"label": "no-damage"})
    assert other.status_code == 400
    assert "something else" in other.json()["error"]


def test_who_may_correct_whose_tag(server: Site) -> None:
    tag = server.tag("ana", (64, 300, 32)).json()["id"]
    assert _fix(server, "ben", tag, "no-damage").status_code == 403
    own = _fix(server, "ana", tag, "no-damage")
    assert own.status_code == 201
    assert own.json()["replaces"] == tag
    fixed = _fix(server, "reviewer", own.json()["id"], "cannot-tell")
    assert (fixed.status_code, fixed.json()["user"]) == (201, "reviewer")
    gone = _fix(server, "admin", fixed.json()["id"], None)
    assert (gone.status_code, gone.json()["label"]) == (201, None)
    ids = {one["id"] for one in _tags(server, limit=5000)}
    assert not ids & {tag, own.json()["id"], fixed.json()["id"], gone.json()["id"]}


def test_who_comes_second_is_told_who_was_first(server: Site) -> None:
    tag = server.tag("ana", (96, 300, 32)).json()["id"]
    assert _fix(server, "reviewer", tag, "no-damage").status_code == 201
    answer = _fix(server, "ana", tag, None)
    assert (answer.status_code, answer.json()["code"]) == (409, 409)
    assert "reviewer called it no-damage" in answer.json()["error"]


def test_polygons_are_in_pixels_and_kept_in_degrees(server: Site) -> None:
    ring = [[100.0, 50.0], [220.5, 50.0], [220.5, 170.25], [100.0, 170.25], [100.0, 50.0]]
    drawn = {"type": "Polygon", "coordinates": [ring]}
    tag = server.as_("ana").post("/tags", json=_said(server, polygon=drawn)).json()
    assert shapely.geometry.shape(tag["polygon"]).equals_exact(shapely.geometry.shape(drawn), 0.011)
    assert (tag["square"], tag["chip"]) == (None, None)
    with server.catalog.reading() as session:
        kept = session.get_one(Tag, tag["id"]).polygon
    assert kept is not None
    with rasterio.open(server.folder / "post_20230208.tif") as source:
        x, y = zip(*(source.transform * tuple(point) for point in ring), strict=True)
        lon, lat = warp(source.crs, "EPSG:4326", list(x), list(y))
    np.testing.assert_allclose(
        np.array(kept["coordinates"][0]), np.column_stack([lon, lat]), atol=1e-9
    )
    photo = (
        server.as_("ana")
        .post("/tags", json=_said(server, scene=server.photo, polygon=drawn))
        .json()
    )
    with server.catalog.reading() as session:
        found = session.get_one(Tag, photo["id"]).polygon
    assert found is not None
    assert shapely.geometry.shape(found).equals(shapely.geometry.shape(drawn))
    assert shapely.geometry.shape(photo["polygon"]).equals(shapely.geometry.shape(drawn))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"square": [0, 0, 8]}, "16 to 4096"),
        ({"square": [0, 0, 5000]}, "16 to 4096"),
        ({"square": [680, 0, 32]}, "outside"),
        ({"square": [-1, 0, 32]}, "outside"),
        ({"square": [0, 0, 32]}, "no data"),
        ({"square": [0, 0]}, "square"),
        ({"square": [0, 0, 1e30]}, "square"),
        ({"square": ["a", 0, 32]}, "square"),
        ({}, "square or of a polygon"),
        ({"square": [100, 100, 32], "label": "burnt"}, "damage, no-damage"),
        ({"square": [100, 100, 32], "label": INJECTION}, "has no"),
        ({"square": [100, 100, 32], "label": None}, "which it replaces"),
        ({"square": [100, 100, 32], "label_set": 99}, "label set number 99"),
        ({"square": [100, 100, 32], "label_set": 10**20}, "label_set"),
        ({"square": [100, 100, 32], "id": "1"}, "UUID"),
        ({"square": [100, 100, 32], "id": INJECTION[:36]}, "UUID"),
        ({"square": [100, 100, 32], "replaces": "nothing"}, "no tag"),
        ({"polygon": {"type": "Point", "coordinates": [1, 2]}}, "Polygon"),
        ({"polygon": {"type": "Polygon", "coordinates": "x"}}, "Polygon"),
        ({"polygon": {"coordinates": []}}, "Polygon"),
        ({"polygon": {"type": "Polygon", "coordinates": [[[0, 0], [9, 9], [9, 0], [0, 9], [0, 0]]]}}, "crosses itself"),
        ({"polygon": {"type": "Polygon", "coordinates": [[[9e4, 9e4], [9.1e4, 9e4], [9e4, 9.1e4], [9e4, 9e4]]]}}, "outside"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_told_in_words(
    server: Site, more: dict[str, Any], words: str
) -> None:
    answer = server.as_("tagger").post("/tags", json=_said(server, **more))
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]


def test_a_scene_that_does_not_exist(server: Site) -> None:
    said = _said(server, scene=12345, square=[100, 100, 32])
    assert server.as_("tagger").post("/tags", json=said).status_code == 404


def test_a_square_that_cannot_be_decoded_is_refused_and_the_others_are_not(
    server: Site, tmp_path: Path
) -> None:
    """400, not 500: what is sent again for ever would hold up what was said after it."""
    path = write_raster(tmp_path / "torn.tif", texture(256, 256, 5), compress="deflate", nodata=0)
    with rasterio.open(path) as source:
        first = int(source.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    with path.open("r+b") as stream:
        stream.seek(first)
        stream.write(bytes(64))
    scene = add_images(server.catalog, [str(path)]).new[0].id
    torn = server.tag("ana", (0, 0, 64), scene=scene)
    assert torn.status_code == 400, torn.text
    assert "torn.tif" in torn.json()["error"]
    assert server.as_("ana").get(f"/scenes/{scene}/tiles/0/0/0").status_code == 400
    whole = server.tag("ana", (160, 160, 64), scene=scene)
    assert whole.status_code == 201, whole.text


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e400"])
def test_numbers_that_are_none(server: Site, text: str) -> None:
    drawn = json.dumps(_said(server)).replace(
        '"damage"',
        f'"damage", "polygon": {{"type": "Polygon", "coordinates": [[[{text}, 0], [9, 0], [9, 9], [{text}, 0]]]}}',
    )
    kind = {"Content-Type": "application/json"}
    assert server.as_("tagger").post("/tags", content=drawn, headers=kind).status_code == 400


def test_tags_are_turned_over_page_by_page(server: Site) -> None:
    for k in range(5):
        server.tag("ben", (128 + 32 * k, 400, 32))
    whole = [one["id"] for one in _tags(server, limit=5000)]
    pages: list[str] = []
    more: dict[str, Any] = {}
    while True:
        page = server.as_("viewer").get("/tags", params={"limit": 2, **more}).json()
        pages += [one["id"] for one in page["tags"]]
        if not page["more"]:
            break
        more = {"before": page["tags"][-1]["made_at"], "before_id": page["tags"][-1]["id"]}
    assert pages == whole
    assert len(set(pages)) == len(pages)
    times = [one["made_at"] for one in _tags(server, limit=5000)]
    assert times == sorted(times, reverse=True)


def test_tags_are_filtered(server: Site) -> None:
    server.tag("ben", (300, 500, 32), "no-damage")
    assert {one["user"] for one in _tags(server, user="ben")} == {"ben"}
    assert {one["label"] for one in _tags(server, label="no-damage")} == {"no-damage"}
    assert {one["scene"] for one in _tags(server, scene=server.photo)} <= {server.photo}
    assert _tags(server, label_set="damage") == _tags(server, label_set=str(server.labels)) != []
    assert _tags(server, label_set="levels") == []


@pytest.mark.parametrize("path", ["/tags", "/export", "/agreement"])
@pytest.mark.parametrize("text", ["²", "٣", "-1", "9" * 20, "9" * 80])
def test_a_label_set_that_is_nobodys_number(server: Site, path: str, text: str) -> None:
    """What Python calls a digit is not always a number."""
    answer = server.as_("viewer").get(path, params={"label_set": text})
    assert (answer.status_code, answer.json()["code"]) == (404, 404)
    assert text in answer.json()["error"]


@pytest.mark.parametrize(
    ("moment", "code"),
    [
        ("0001-01-01T00:00:00+14:00", 400),
        ("9999-12-31T23:59:59-14:00", 400),
        ("2026-01-01T00:00:00", 400),
        ("0001-01-01T00:00:00Z", 200),
        ("9999-12-31T23:59:59Z", 200),
        ("9999-12-31T23:59:59+14:00", 200),
    ],
)
def test_moments_at_the_ends_of_time(server: Site, moment: str, code: int) -> None:
    answer = server.as_("viewer").get("/tags", params={"before": moment, "before_id": "a"})
    assert answer.status_code == code, answer.text


@pytest.mark.parametrize("name", ["user", "label"])
def test_text_that_looks_like_sql_is_text(server: Site, name: str) -> None:
    before = _tags(server, limit=5000)
    assert _tags(server, **{name: INJECTION}) == []
    assert _tags(server, limit=5000) == before
    answer = server.as_("viewer").get("/tags", params={"label_set": INJECTION})
    assert answer.status_code == 404
    assert INJECTION in answer.json()["error"]
    said = {"name": INJECTION, "password": "x"}
    assert httpx.post(f"{server.address}/api/login", json=said).status_code == 401


def test_markup_comes_back_as_text(server: Site) -> None:
    """In JSON, which no browser takes for a page."""
    answer = server.as_("viewer").get("/scenes")
    assert answer.headers["content-type"] == "application/json"
    towns = {one["id"]: one["town"] for one in answer.json()}
    assert towns[server.pair] == MARKUP
    labels = [{"name": "a", "title": MARKUP}, {"name": "b"}]
    made = server.as_("admin").post("/label-sets", json={"name": "marked", "labels": labels})
    assert made.status_code == 201
    titles = [one["labels"][0]["title"] for one in server.as_("viewer").get("/label-sets").json()]
    assert MARKUP in titles


def test_the_newest_version_of_a_label_set_is_shown(server: Site) -> None:
    admin, labels = server.as_("admin"), [{"name": "wet"}, {"name": "dry"}]
    first = admin.post("/label-sets", json={"name": "flood", "labels": labels}).json()
    second = admin.post(
        "/label-sets", json={"name": "flood", "labels": [*labels, {"name": "unseen"}]}
    ).json()
    assert (first["version"], second["version"]) == (1, 2)
    shown = {one["name"]: one["id"] for one in server.as_("viewer").get("/label-sets").json()}
    assert shown["flood"] == second["id"]
    assert admin.post("/label-sets", json={"name": "flood", "labels": []}).status_code == 400


def test_disagreements_are_found_and_settled(server: Site) -> None:
    with server.catalog.writing() as session:
        labels = change_labels(session, "agree", [{"name": "yes"}, {"name": "no"}])
        number = labels.id
    said = {"ana": "yes yes no no", "ben": "yes no no no"}
    for name, words in said.items():
        for k, word in enumerate(words.split()):
            assert (
                server.tag(name, (400, 100 + 32 * k, 32), word, label_set=number).status_code == 201
            )
    viewer = server.as_("viewer")
    found = viewer.get("/agreement", params={"label_set": "agree"}).json()
    assert found["pairs"] == [
        {"first": "ana", "second": "ben", "both": 4, "same": 3, "kappa": pytest.approx(0.5)}
    ]
    assert found["overall"] == {"both": 4, "same": 3, "kappa": pytest.approx(0.5)}
    (one,) = found["disagreements"]
    assert one["square"] == [400, 132, 32]
    assert [(s["user"], s["label"]) for s in one["said"]] == [("ana", "yes"), ("ben", "no")]
    wrong = {"id": _id(), "label_set": number, "label": "yes", "replaces": one["said"][1]["tag"]}
    assert server.as_("reviewer").post("/tags", json=wrong).status_code == 201
    after = viewer.get("/agreement", params={"label_set": str(number)}).json()
    assert after["disagreements"] == []
    assert after["overall"]["same"] == 3  # what both have said stays what it was


def test_suggestions_that_somebody_tagged_are_gone(server: Site) -> None:
    with server.catalog.writing() as session:
        session.execute(delete(Suggestion))  # those of other tests' learnings
        session.add_all(
            Suggestion(
                scene_id=server.pair, row=500, col=col, side=32, score=0.5, reason="uncertain"
            )
            for col in (100, 132)
        )
    squares = [one["square"] for one in server.as_("viewer").get("/suggestions").json()]
    assert squares == [[500, 100, 32], [500, 132, 32]]
    tag = server.tag("ana", (500, 100, 32)).json()["id"]
    squares = [one["square"] for one in server.as_("viewer").get("/suggestions").json()]
    assert squares == [[500, 132, 32]]
    _fix(server, "ana", tag, None)
    assert len(server.as_("viewer").get("/suggestions").json()) == 2


@pytest.mark.parametrize("form", ["geojson", "csv", "coco", "xbd", "folders"])
def test_tags_are_downloaded(server: Site, form: str) -> None:
    server.tag("ana", (532, 100, 32))
    answer = server.as_("viewer").get("/export", params={"format": form, "label_set": "damage"})
    assert answer.status_code == 200, answer.text
    assert "attachment" in answer.headers["content-disposition"]
    if form == "geojson":
        assert answer.json()["type"] == "FeatureCollection"
        assert len(answer.json()["features"]) == len(_tags(server, label_set="damage", limit=5000))
    elif form == "csv":
        assert answer.text.startswith("tag,")
    else:
        with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
            assert packed.testzip() is None
            assert len(packed.namelist()) > 1


def test_scenes_count_their_tags(server: Site) -> None:
    counts = {one["id"]: one["tags"] for one in server.as_("viewer").get("/scenes").json()}
    for number, count in counts.items():
        assert count == len(_tags(server, scene=number, limit=5000))
    one = server.as_("viewer").get(f"/scenes/{server.pair}").json()
    assert one["tags"] == counts[server.pair]
    assert (one["levels"], one["width"], one["height"]) == (3, 900, 700)
    with server.catalog.reading() as session:
        assert latest(session, "damage").id == server.labels
