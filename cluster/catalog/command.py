"""What the command line does with a catalog: add, list, show, exchange, verify, users, labels."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...scenes.errors import UsageError
from .catalog import Catalog, local_user, note
from .labels import change_labels, latest, read_labels
from .listing import LISTS, print_table, printed
from .showing import show, told_facts

LEFT_OUT = 4
"""Exit code where something could not be taken in."""

DISAGREE = 3
"""Exit code where database and files disagree."""


@contextmanager
def opened(arguments: Mapping[str, Any], create: bool = False) -> Iterator[Catalog]:
    """The catalog that the command line names."""
    catalog = Catalog.open(arguments["catalog"], arguments["database"], create)
    try:
        yield catalog
    finally:
        catalog.close()


def run_add(arguments: Mapping[str, Any]) -> int:
    """Carry out `aftermap catalog add`; 4 where files of folders are no images."""
    sources = list(arguments["sources"])
    runs = [one for one in sources if (Path(one) / "run.json").is_file()]
    weights = [one for one in sources if one.endswith(".safetensors")]
    images = [one for one in sources if one not in runs and one not in weights]
    told: dict[str, list[Any]] = {"new": [], "known": [], "unreadable": []}
    with opened(arguments, create=True) as catalog:
        if images:
            _add_images(catalog, images, arguments, told)
        _add_others(catalog, weights, runs, told)
    if arguments["as_json"]:
        print(json.dumps(told, indent=2))
    else:
        for kind in ("new", "known"):
            for one in told[kind]:
                print(printed(f"{kind:<10} {one['kind']} {one['id']}: {one['name']}"))
        for one in told["unreadable"]:
            print(printed(f"unreadable {one}"))
    return LEFT_OUT if told["unreadable"] else 0


def run_list(arguments: Mapping[str, Any]) -> None:
    """Carry out `aftermap catalog list`."""
    what = arguments["what"]
    if what not in LISTS:
        raise UsageError(f"There is no list of {what!r}: {', '.join(LISTS)}.")
    with opened(arguments) as catalog, catalog.reading() as session:
        rows = LISTS[what](session, arguments["limit"])
    if arguments["as_json"]:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        print_table(what, rows)


def run_show(arguments: Mapping[str, Any]) -> None:
    """Carry out `aftermap catalog show`."""
    with opened(arguments) as catalog, catalog.reading() as session:
        facts = show(session, arguments["what"], arguments["which"])
    if arguments["as_json"]:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        print(told_facts(facts))


def run_export(arguments: Mapping[str, Any]) -> None:
    """Carry out `aftermap catalog export`, and say what it left out."""
    from .interchange.exporting import export_tags

    with opened(arguments) as catalog:
        done = export_tags(
            catalog, arguments["to"], arguments["out"], arguments["labels"], arguments["overwrite"]
        )
    if arguments["as_json"]:
        print(json.dumps(asdict(done), default=str, indent=2))
        return
    counts = ", ".join(f"{count} {name}" for name, count in done.counts.items())
    print(f"{done.to:<10} {done.path}: {counts}")
    for left in done.left_out:
        print(f"left out   {left}")


def run_import(arguments: Mapping[str, Any]) -> int:
    """Carry out `aftermap catalog import`; 4 where some tags were left out."""
    from .interchange.importing import import_tags

    with opened(arguments, create=True) as catalog, _Told(arguments, "tags") as told:
        done = import_tags(
            catalog, arguments["source"], arguments["labels"], arguments["name"],
            arguments["partly"], told.tell,
        )  # fmt: skip
    print(json.dumps(done.facts(), indent=2) if arguments["as_json"] else printed(done.text()))
    return LEFT_OUT if done.left_out else 0


def run_verify(arguments: Mapping[str, Any]) -> int:
    """Carry out `aftermap catalog verify`; 3 where database and files disagree."""
    from .verify import verify

    with opened(arguments) as catalog, _Told(arguments, "files") as told:
        found = verify(catalog, arguments["tidy"], told.tell)
    print(json.dumps(found.facts(), indent=2) if arguments["as_json"] else printed(found.text()))
    return DISAGREE if found.problems else 0


def run_user(arguments: Mapping[str, Any]) -> None:
    """Carry out `aftermap catalog user`: let somebody log in, or no longer."""
    from .people import add_user, deactivate

    name, role = arguments["name"], arguments["role"]
    if not arguments["deactivate"] and role is None:
        raise UsageError(f"Say with --role what {name!r} may do, or --deactivate.")
    if arguments["deactivate"] and role is not None:
        raise UsageError("--deactivate takes all roles away; leave out --role.")
    with opened(arguments, create=role is not None) as catalog:
        password = None if role is None else _password(name, arguments["password_stdin"])
        with catalog.writing() as session:
            by = local_user(session)
            if password is None:
                deactivate(session, name, by)
            else:
                add_user(session, name, role, password, by)
    state = {"user": name, "role": role, "active": password is not None}
    words = f"user       {name}: {role or 'cannot log in any more'}"
    print(json.dumps(state) if arguments["as_json"] else printed(words))


def run_labels(arguments: Mapping[str, Any]) -> None:
    """Carry out `aftermap catalog labels`: show a label set, or make its next version from a file."""
    name, file = arguments["name"], arguments["file"]
    if name is None:
        run_list({**arguments, "what": "labels", "limit": None})
        return
    with opened(arguments, create=file is not None) as catalog:
        if file is not None:
            wanted = read_labels(file)
            with catalog.writing() as session:
                found = change_labels(session, name, wanted)
                by = local_user(session)
                note(session, by, "labels", f"{name} version {found.version}", file=file.name)
        else:
            with catalog.reading() as session:
                found = latest(session, name)
    if arguments["as_json"]:
        told = {"name": found.name, "version": found.version, "labels": found.labels}
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        print(f"{found.name} version {found.version}")
        print_table("labels", found.labels)


def _add_images(
    catalog: Catalog, images: Sequence[str], arguments: Mapping[str, Any], told: dict[str, Any]
) -> None:
    from .imagery import About, add_images

    about = About(
        town=arguments["town"], event=arguments["event"], taken_at=_day(arguments["date"]),
        before=arguments["before"], bands=arguments["bands"], scale=arguments["scale"],
    )  # fmt: skip
    with _Told(arguments, "images") as progress:
        added = add_images(catalog, images, about, arguments["allow_remote"], progress.tell)
    for kind, scenes in (("new", added.new), ("known", added.known)):
        told[kind] += [{"kind": "scene", "id": one.id, "name": one.name} for one in scenes]
    told["unreadable"] += added.unreadable


def _add_others(
    catalog: Catalog, weights: Sequence[str], runs: Sequence[str], told: dict[str, Any]
) -> None:
    if weights:
        from .lineage import add_model

        for file in weights:
            model, new = add_model(catalog, Path(file))
            row = {"kind": "model", "id": model.id, "name": f"{model.method} {file}"}
            told["new" if new else "known"].append(row)
    if runs:
        from .runs import add_run

        for folder in runs:
            run, new = add_run(catalog, Path(folder))
            row = {"kind": "run", "id": run.id, "name": f"{run.method} {folder}"}
            told["new" if new else "known"].append(row)


def _day(text: str | None) -> datetime | None:
    """A date, or a moment; without a zone it counts as UTC."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--date {text!r} is no date; give one such as 2017-09-08.") from error
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _password(name: str, from_stdin: bool) -> str:
    """A password from a prompt, twice, or one line of standard input: never from an argument."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise UsageError(
            "There is no terminal to ask for the password. Give it as one line of standard input with "
            "--password-stdin."
        )
    first = getpass.getpass(f"Password of {name}: ")
    if getpass.getpass("Once more: ") != first:
        raise UsageError("The two passwords differ.")
    return first


class _Told:
    """Progress on standard error, from the first step on."""

    def __init__(self, arguments: Mapping[str, Any], noun: str) -> None:
        self._quiet, self._noun = bool(arguments["as_json"]), noun
        self._progress: Any = None

    def __enter__(self) -> _Told:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._progress is not None:
            self._progress.__exit__(*error)

    def tell(self, done: int, of: int) -> None:
        """So many of so many are done."""
        if self._progress is None:
            from ..progress import RunProgress

            self._progress = RunProgress(of, quiet=self._quiet, noun=self._noun)
            self._progress.__enter__()
        while self._progress.done < done:
            self._progress.advance(0)
