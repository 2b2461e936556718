"""What the app's page loads is what its source says: built again, it is the same to the byte."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "web/static"
MOST_BYTES = 600_000
UNREACHABLE = ("ENOTFOUND", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EAI_AGAIN", "ENOTCACHED")


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_the_built_app_is_what_its_source_gives(tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    app = tmp_path / "web/app"
    shutil.copytree(ROOT / "web/app", app, ignore=shutil.ignore_patterns("node_modules"))
    installed = subprocess.run([npm, "ci"], cwd=app, capture_output=True, text=True)
    if installed.returncode and any(sign in installed.stderr for sign in UNREACHABLE):
        pytest.skip(f"npm cannot reach its packages: {installed.stderr[-300:]}")
    assert not installed.returncode, installed.stderr
    built = subprocess.run([npm, "run", "build"], cwd=app, capture_output=True, text=True)
    assert not built.returncode, built.stdout + built.stderr
    made = files(tmp_path / "web/static")
    assert sorted(made) == sorted(files(STATIC)), "run make web"
    assert made == files(STATIC), "run make web"


def test_the_page_holds_no_script_and_no_style_and_loads_nothing_from_elsewhere() -> None:
    page = (STATIC / "index.html").read_text()
    assert re.findall(r"<script[^>]*>([^<]*)</script>", page) == [""]
    assert "<style" not in page
    assert not re.search(r"\son[a-z]+=|\sstyle=", page)
    named = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(named) == 3
    for name in named:
        assert name.startswith("./assets/")
        assert (STATIC / name).is_file()


def test_the_app_is_small_and_its_libraries_licences_are_kept() -> None:
    assert sum(map(len, files(STATIC).values())) < MOST_BYTES
    text = (STATIC / "licenses.txt").read_text()
    for library in ("ol - ", "rbush - ", "quickselect - "):
        assert f"## {library}" in text


def test_the_lock_names_no_server() -> None:
    assert '"resolved"' not in (ROOT / "web/app/package-lock.json").read_text()
