"""What the command line does around learning: arguments to a configuration, figures to the terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..catalog.catalog import Catalog, local_user
from ..catalog.tables import Job, User
from .config import LearnConfig
from .jobs import LEARN, Tell, begin, finish, reported
from .learn import learn
from .learnt import Learnt

_LINE_EVERY = 5.0
"""Seconds between lines that say how far it is."""


def run_learn(arguments: Mapping[str, Any]) -> int:
    """Carry out `aftermap learn` from its arguments; returns the exit code.

    Whoever looks at the jobs of the catalog sees this one too; `job` is the number of one that was begun
    for it.
    """
    known = {field.name for field in fields(LearnConfig)}
    config = LearnConfig(**{name: value for name, value in arguments.items() if name in known})
    catalog = Catalog.open(arguments["catalog"], arguments["database"])
    try:
        if arguments["dry_run"]:
            found = learn(catalog, config, dry_run=True)
        else:
            found = _as_job(catalog, config, arguments["job"], quiet=arguments["as_json"])
    finally:
        catalog.close()
    print(json.dumps(found.to_dict(), indent=2) if arguments["as_json"] else found.text())
    return 0


def _as_job(catalog: Catalog, config: LearnConfig, number: int | None, quiet: bool) -> Learnt:
    if number is None:
        with catalog.writing() as session:
            name = local_user(session).name
        number = begin(catalog, LEARN, name).id
    with reported(catalog, number) as tell:
        with catalog.reading() as session:
            user = session.get_one(User, session.get_one(Job, number).user_id)
        found = learn(catalog, config, user, tell if quiet else _aloud(tell))
        use = "in use" if found.promoted else "not in use"
        learnt = "" if found.trial is None else f"; learnt: {found.trial.text()}"
        finish(catalog, number, f"model {found.model} is {use}: {found.why}{learnt}")
        return found


def _aloud(tell: Tell) -> Tell:
    """Say on standard error, too, how far it is."""
    last = time.monotonic()

    def both(done: float, words: str) -> None:
        nonlocal last
        tell(done, words)
        if time.monotonic() - last >= _LINE_EVERY:
            last = time.monotonic()
            print(f"{words} ({done:.0%})", file=sys.stderr, flush=True)

    return both
