"""STAC: catalogs on disk and on a loopback server, and the search of an API."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pystac
import pytest
import shapely
from aftermap.cluster.regions.file import Images
from aftermap.cluster.regions.pairs import find_pairs
from aftermap.scenes import catalog_stac
from aftermap.scenes.catalog_stac import read_stac
from aftermap.scenes.errors import AftermapError, Refused, UsageError
from aftermap.scenes.reading import Reading
from catalogs import HOST, stac_item, write_features

BOX = (36.0, 37.0, 37.0, 38.0)


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """A catalog with two collections of two items each, written by pystac."""
    root = pystac.Catalog("events", "All events")
    extent = pystac.Extent(pystac.SpatialExtent([list(BOX)]), pystac.TemporalExtent([[None, None]]))
    for name in ("before", "after"):
        collection = pystac.Collection(name, f"Images {name}", extent)
        root.add_child(collection)
        for number in (1, 2):
            item = pystac.Item(
                f"{name}-{number}",
                json.loads(shapely.to_geojson(shapely.box(*BOX))),
                list(BOX),
                datetime(2023, 2, 5 if name == "before" else 7, tzinfo=UTC),
                {"eo:cloud_cover": number},
            )
            item.add_asset("visual", pystac.Asset("./image.tif", media_type="image/tiff"))
            collection.add_item(item)
    root.normalize_and_save(str(tmp_path / "stac"), pystac.CatalogType.SELF_CONTAINED)
    return tmp_path / "stac"


class Site:
    """A loopback web server: what it answers to each path, and what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.pages: dict[str, Callable[[dict[str, Any]], tuple[int, bytes]]] = {}
        self.asked: list[str] = []

    def put(self, path: str, content: Any, status: int = 200) -> None:
        """Always answer a path with JSON, or with bytes as they are."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.pages[path] = lambda _: (status, body)


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer({})

        def do_POST(self) -> None:
            self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def answer(self, asked: dict[str, Any]) -> None:
            path = self.path.split("?")[0]
            site.asked.append(self.path)
            status, body = site.pages.get(path, lambda _: (404, b"{}"))(asked)
            self.send_response(status)
            declared = len(body) + (1000 if status == 200 and body.endswith(b"CUT") else 0)
            self.send_header("Content-Length", str(declared))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield site
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_stac, "PAUSE", 0.01)


def names(reading: Reading) -> list[str]:
    return sorted(image.name for image in reading.images)


def test_a_catalog_on_disk_is_walked(catalog: Path) -> None:
    for start in (catalog, catalog / "catalog.json"):
        reading = Reading()
        read_stac(str(start), reading)
        assert names(reading) == ["after-1", "after-2", "before-1", "before-2"]
        assert not reading.lines()
    image = next(i for i in reading.images if i.name == "after-2")
    assert image.href == str(catalog / "after" / "after-2" / "image.tif")
    assert image.cloud == 2


def test_a_collection_an_item_and_a_selection(catalog: Path) -> None:
    reading = Reading()
    read_stac(str(catalog / "after"), reading)
    assert names(reading) == ["after-1", "after-2"]
    reading = Reading()
    read_stac(str(catalog / "after" / "after-1" / "after-1.json"), reading)
    assert names(reading) == ["after-1"]
    reading = Reading()
    read_stac(str(catalog), reading, collections=["before"])
    assert names(reading) == ["before-1", "before-2"]
    assert reading.found == 4
    assert reading.lines() == ("2 images: of another collection (after-1, after-2)",)


def test_an_item_collection(tmp_path: Path) -> None:
    items = [stac_item("a", "2023-02-05", BOX), stac_item("b", "2023-02-07", BOX, assets={})]
    reading = Reading()
    read_stac(str(write_features(tmp_path / "items.json", items)), reading)
    assert names(reading) == ["a"]
    assert reading.lines() == ("1 image: no assets (b)",)


def test_links_in_a_circle_end(catalog: Path) -> None:
    file = catalog / "after" / "collection.json"
    content = json.loads(file.read_text())
    content["links"] += [
        {"rel": "child", "href": "../catalog.json"},
        {"rel": "child", "href": "./collection.json"},
        {"rel": "child", "href": ".././after/../after/collection.json"},
        {"rel": "item", "href": "./after-1/after-1.json"},
    ]
    file.write_text(json.dumps(content))
    reading = Reading()
    read_stac(str(catalog), reading)
    assert names(reading) == ["after-1", "after-2", "before-1", "before-2"]
    assert reading.found == 4


def test_links_without_end_are_refused(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_stac, "MAX_CATALOGS", 2)
    with pytest.raises(Refused, match="links to more than 2 catalogs"):
        read_stac(str(catalog), Reading())


def test_links_that_lead_nowhere_or_away_are_told(catalog: Path) -> None:
    file = catalog / "catalog.json"
    content = json.loads(file.read_text())
    (catalog / "text.json").write_text("hello")
    (catalog / "other.json").write_text('{"mosaicjson": "0.0.2"}')
    content["links"] += [
        {"rel": "child", "href": "./gone/catalog.json"},
        {"rel": "child", "href": "./text.json"},
        {"rel": "item", "href": "./other.json"},
        {"rel": "item", "href": "file:///etc/passwd"},
        {"rel": "item", "href": "https://user:SECRET@127.0.0.1:1/x.json?token=SECRET"},
    ]
    file.write_text(json.dumps(content))
    reading = Reading()
    read_stac(str(catalog), reading)
    assert len(reading.images) == 4
    told = "\n".join(reading.lines())
    assert "it does not exist" in told
    assert "it is not JSON (it begins with 'hello')" in told
    assert "a MosaicJSON" in told
    assert "of a kind that is not read (file:)" in told
    assert "it lies on the network, and --allow-remote was not given" in told
    assert "https://127.0.0.1:1/x.json" in told
    assert "SECRET" not in told


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nonsense", "it is not JSON"),
        ('{"mosaicjson": "0.0.2"}', "a MosaicJSON"),
        ('{"type": "Catalog", "id": "x"}', "of type 'Catalog', and no STAC that can be read"),
        ('{"type": "Catalog", "stac_version": "1.0.0", "id": 1, "links": 3}', "no STAC"),
        ('{"type": "FeatureCollection", "features": 5}', "without features"),
        ("[]", "a JSON list"),
    ],
)
def test_documents_that_are_no_stac_are_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "catalog.json"
    file.write_text(content)
    with pytest.raises(Refused, match=message):
        read_stac(str(file), Reading())


def test_secrets_of_an_address_are_never_shown(site: Site) -> None:
    """Neither in refusals nor in what is read: the query and the user name are cut off."""
    site.put("/empty.json", {"type": "FeatureCollection", "features": []})
    site.put("/text.json", b"hello")
    secret = site.url.replace("://", "://user:SECRET@")
    day = date(2023, 2, 6)
    for path, remote in (("/empty.json", True), ("/text.json", True), ("/empty.json", False)):
        images = Images(
            kind="stac", path=f"{secret}{path}?token=SECRET", event_date=day, allow_remote=remote
        )
        with pytest.raises(Refused) as refusal:
            find_pairs(images)
        assert path in str(refusal.value)
        assert "SECRET" not in str(refusal.value)


def test_a_catalog_without_end_is_refused_without_its_secrets(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_stac, "MAX_CATALOGS", 0)
    site.put("/catalog.json", pystac.Catalog("town", "Town").to_dict())
    secret = site.url.replace("://", "://user:SECRET@")
    with pytest.raises(Refused, match=r"/catalog\.json links to more than 0 catalogs") as refusal:
        read_stac(f"{secret}/catalog.json?sig=SECRET", Reading(), allow_remote=True)
    assert "SECRET" not in str(refusal.value)


def test_paths_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    for path, message in (
        ("https://a.org/stac", "lies on the network. Allow it with --allow-remote"),
        ("s3://bucket/catalog.json", "only http"),
        (
            "ftp://user:SECRET@a.org/catalog.json?sig=SECRET",
            "'ftp://a.org/catalog.json': only http",
        ),
        (str(tmp_path), "no catalog.json and no collection.json"),
        (str(tmp_path / "none.json"), "does not exist"),
    ):
        with pytest.raises(Refused, match=message):
            read_stac(path, Reading())


def test_a_catalog_on_the_network_is_walked(site: Site, catalog: Path) -> None:
    for file in catalog.rglob("*.json"):
        site.put(f"/{file.relative_to(catalog)}", file.read_bytes())
    reading = Reading()
    read_stac(f"{site.url}/catalog.json?key=SECRET", reading, allow_remote=True)
    assert names(reading) == ["after-1", "after-2", "before-1", "before-2"]
    assert {image.href for image in reading.images} == {
        f"{site.url}/{name}/{name}-{number}/image.tif"
        for name in ("before", "after")
        for number in (1, 2)
    }


def test_a_remote_catalog_cannot_reach_local_files(site: Site, catalog: Path) -> None:
    content = json.loads((catalog / "catalog.json").read_text())
    local = catalog / "after" / "collection.json"
    content["links"] = [
        {"rel": "child", "href": str(local)},
        {"rel": "child", "href": f"file://{local}"},
        {"rel": "item", "href": "/items.json"},
    ]
    site.put("/catalog.json", content)
    site.put(
        "/items.json", stac_item("a", "2023-02-07", BOX, assets={"visual": {"href": str(local)}})
    )
    site.pages[str(local)] = lambda _: (200, b'{"type": "nothing"}')
    reading = Reading()
    read_stac(f"{site.url}/catalog.json", reading, allow_remote=True)
    assert str(local) in site.asked  # the path was asked of the server, not of this machine
    assert [image.href for image in reading.images] == [f"{site.url}{local}"]


def test_passing_faults_are_tried_again(site: Site) -> None:
    item = json.dumps(stac_item("a", "2023-02-07", BOX)).encode()
    answers = iter([(503, b"busy"), (200, item[:50] + b"CUT"), (429, b""), (200, item)])
    site.pages["/item.json"] = lambda _: next(answers)
    reading = Reading()
    read_stac(f"{site.url}/item.json", reading, allow_remote=True)
    assert names(reading) == ["a"]
    assert len(site.asked) == 4


def test_lasting_faults_end_with_the_address_and_the_number_of_attempts(site: Site) -> None:
    site.put("/item.json", {}, status=503)
    with pytest.raises(AftermapError, match="tried 5 times: it answered 503") as fault:
        read_stac(f"{site.url}/item.json?token=SECRET", Reading(), allow_remote=True)
    assert fault.value.exit_code == 1
    assert "SECRET" not in str(fault.value)
    assert len(site.asked) == 5
    with pytest.raises(AftermapError, match="tried 1 times: it answered 404"):
        read_stac(f"{site.url}/gone.json", Reading(), allow_remote=True)


def test_silence_is_a_fault_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_stac, "TIMEOUT", (0.2, 0.2))
    monkeypatch.setattr(catalog_stac, "RETRIES", 1)
    still = threading.Event()
    site.pages["/item.json"] = lambda _: (still.wait(5), b"")
    with pytest.raises(AftermapError, match=r"tried 2 times: .*Timeout"):
        read_stac(f"{site.url}/item.json", Reading(), allow_remote=True)
    still.set()


def test_an_endless_answer_is_cut_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_stac, "MAX_BYTES", 1000)
    site.put("/item.json", b" " * 5000)
    with pytest.raises(Refused, match="longer than the 1,000 bytes"):
        read_stac(f"{site.url}/item.json", Reading(), allow_remote=True)


@pytest.fixture
def api(site: Site) -> Site:
    """A STAC API with five items of one collection, two on each page of a search."""
    found = [stac_item(f"i{n}", "2023-02-07", BOX, collection="town") for n in range(5)]

    def search(asked: dict[str, Any]) -> tuple[int, bytes]:
        site.searched = asked  # type: ignore[attr-defined]
        start = int(asked.get("token", 0))
        page: dict[str, Any] = {"type": "FeatureCollection", "features": found[start : start + 2]}
        if start + 2 < len(found):
            body = {"token": start + 2}
            page["links"] = [
                {"rel": "next", "href": f"{site.url}/search", "method": "POST", "merge": True,
                 "body": body}
            ]  # fmt: skip
        return 200, json.dumps(page).encode()

    landing = {
        "type": "Catalog", "id": "api", "description": "An API", "stac_version": "1.0.0",
        "conformsTo": [
            "https://api.stacspec.org/v1.0.0/core",
            "https://api.stacspec.org/v1.0.0/item-search",
        ],
        "links": [
            {"rel": "self", "href": site.url},
            {"rel": "root", "href": site.url},
            {"rel": "search", "href": f"{site.url}/search", "method": "POST",
             "type": "application/geo+json"},
        ],
    }  # fmt: skip
    site.put("/", landing)
    site.pages["/search"] = search
    return site


def test_an_api_is_searched_page_by_page(api: Site) -> None:
    reading = Reading()
    area = shapely.box(36, 37, 36.5, 37.5)
    read_stac(f"{api.url}/", reading, collections=["town"], area=area, allow_remote=True)
    assert names(reading) == ["i0", "i1", "i2", "i3", "i4"]
    assert reading.images[0].href == f"{HOST}/i0.tif"
    asked = api.searched  # type: ignore[attr-defined]
    assert asked["collections"] == ["town"]
    assert shapely.from_geojson(json.dumps(asked["intersects"])).equals(area)


def test_an_api_is_not_read_whole(api: Site) -> None:
    with pytest.raises(UsageError, match=r"is an API. Say what to search with collections"):
        read_stac(f"{api.url}/", Reading(), allow_remote=True)


def test_an_api_that_answers_nonsense(api: Site) -> None:
    api.pages["/search"] = lambda _: (200, b'{"type": "FeatureCollection", "features": 3}')
    with pytest.raises(AftermapError, match="a search with what is no item collection"):
        read_stac(f"{api.url}/", Reading(), collections=["town"], allow_remote=True)
    api.pages["/search"] = lambda _: (200, b"not json")
    with pytest.raises(AftermapError, match="a search with what is no item collection"):
        read_stac(f"{api.url}/", Reading(), collections=["town"], allow_remote=True)
