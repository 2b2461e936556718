"""Pages in a browser, watched: what they ask for, and what they complain about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Watched:
    """Windows of one browser, each with cookies of its own."""

    browser: Any
    patience_s: int
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    windows: list[Any] = field(default_factory=list)

    def open(self, width: int = 1280, height: int = 800, **options: Any) -> Any:
        """An empty page that moves nothing by itself."""
        still = {"viewport": {"width": width, "height": height}, "reduced_motion": "reduce"}
        window = self.browser.new_context(**still | options)
        self.windows.append(window)
        window.set_default_timeout(1000 * self.patience_s)
        page = window.new_page()
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda said: self._complain(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self._complain(str(error)))
        page.on("dialog", lambda dialog: self._complain(f"dialog {dialog.message}"))
        return page

    def _complain(self, text: str) -> None:
        self.complaints.append(text)


@contextmanager
def watched(browser: Any, patience_s: int) -> Iterator[Watched]:
    """Windows that are closed in the end."""
    found = Watched(browser, patience_s)
    yield found
    for window in found.windows:
        window.close()
