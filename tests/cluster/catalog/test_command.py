"""`aftermap catalog`: every command, its exit code, and what it says."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from aftermap.cluster.catalog import command, listing
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.labels import latest
from aftermap.cluster.catalog.people import known_user
from aftermap.cluster.catalog.runs import Judged, add_review
from aftermap.cluster.catalog.tables import Chip, Scene, User
from aftermap.cluster.catalog.tagging import Said, add_tag
from aftermap.models.checkpoint import bundled
from aftermap.scenes.errors import Refused, UsageError
from PIL import Image
from rasters import texture, write_raster
from runs import buildings, finished_run
from typer.testing import CliRunner, Result

from aftermap.catalog_command import catalog_app

Call = Callable[..., Result]


@pytest.fixture(autouse=True)
def _no_other_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AFTERMAP_CATALOG", "AFTERMAP_DATABASE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls a command in a folder of its own; failures told in words are raised."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object, stdin: str | None = None) -> Result:
        done = CliRunner().invoke(catalog_app, [str(word) for word in words], input=stdin)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return run


def _json(done: Result) -> Any:
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def filled(call: Call, tmp_path: Path) -> str:
    """A catalog with one of everything; the id of its newest tag."""
    write_raster(tmp_path / "before.tif", texture(200, 200))
    write_raster(tmp_path / "after.tif", texture(200, 200, 1))
    finished_run(tmp_path / "run", buildings())
    call("add", "before.tif", "run", str(bundled("fc-siam-diff")))
    call("add", "after.tif", "--before", "before.tif", "--town", "Unión", "--date", "2017-09-09")
    with_password = "a long password\n"
    call("user", "ana", "--role", "reviewer", "--password-stdin", stdin=with_password)
    catalog = Catalog.open(tmp_path / "catalog")
    with catalog.reading() as session:
        ana = session.query(User).filter_by(name="ana").one()
        labels = latest(session, "damage")
        scene = session.query(Scene).filter_by(name="after.tif").one()
    first = add_tag(
        catalog, ana, Said(labels.id, "damage", str(uuid.uuid4()), scene.id, (0, 0, 64))
    )
    newest = str(uuid.uuid4())
    add_tag(catalog, ana, Said(labels.id, "no-damage", newest, replaces=first.id))
    add_review(catalog, ana, 1, Judged(str(uuid.uuid4()), "a-1", "accepted", predicted=3))
    catalog.close()
    return newest


COMMANDS = ("add", "list", "show", "export", "import", "verify", "user", "labels")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(call: Call, name: str) -> None:
    done = call(name, "--help")
    assert done.exit_code == 0
    assert "Example" in done.output
    assert "--catalog" in done.output


def test_the_commands_are_these() -> None:
    assert tuple(typer.main.get_command(catalog_app).commands) == COMMANDS  # type: ignore[attr-defined]


def test_images_are_added_once(call: Call, tmp_path: Path) -> None:
    write_raster(tmp_path / "town.tif", texture(100, 100))
    done = call("add", "town.tif", "--event", "Chiapas 2017")
    assert (done.exit_code, done.stdout) == (0, "new        scene 1: town.tif\n")
    assert call("add", "town.tif").stdout == "known      scene 1: town.tif\n"
    (row,) = _json(call("list", "scenes", "--json"))
    assert (row["event"], row["width"]) == ("Chiapas 2017", 100)


def test_what_is_no_image_in_a_folder_is_told(call: Call, tmp_path: Path) -> None:
    (tmp_path / "flight").mkdir()
    Image.new("RGB", (64, 64), "red").save(tmp_path / "flight/1.png")
    (tmp_path / "flight/2.png").write_bytes(b"nothing")
    done = call("add", "flight", "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, len(told["new"]), len(told["unreadable"])) == (4, 1, 1)
    assert "2.png" in call("add", "flight").stdout


@pytest.mark.parametrize(
    ("words", "error", "match"),
    [
        (("add", "none.tif"), Refused, "There is no file"),
        (("add", "https://example.org/exportImage?x=1"), Refused, "--allow-remote"),
        (("add", "town.tif", "--before", "none"), Refused, "no image 'none'"),
        (("add", "town.tif", "--date", "yesterday"), UsageError, "2017-09-08"),
        (("add", "none.safetensors"), Refused, "none.safetensors"),
        (("list", "scenes"), Refused, "There is no catalog"),
        (("list", "dogs"), UsageError, "scenes, tags, chips"),
        (("verify",), Refused, "There is no catalog"),
        (("export", "--to", "csv", "-o", "x.csv"), Refused, "There is no catalog"),
        (("import", "none.csv"), Refused, "There is no file"),
        (("user", "ana"), UsageError, "--role"),
        (("user", "ana", "--role", "admin", "--deactivate"), UsageError, "leave out --role"),
        (("user", "ana", "--role", "admin"), UsageError, "--password-stdin"),
        (("user", "ana", "--deactivate"), Refused, "There is no catalog"),
        (("labels", "roofs", "none.json"), Refused, "cannot be read"),
        (("list", "scenes", "--database", "mysql://x/y"), Refused, "no catalog"),
    ],
)
def test_what_cannot_be_done_is_told(
    call: Call, tmp_path: Path, words: tuple[str, ...], error: type[Exception], match: str
) -> None:
    write_raster(tmp_path / "town.tif", texture(100, 100))
    with pytest.raises(error, match=match):
        call(*words)


@pytest.mark.parametrize(
    "words",
    [
        ("add",),
        ("list", "--limit", "0"),
        ("show", "scene"),
        ("export", "--to", "csv"),
        ("nothing",),
    ],
)
def test_what_is_no_command_ends_with_2(call: Call, words: tuple[str, ...]) -> None:
    assert call(*words).exit_code == 2


@pytest.mark.parametrize(
    ("what", "column", "values"),
    [
        ("scenes", "name", ["before.tif", "after.tif"]),
        ("tags", "label", ["no-damage"]),
        ("chips", "side", [64]),
        ("models", "method", ["fc-siam-diff"]),
        ("runs", "scene", [None]),
        ("reviews", "verdict", ["accepted"]),
        ("labels", "name", ["damage", "levels"]),
        ("audit", "action", ["review", "retag", "tag", "user", "add", "add", "add", "add"]),
    ],
)
def test_everything_is_listed(
    call: Call, filled: str, what: str, column: str, values: list[object]
) -> None:
    assert [row[column] for row in _json(call("list", what, "--json"))] == values
    lines = call("list", what).stdout.splitlines()
    assert len(lines) == 1 + len(values)
    assert lines[0].split()[0] in _json(call("list", what, "--json"))[0]
    assert len(_json(call("list", what, "--json", "--limit", 1))) == 1


def test_what_is_not_named_are_scenes(call: Call, filled: str) -> None:
    assert call("list").stdout == call("list", "scenes").stdout != ""


def test_users_are_listed_without_their_passwords(call: Call, filled: str) -> None:
    rows = {row["name"]: row for row in _json(call("list", "users", "--json"))}
    assert (rows["ana"]["role"], rows["ana"]["can_log_in"]) == ("reviewer", True)
    assert "argon2" not in call("list", "users").stdout + call("list", "audit").stdout


def test_what_is_said_is_shown(call: Call, filled: str) -> None:
    tag = _json(call("show", "tag", filled, "--json"))
    assert (tag["label"], [one["label"] for one in tag["history"]]) == ("no-damage", ["damage"])
    assert tag["chip"]["square"] == [0, 0, 64]
    scene = _json(call("show", "scene", "after.tif", "--json"))
    assert (scene["town"], scene["before_id"], scene["tags"]) == ("Unión", 1, {"no-damage": 1})
    assert scene["taken_at"].startswith("2017-09-09")
    model = _json(call("show", "model", "1", "--json"))
    assert (model["method"], model["learnt"]) == ("fc-siam-diff", [])
    run = _json(call("show", "run", "1", "--json"))
    assert (run["standing"], run["reviews"]) == ({"accepted": 1}, 1)
    assert "no-damage" in call("show", "tag", filled).stdout


@pytest.mark.parametrize("words", [("scene", "9"), ("tag", "9"), ("model", "9"), ("run", "9")])
def test_what_is_not_there_is_told(call: Call, filled: str, words: tuple[str, str]) -> None:
    with pytest.raises(Refused, match=f"no .*'{words[1]}'.*catalog list"):
        call("show", *words)
    with pytest.raises(UsageError, match="scene, tag, model, run"):
        call("show", "dog", "1")


def test_tags_go_out_and_come_back(call: Call, filled: str, tmp_path: Path) -> None:
    done = call("export", "--to", "csv", "-o", "x.csv")
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, "csv        x.csv: 1 tags")
    told = _json(call("import", "x.csv", "--as", "ben", "--json"))
    assert (told["new"], told["format"]) == (1, "csv")
    assert "0 new tags, 1 known" in call("import", "x.csv", "--as", "ben").stdout
    assert {row["user"] for row in _json(call("list", "tags", "--json"))} == {"ana", "ben"}
    assert _json(call("export", "--to", "xbd", "-o", "x", "--json"))["counts"]["buildings"] == 2
    with (tmp_path / "x.csv").open("a") as file:
        file.write("nothing\n")
    with pytest.raises(Refused, match="unknown label"):
        call("import", "x.csv")
    assert call("import", "x.csv", "--partly").exit_code == 4


def test_verify_tells_what_is_wrong_and_tidies(call: Call, filled: str, tmp_path: Path) -> None:
    assert "agree" in call("verify").stdout
    catalog = Catalog.open("catalog")
    with catalog.reading() as session:
        path = catalog.files.path(session.query(Chip).one().content)
    begun = catalog.folder / "files/.begun-x"
    begun.write_bytes(b"half")
    os.utime(begun, (0, 0))
    assert _json(call("verify", "--json"))["left_over"] == [".begun-x"]
    call("verify", "--tidy")
    assert _json(call("verify", "--json"))["left_over"] == []
    path.write_bytes(b"other")
    done = call("verify")
    assert (done.exit_code, "has been changed" in done.stdout) == (3, True)
    assert json.loads(call("verify", "--json").stdout)["agree"] is False
    catalog.close()


def _knows(name: str, password: str) -> bool:
    catalog = Catalog.open("catalog")
    with catalog.reading() as session:
        known = known_user(session, name, password) is not None
    catalog.close()
    return known


def test_users_come_and_go(call: Call) -> None:
    role = ("--role", "tagger", "--password-stdin")
    assert call("user", "ben", *role, stdin="a long password\n").exit_code == 0
    assert _knows("ben", "a long password")
    call("user", "ben", *role, stdin="another password\nno more\n")
    assert (_knows("ben", "a long password"), _knows("ben", "another password")) == (False, True)
    with pytest.raises(UsageError, match="10 characters"):
        call("user", "ben", *role, stdin="short\n")
    with pytest.raises(UsageError, match="no role 'king'"):
        call("user", "ben", "--role", "king", "--password-stdin", stdin="a long password\n")
    assert "cannot log in" in call("user", "ben", "--deactivate").stdout
    assert not _knows("ben", "another password")
    with pytest.raises(Refused, match="no user 'eve'"):
        call("user", "eve", "--deactivate")


def test_label_sets_get_versions(call: Call, tmp_path: Path) -> None:
    roofs = [{"name": "tarp", "key": "t"}, {"name": "tiles"}, {"name": "gone", "damaged": True}]
    (tmp_path / "roofs.json").write_text(json.dumps(roofs))
    assert _json(call("labels", "roofs", "roofs.json", "--json"))["version"] == 1
    assert _json(call("labels", "roofs", "roofs.json", "--json"))["version"] == 1
    (tmp_path / "roofs.json").write_text(json.dumps(roofs[:2]))
    assert "roofs version 2" in call("labels", "roofs", "roofs.json").stdout
    found = _json(call("labels", "roofs", "--json"))
    assert [label["name"] for label in found["labels"]] == ["tarp", "tiles"]
    assert len(call("labels").stdout.splitlines()) == 5
    with pytest.raises(Refused, match="no label set 'walls'"):
        call("labels", "walls")


def test_the_folder_is_told_once_for_all(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_raster(tmp_path / "town.tif", texture(100, 100))
    monkeypatch.setenv("AFTERMAP_CATALOG", str(tmp_path / "kept here"))
    call("add", "town.tif")
    assert (tmp_path / "kept here/catalog.db").is_file()
    assert len(_json(call("list", "scenes", "--json"))) == 1


def test_names_cannot_paint_on_the_terminal(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "\x1b[2J[bold]x.png")
    assert "\x1b" not in call("add", "\x1b[2J[bold]x.png").stdout
    rows = _json(call("list", "scenes", "--json"))
    assert "\x1b" not in call("list", "scenes").stdout + call("show", "scene", "1").stdout
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    listing.print_table("scenes", rows)
    assert "[bold]x.png" in capsys.readouterr().out


def test_progress_is_told_while_many_are_added(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with command._Told({"as_json": False}, "images") as told:
        told.tell(32, 40)
        told.tell(40, 40)
    assert "images 40/40" in capsys.readouterr().err


def _process(folder: Path, *words: str, **more: Any) -> subprocess.Popen[bytes]:
    """A command as a process of its own."""
    code = (
        "from aftermap.catalog_command import catalog_app; from aftermap.ending import carry_out; "
        "carry_out(catalog_app)"
    )
    return subprocess.Popen([sys.executable, "-c", code, *words], cwd=folder, **more)


def test_a_refusal_ends_the_process_with_3_in_words(tmp_path: Path) -> None:
    done = _process(tmp_path, "list", "scenes", stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    out, told = done.communicate(timeout=60)
    assert (done.returncode, out) == (3, b"")
    assert told.startswith(b"aftermap: There is no catalog in")
    assert b"Traceback" not in told


def test_the_password_is_asked_for_twice_and_not_shown(call: Call, tmp_path: Path) -> None:
    terminal, end = pty.openpty()
    process = _process(
        tmp_path, "user", "ana", "--role", "tagger",
        stdin=end, stdout=end, stderr=end, start_new_session=True,
    )  # fmt: skip
    os.close(end)
    shown = b""
    for prompt in (b"Password of ana:", b"Once more:"):
        while prompt not in shown:
            shown += os.read(terminal, 1024)
        os.write(terminal, b"a long password\n")
    assert process.wait(timeout=60) == 0
    assert b"a long password" not in shown
    os.close(terminal)
    assert _knows("ana", "a long password")
