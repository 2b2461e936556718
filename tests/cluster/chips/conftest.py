"""A made event and a cluster of threads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from aftermap.cluster.client import connected
from distributed import Client
from event_made import write_event


@pytest.fixture(scope="session")
def event(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a catalog, its local copies, and a region file."""
    return write_event(tmp_path_factory.mktemp("event"))


@pytest.fixture(scope="module")
def threads() -> Iterator[Client]:
    with connected("threads", workers=2) as client:
        yield client
