"""Towns to learn from, and quick configurations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aftermap.cluster.learn.config import LearnConfig
from catalog_made import KINDS, database_address
from learn_town import Town, make_town
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks as small as these are slower on several threads, many times where others work too."""
    with threadpool_limits(1):
        yield


@pytest.fixture(params=KINDS)
def town(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Town]:
    """A town in each kind of database."""
    with database_address(request.param, tmp_path) as address:
        found = make_town(tmp_path, address if "://" in address else None)
        yield found
        found.catalog.close()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Town]:
    """A town in SQLite's file."""
    found = make_town(tmp_path, None)
    yield found
    found.catalog.close()


@pytest.fixture
def quick() -> Callable[..., LearnConfig]:
    """Configurations with a tiny backbone and few squares to look at."""

    def made(**values: object) -> LearnConfig:
        given = {"backbone": "test_resnet", "candidates": 40, "count": 20, "held_out": 0.4} | values
        return LearnConfig(**given)  # type: ignore[arg-type]

    return made
