"""A geocoder that is asked over HTTP: a real server on loopback in the place of the public one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from aftermap.scenes.errors import UsageError
from aftermap.scenes.geocoder import Geocoder

LON, LAT = np.array([-95.0, -94.5, -94.0]), np.array([16.4, 16.5, 16.6])


@contextmanager
def server(answers: int) -> Iterator[tuple[str, list[dict[str, list[str]]]]]:
    """Names what it is asked for after its latitude; fails after so many answers."""
    asked: list[dict[str, list[str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query)
            asked.append(query | {"path": [parts.path], "agent": [self.headers["User-Agent"]]})
            lat = query["lat"][0]
            body = {"error": "Unable to geocode"}
            if float(lat) < 16.55:
                body = {"lat": lat, "lon": query["lon"][0], "display_name": f"Calle {lat}"}
            self.send_response(200 if len(asked) <= answers else 500)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/maps", asked
        http.shutdown()


def test_each_point_is_asked_for() -> None:
    with server(answers=3) as (url, asked):
        found = Geocoder.of(f"nominatim={url}").addresses(LON, LAT)
    assert found == ["Calle 16.4", "Calle 16.5", None]
    assert [query["path"] for query in asked] == [["/maps/reverse"]] * 3
    assert asked[0]["agent"][0].startswith("aftermap/")


def test_one_that_fails_leaves_the_rest_without(caplog: pytest.LogCaptureFixture) -> None:
    with server(answers=1) as (url, _):
        geocoder = Geocoder.of(f"nominatim={url}")
        assert geocoder.addresses(LON[:2], LAT[:2]) == ["Calle 16.4", None]
    assert "1 of 2 detections have no address" in caplog.text


@pytest.mark.parametrize("text", ["google", "nominatim=ftp://host", "nominatim=host", ""])
def test_what_is_no_geocoder(text: str) -> None:
    with pytest.raises(UsageError, match="--geocoder"):
        Geocoder.of(text)
