"""The run folder: one holder, one set of facts, nothing foreign touched."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aftermap.cluster.folder import RunFolder
from aftermap.scenes.errors import Refused

FACTS = {"method": {"name": "a"}, "window": {"halo_px": 16}}


def test_a_second_run_is_refused_while_the_first_lives_and_not_after_it_is_killed(
    tmp_path: Path,
) -> None:
    code = (
        "import sys, time; from pathlib import Path; from aftermap.cluster.folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).locked():\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Refused, match=f"process {holder.pid}"), RunFolder(tmp_path).locked():
            pass
    finally:
        holder.kill()
        holder.wait()
    deadline = time.monotonic() + 10
    with RunFolder(tmp_path).locked():
        assert time.monotonic() < deadline


def test_other_facts_are_refused_with_what_changed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write(folder.begin(FACTS, fresh=False))
    assert folder.begin(FACTS, fresh=False)["facts"] == FACTS
    with pytest.raises(Refused, match=r"window.halo_px: was 16, now 32.*|--fresh"):
        folder.begin(FACTS | {"window": {"halo_px": 32}}, fresh=False)
    assert folder.begin(FACTS | {"window": {"halo_px": 32}}, fresh=True)["attempts"] == 0


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(Refused, match=r"thesis\.doc"):
        RunFolder(tmp_path).begin(FACTS, fresh=False)
    with pytest.raises(Refused, match=r"thesis\.doc"):
        RunFolder(tmp_path).begin(FACTS, fresh=True)
    assert (tmp_path / "thesis.doc").exists()


def test_fresh_removes_only_what_a_run_made(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write(folder.begin(FACTS, fresh=False))
    (tmp_path / "layers.zarr/damage").mkdir(parents=True)
    (tmp_path / "damage.tif").write_bytes(b"")
    (tmp_path / "mine.tif").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("keep")
    folder.clear()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.tif", "notes.txt"]


def test_a_refusal_leaves_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), RunFolder(tmp_path / "run").locked():
        raise RuntimeError
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(Refused, match="cannot be written"),
        RunFolder(tmp_path / "file" / "run").locked(),
    ):
        pass
    if os.geteuid() != 0:
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(Refused, match="-o"), RunFolder(tmp_path / "closed" / "run").locked():
            pass


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"facts": ')
    with pytest.raises(Refused, match="cannot be read"):
        RunFolder(tmp_path).begin(FACTS, fresh=False)
