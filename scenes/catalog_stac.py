"""STAC: images from a catalog of files, near or far, or from the search of an API."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pystac
import pystac.errors
import pystac_client
import requests
import shapely
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO

from .catalog_item import Unusable, clean_href, is_remote, shown_href
from .errors import AftermapError, Refused, UsageError
from .left_out import printable
from .reading import MAX_BYTES, MAX_ITEMS, Reading, describe, json_object, read_text
from .remote import shown

MAX_CATALOGS = 10_000
"""Most catalogs and collections that are walked through below the one given."""

TIMEOUT = (10.0, 60.0)
"""Seconds to wait for a connection and for each piece of an answer."""

RETRIES = 4
"""How often a request is tried again before the catalog is given up."""

PAUSE = 0.3
"""Seconds before the second attempt; doubled for each further one."""

_PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Answers after which trying again is worth while."""

_MALFORMED = (
    pystac.STACError, pystac.STACTypeError, LookupError, TypeError, ValueError, AttributeError,
)  # fmt: skip
"""What pystac raises for documents that are not as the specification says."""

_PAGE = 200
_SEARCH = "item-search"


def read_stac(
    path: str,
    reading: Reading,
    *,
    collections: Sequence[str] = (),
    area: shapely.Geometry | None = None,
    allow_remote: bool = False,
) -> None:
    """Read a STAC catalog, collection, item or item collection, or search an API, into `reading`.

    `area` (EPSG:4326) narrows the search of an API. Links are followed one at a time, each once.
    Raises Refused for what is no STAC or would need the network without `allow_remote`,
    AftermapError for a network that fails.
    """
    remote = is_remote(path)
    if remote and not allow_remote:
        raise Refused(
            f"[images] path = {shown_href(path)!r} lies on the network. Allow it with --allow-remote "
            "or allow_remote = true, or give a local copy."
        )
    if "://" in path and not remote:
        raise Refused(
            f"[images] path = {printable(shown(path))!r}: only http(s) and local paths are read."
        )
    start = path if remote else str(_entry(Path(path)).absolute())
    files = StacFiles(allow_remote)
    try:
        content = files.load(start)
        if remote and _searchable(content):
            _search(start, files, reading, collections, area)
            return
        _walk(content, start, files, reading, collections)
    except Unusable as reason:
        raise Refused(
            f"[images] path: {shown_href(start)} cannot be read as STAC: {reason}."
        ) from None


class StacFiles(StacApiIO):
    """Reads STAC documents: local files, and URLs where allowed, both up to MAX_BYTES."""

    def __init__(self, allow_remote: bool) -> None:
        super().__init__(timeout=TIMEOUT, max_retries=None)
        self.allow_remote = allow_remote

    def load(self, href: str) -> dict[str, Any]:
        """The JSON object at an address; raises Unusable with the reason."""
        if is_remote(href):
            return json_object(self.request(href))
        return json_object(read_text(Path(href)))

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """One request, in pieces, so that an endless answer is cut off; http(s) only."""
        if not self.allow_remote:
            raise Unusable("it lies on the network, and --allow-remote was not given")
        if not is_remote(href):
            raise Unusable("its address is not http(s)")
        posts = (method or "GET").upper() == "POST"
        body = {"json": parameters} if posts else {"params": parameters or {}}
        options: dict[str, Any] = {
            "headers": headers,
            "timeout": self.timeout,
            "stream": True,
            **body,
        }
        fault = ""
        for attempt in range(RETRIES + 1):
            if attempt:
                time.sleep(PAUSE * 2 ** (attempt - 1))
            try:
                with self.session.request("POST" if posts else "GET", href, **options) as answer:
                    if answer.status_code == 200:
                        return _received(answer)
                    fault = f"it answered {answer.status_code} {printable(answer.reason, 40)}"
                    if answer.status_code not in _PASSING:
                        break
            except requests.RequestException as error:
                fault = f"{type(error).__name__}"
        raise AftermapError(
            f"{shown_href(href)} could not be read, tried {attempt + 1} times: {fault}. "
            "Check the address and the network, or give a local copy of the catalog."
        )


def _received(answer: requests.Response) -> str:
    pieces, size = [], 0
    for piece in answer.iter_content(1 << 20):
        size += len(piece)
        if size > MAX_BYTES:
            raise Unusable(f"it is longer than the {MAX_BYTES:,} bytes that are read")
        pieces.append(piece)
    try:
        return b"".join(pieces).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unusable("it is not text in UTF-8") from None


def _entry(path: Path) -> Path:
    """The document that stands for a folder."""
    for name in ("catalog.json", "collection.json"):
        if (path / name).is_file():
            return path / name
    if path.is_dir():
        raise Refused(f"[images] path = {str(path)!r} has no catalog.json and no collection.json.")
    return path


def _walk(
    content: dict[str, Any],
    start: str,
    files: StacFiles,
    reading: Reading,
    collections: Sequence[str],
) -> None:
    """Take the items of a document and of all that it links to, breadth first, each once."""
    waiting: list[tuple[str, dict[str, Any] | None]] = [(start, content)]
    seen = {_identity(start)}
    catalogs = 0
    while waiting:
        href, document = waiting.pop()
        if document is None:
            document = _linked(href, files, reading)
            if document is None:
                continue
        if document.get("type") == "FeatureCollection":
            for item in _features(document):
                _take(item, href, reading, collections)
            continue
        if document.get("type") == "Feature":
            _take(document, href, reading, collections)
            continue
        catalog = _catalog(document, href)
        catalogs += 1
        if catalogs > MAX_CATALOGS:
            raise Refused(
                f"{shown_href(start)} links to more than {MAX_CATALOGS:,} catalogs. Give one event's."
            )
        for link in reversed([*catalog.get_child_links(), *catalog.get_item_links()]):
            target = _target(link, href, reading)
            if target is not None and _identity(target) not in seen:
                seen.add(_identity(target))
                waiting.append((target, None))


def _linked(href: str, files: StacFiles, reading: Reading) -> dict[str, Any] | None:
    """The document behind a link; None, and noted, where there is none that can be read."""
    try:
        document = files.load(href)
        if document.get("type") not in ("Feature", "FeatureCollection"):
            _catalog(document, href)
        return document
    except Unusable as reason:
        reading.left_out.add(str(reason), shown_href(href), "link")
        return None


def _catalog(document: dict[str, Any], href: str) -> pystac.Catalog:
    try:
        found = pystac.read_dict(document, href=href)
    except _MALFORMED as error:
        raise Unusable(f"it is {describe(document)}, and no STAC that can be read") from error
    if not isinstance(found, pystac.Catalog):
        raise Unusable(f"it is {describe(document)}")
    return found


def _features(document: dict[str, Any]) -> list[Any]:
    features = document.get("features")
    if not isinstance(features, list):
        raise Unusable("it is a FeatureCollection without features")
    return features


def _target(link: pystac.Link, base: str, reading: Reading) -> str | None:
    href = link.get_absolute_href()
    try:
        # A query may be part of a remote document's address, so only the kind is checked here.
        cleaned = clean_href(href, base)
    except Unusable as reason:
        reading.left_out.add(str(reason), printable(reason.detail or link.rel), "link")
        return None
    return str(href) if is_remote(cleaned) else cleaned


def _identity(href: str) -> str:
    return href if is_remote(href) else os.path.realpath(href)


def _take(item: Any, href: str, reading: Reading, collections: Sequence[str]) -> None:
    if collections and isinstance(item, dict) and item.get("collection") not in collections:
        reading.count()
        reading.left_out.add("of another collection", printable(item.get("id")))
        return
    reading.take(item, href)


def _searchable(content: dict[str, Any]) -> bool:
    """Whether a document is the entry of an API that searches items."""
    classes = content.get("conformsTo")
    return isinstance(classes, list) and any(_SEARCH in str(name) for name in classes)


def _search(
    url: str,
    files: StacFiles,
    reading: Reading,
    collections: Sequence[str],
    area: shapely.Geometry | None,
) -> None:
    """Take the items that the API finds, page by page."""
    if not collections:
        raise UsageError(
            f"[images] path = {shown_href(url)!r} is an API. Say what to search with "
            'collections = ["..."].'
        )
    wanted = {"intersects": json.loads(shapely.to_geojson(area))} if area is not None else {}
    client = pystac_client.Client.open(url, stac_io=files)
    search = client.search(
        collections=list(collections), limit=_PAGE, max_items=MAX_ITEMS + 1, **wanted
    )
    for item in _found(search, url):
        reading.take(item, _base(item, url))


def _found(search: pystac_client.ItemSearch, url: str) -> Iterator[dict[str, Any]]:
    try:
        yield from search.items_as_dicts()
    except AftermapError:
        raise
    except (APIError, *_MALFORMED) as error:
        raise AftermapError(
            f"{shown_href(url)} answered a search with what is no item collection "
            f"({printable(error, 80)})."
        ) from error


def _base(item: dict[str, Any], url: str) -> str:
    """The address that an item's relative links are taken from: its own."""
    links = item.get("links")
    for link in links if isinstance(links, list) else []:
        if (
            isinstance(link, dict)
            and link.get("rel") == "self"
            and is_remote(str(link.get("href")))
        ):
            return str(link["href"])
    return url
