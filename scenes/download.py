"""Whole files behind http and https, such as the images that a map service draws."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import IO

from .errors import Refused
from .remote import ASK, Again, Patience, RemoteFile, Unreachable, judge, shown

MOST_BYTES = 2 << 30
"""Larger files are refused: a raster of that size is read in place, by ranges."""

_PIECE = 1 << 18


def download(file: RemoteFile, stream: IO[bytes], most: int = MOST_BYTES) -> int:
    """Write a whole remote file to a stream, from its beginning; returns its bytes.

    Nothing is followed to another address; a failed request is made again as `Patience` says, and
    the stream is then written anew. Raises Unreachable, or Refused for too large or empty a file.
    """
    patience = Patience.asked()
    for attempt in range(patience.retries + 1):
        if attempt:
            time.sleep(patience.delay * 2 ** (attempt - 1))
        stream.seek(0)
        stream.truncate()
        try:
            return _download_once(file, stream, most, patience)
        except Again as error:
            reason = str(error)
    raise Unreachable(
        f"{file} cannot be fetched: {reason} (attempts: {patience.retries + 1}). Check the address "
        "and the network, and try again; GDAL_HTTP_TIMEOUT and GDAL_HTTP_MAX_RETRY give it more time."
    )


def _download_once(file: RemoteFile, stream: IO[bytes], most: int, patience: Patience) -> int:
    size = 0
    for piece in _pieces(file, patience):
        size += len(piece)
        if size > most:
            raise Refused(f"{file} has more than {most:,} bytes. Fetch it and give its path.")
        stream.write(piece)
    if size == 0:
        raise Refused(f"{file} is empty (0 bytes).")
    return size


def _pieces(file: RemoteFile, patience: Patience) -> Iterator[bytes]:
    asked = urllib.request.Request(
        file.address, headers={"Accept-Encoding": "identity", "User-Agent": "aftermap"}
    )
    size = 0
    try:
        with ASK.open(asked, timeout=min(patience.connect, patience.request)) as answer:
            told = answer.headers.get("Content-Length", "")
            last = time.monotonic()
            while piece := answer.read1(_PIECE):
                size += len(piece)
                yield piece
                # A large file may take long; one that trickles is given up.
                if time.monotonic() - last > patience.request:
                    raise Again(f"no more than {len(piece)} bytes came in {patience.request:g} s")
                last = time.monotonic()
    except urllib.error.HTTPError as error:
        judge(error, file)
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise Again(shown(str(reason)) or type(reason).__name__) from None
    if told.isdigit() and size != int(told):
        raise Again(f"{size} bytes of {told} came")
