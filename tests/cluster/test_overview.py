"""All the work in some folders: what is found, in which order, and what is left alone."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from aftermap.cluster.folder import RunFolder
from aftermap.cluster.regions.folder import RegionFolder, SceneState
from aftermap.cluster.status.overview import MOST_FOLDERS, overview
from aftermap.scenes.holding import watched


def _run(path: Path, state: str, at: int, chunks: int = 4) -> None:
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"state": state, "plan": {"chunks": chunks}}))
    os.utime(path, (at, at))


def test_work_is_found_in_folders_and_in_theirs(tmp_path: Path) -> None:
    _run(tmp_path / "old", "done", 1_000)
    _run(tmp_path / "out" / "town", "quarantined", 3_000)
    _run(tmp_path / "out" / "deep" / "er" / "still", "done", 9_000)
    _run(tmp_path / ".hidden", "done", 9_000)
    _run(tmp_path / "catalog" / "run", "done", 9_000)
    region = RegionFolder(tmp_path / "region")
    region.make()
    region.write_state(SceneState("a", "done", {}, ""))
    region.write_state(SceneState("b", "failed", {}, "no overlap"))
    os.utime(tmp_path / "region", (2_000, 2_000))
    found = overview([tmp_path], except_in=tmp_path / "catalog")
    assert [(work.name, work.kind, work.state, work.progress) for work in found] == [
        ("out/town", "run", "quarantined", 0.0),
        ("region", "region", "stopped", 1.0),
        ("old", "run", "done", 0.0),
    ]
    assert "b: failed, no overlap" in found[1].told
    assert str(tmp_path) not in "".join(work.told for work in found)
    (itself,) = overview([tmp_path / "old", tmp_path / "old"])
    assert itself.name == "old"


def test_what_runs_comes_first_with_its_dashboard(tmp_path: Path) -> None:
    _run(tmp_path / "new", "done", 2_000_000_000)
    _run(tmp_path / "live", "running", 1_000)
    folder = RunFolder(tmp_path / "live")
    with folder.locked():
        watched(folder.path, "http://127.0.0.1:8787/status")
        first, second = overview([tmp_path])
        assert (first.name, first.running, second.running) == ("live", True, False)
        assert first.dashboard == "http://127.0.0.1:8787/status"
        owner = json.loads((tmp_path / "live" / ".owner").read_text())
        assert (owner["pid"], owner["host"]) == (os.getpid(), socket.gethostname())
        (tmp_path / "live" / ".owner").write_text(json.dumps(owner | {"host": "node7"}))
        there = overview([tmp_path])[0].dashboard
        assert there == ("http://127.0.0.1:8787/status (after ssh -L 8787:127.0.0.1:8787 node7)")
    assert [work.dashboard for work in overview([tmp_path])] == [None, None]


def test_of_paths_the_last_name_is_told(tmp_path: Path) -> None:
    _run(tmp_path / "town", "done", 1_000)
    record = {
        "state": "done",
        "plan": {"chunks": 4},
        "notes": [f"{tmp_path}/deep/before.tif and /srv/data/after.tif are 3 px apart"],
        "quarantined": [{"chunk": [0, 1], "reason": f"OSError: {tmp_path}/before.tif: torn"}],
    }
    (tmp_path / "town" / "run.json").write_text(json.dumps(record))
    (work,) = overview([tmp_path])
    assert "note       before.tif and after.tif are 3 px apart" in work.told
    assert "OSError: before.tif: torn" in work.told
    assert "/" not in work.told


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "null",
        "[" * 100_000,
        '{"plan": {"chunks": 1e999}}',
        '{"plan": 3}',
        '{"plan": {"chunks": "x"}}',
    ],
)
def test_what_is_not_ours_is_left_out(tmp_path: Path, content: str) -> None:
    for name in ("run.json", "search.json", "study.json", "gallery.json", "chips.json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(content)
    (tmp_path / "project" / "scenes").mkdir(parents=True)
    _run(tmp_path / "project" / "out", "done", 1_000)
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "state.safetensors").write_bytes(b"\xff" * 64)
    found = {work.name for work in overview([tmp_path])}
    assert "project" not in found
    assert "project/out" in found


def test_a_folder_of_many_is_not_read_whole(tmp_path: Path) -> None:
    for number in range(MOST_FOLDERS + 20):
        _run(tmp_path / f"{number:04}", "done", number)
    assert len(overview([tmp_path])) == MOST_FOLDERS - 1
