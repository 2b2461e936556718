"""Remote images as their servers have them now: asked for several at a time, and each once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ...scenes.errors import Refused
from ...scenes.remote import RemoteFile, fingerprint_remote, is_remote
from ..fingerprint import differences

AT_ONCE = 16
"""Images that are asked for at the same time; when as many in a row fail, the others are let be."""


class Looks:
    """The fingerprints of remote images, taken when first asked for."""

    def __init__(self) -> None:
        self.missed: dict[str, str] = {}
        """Images that could not be looked at, each with the reason."""
        self._found: dict[str, dict[str, object]] = {}
        self._in_a_row = 0

    def take(self, urls: Iterable[str]) -> None:
        """Look at images that were not looked at before: two small requests each.

        A server that does not answer is given up after AT_ONCE images in a row, so that a region
        of thousands does not wait for each of them in turn.
        """
        todo = [url for url in dict.fromkeys(urls) if url not in self._found]
        pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="look")
        try:
            for _ in pool.map(self._look, todo):
                pass
        finally:
            pool.shutdown(cancel_futures=True)

    def changes(self, inputs: Mapping[str, Iterable[Mapping[str, object]]]) -> list[str]:
        """What is not any more as a run found it, by role; what was not looked at counts as unchanged."""
        return [
            line
            for role, files in inputs.items()
            for file in files
            if (now := self._found.get(str(file["path"]))) is not None
            for line in differences(file, now, f"images.{role}.")
        ]

    def told(self) -> str:
        """What could not be looked at, in a sentence; empty where everything could."""
        if not self.missed:
            return ""
        return (
            f"{len(self.missed)} remote images could not be looked at and are taken as unchanged: "
            f"{next(iter(self.missed.values()))}"
        )

    def _look(self, url: str) -> None:
        if self._in_a_row >= AT_ONCE:
            self.missed[url] = "its server was given up"
            return
        try:
            self._found[url] = fingerprint_remote(RemoteFile.of(url))
            self._in_a_row = 0
        except Refused as error:
            self.missed[url] = str(error)
            self._in_a_row += 1


def remote_inputs(record: Mapping[str, Any]) -> list[str]:
    """The addresses of the remote images that a run was made from, as its run.json says."""
    files = [file for several in record["facts"]["inputs"].values() for file in several]
    return [file["path"] for file in files if is_remote(file["path"])]
