"""The wheel holds the tree, names load lazily, and the command line says what it can do."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import aftermap as am
from aftermap import cli

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {"scenes", "models", "kernels", "cluster", "web"}


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_tree(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            tmp_path,
            tree,
        ],
        check=True,
    )
    with zipfile.ZipFile(next(tmp_path.glob("aftermap-*.whl"))) as wheel:
        packed = {n.removeprefix("aftermap/") for n in wheel.namelist() if ".dist-info/" not in n}
    expected = {
        str(path.relative_to(tree))
        for room in ROOMS
        for path in (tree / room).rglob("*")
        if path.is_file()
        and path.suffix != ".pyc"
        and not any(path.is_relative_to(tree / "web" / sources) for sources in ("report", "app"))
    } | {path.name for path in (tree / "src/aftermap").iterdir() if path.is_file()}
    assert packed == expected


def test_every_package_with_code_is_listed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {
        f"aftermap.{path.parent.relative_to(ROOT)}".replace("/", ".")
        for room in ROOMS
        for path in (ROOT / room).rglob("__init__.py")
    }
    assert found | {"aftermap"} == set(settings["packages"])


def test_importing_aftermap_does_not_import_torch() -> None:
    code = "import sys, aftermap, aftermap.cli; print('torch' in sys.modules, 'distributed' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_scenes_work_without_torch_and_distributed() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['distributed'] = None\n"
        "import aftermap.scenes.open, aftermap.scenes.store, aftermap.scenes.cog, aftermap.scenes.synth"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there() -> None:
    for name in am.__all__:
        assert getattr(am, name) is not None
    assert callable(am.cluster.connect)
    assert callable(am.models.build)
    assert callable(am.models.metrics.xview2_score)
    assert callable(am.models.losses.lovasz_softmax)
    with pytest.raises(AttributeError, match="no attribute 'asess'"):
        am.asess  # noqa: B018


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["aftermap", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


@pytest.mark.parametrize("command", ["assess", "plan", "train", "synth", "demo", "doctor"])
def test_every_command_explains_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert run(monkeypatch, command, "--help") == 0
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [("asess",), ("assess",), ("assess", "a.tif", "--colour"), ("synth", "f", "--size", "big")],
)
def test_commands_that_make_no_sense_exit_with_2(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    assert run(monkeypatch, *arguments) == 2


def test_doctor_speaks_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "doctor", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["torch"]
    assert "method fc-siam-diff" in found


def test_a_plan_shows_the_figures_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pair_files: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    assert (
        run(
            monkeypatch,
            "plan",
            *map(str, pair_files),
            "-o",
            str(out),
            "--method",
            "difference",
            "--json",
        )
        == 0
    )
    plan = json.loads(capsys.readouterr().out)
    assert (plan["width"], plan["height"]) == (900, 700)
    assert plan["peak_bytes_per_worker"] < plan["memory_limit_per_worker"]
    assert plan["estimated_seconds"] > 0
    assert (
        run(
            monkeypatch,
            "assess",
            *map(str, pair_files),
            "-o",
            str(out),
            "--method",
            "difference",
            "--dry-run",
        )
        == 0
    )
    assert "chunks" in capsys.readouterr().out
    assert not out.exists()
