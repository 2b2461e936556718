"""What the page runs is what its source says: built again, it is the same to the byte."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILT = ("report.js", "report.css", "report.licenses.txt")
UNREACHABLE = ("ENOTFOUND", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EAI_AGAIN", "ENOTCACHED")


@pytest.mark.slow
def test_the_built_page_is_what_its_source_gives(tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    page = tmp_path / "web" / "report"
    shutil.copytree(ROOT / "web/report", page, ignore=shutil.ignore_patterns("node_modules"))
    installed = subprocess.run([npm, "ci"], cwd=page, capture_output=True, text=True)
    if installed.returncode and any(sign in installed.stderr for sign in UNREACHABLE):
        pytest.skip(f"npm cannot reach its packages: {installed.stderr[-300:]}")
    assert not installed.returncode, installed.stderr
    built = subprocess.run([npm, "run", "build"], cwd=page, capture_output=True, text=True)
    assert not built.returncode, built.stdout + built.stderr
    for name in BUILT:
        made = (tmp_path / "cluster/templates" / name).read_bytes()
        assert made == (ROOT / "cluster/templates" / name).read_bytes(), f"run make web: {name}"


def test_every_bundled_library_s_licence_is_kept() -> None:
    text = (ROOT / "cluster/templates/report.licenses.txt").read_text()
    assert text.count("\n## ") == 3
    for library in ("ol - ", "rbush - ", "quickselect - "):
        assert f"## {library}" in text
    assert "Redistributions in binary form must reproduce the above copyright" in text
