"""How far a run is, asked of real runs: one that lives, one that was killed, one that is done."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from aftermap.cluster.regions.folder import RegionFolder, SceneState
from aftermap.cluster.status import RegionStatus, RunStatus, TrainingStatus, clock, status
from aftermap.models.recipes import TrainConfig
from aftermap.models.state import NAME, Progress, save_state
from aftermap.models.training import train
from aftermap.scenes.errors import Refused
from holders import holder
from rasters import texture, write_raster
from slow_run import begin, wait_for_chunks
from typer.testing import CliRunner

import aftermap as am
from aftermap.cli import app


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("images")
    pre = texture(1500, 1500)
    post = pre.copy()
    post[:, 600:700, 600:700] = 255 - post[:, 600:700, 600:700]
    return write_raster(folder / "pre.tif", pre), write_raster(folder / "post.tif", post)


@pytest.fixture(scope="module")
def killed(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that died of SIGKILL; what it said while it lived is beside it."""
    out = tmp_path_factory.mktemp("runs") / "run"
    process = begin(files, out, 2.0)
    try:
        wait_for_chunks(out, 3)
        alive = status(out)
        assert isinstance(alive, RunStatus)
        (out.parent / "alive.json").write_text(
            json.dumps([alive.text(), alive.state, alive.running, alive.seconds_left, process.pid])
        )
        before = snapshot(out)
        status(out)
        assert {name: before[name] for name in ("run.json", ".owner")} == {
            name: snapshot(out)[name] for name in ("run.json", ".owner")
        }
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return out


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
    }


def test_a_running_run_tells_rate_and_who_holds_it(killed: Path) -> None:
    text, state, running, left, pid = json.loads((killed.parent / "alive.json").read_text())
    assert (state, running) == ("running", True)
    assert f"process {pid} on {socket.gethostname()}" in text
    assert "of 9" in text
    assert re.search(r"^dashboard  http://127.0.0.1:\d+/status$", text, re.MULTILINE)
    # Chunks of two seconds, one at a time, of which six or five are left.
    assert 4 < left < 60


def test_a_killed_run_is_stopped_and_reading_changes_nothing(killed: Path) -> None:
    before = snapshot(killed)
    found = status(killed)
    assert isinstance(found, RunStatus)
    assert (found.state, found.running, found.chunks) == ("stopped", False, 9)
    assert 3 <= found.done < 9
    assert found.seconds_left is None
    assert "left by process" in found.text()
    assert "Run the same command again" in found.text()
    assert snapshot(killed) == before


def test_a_run_that_is_gone_on_with_counts_from_where_it_was(
    killed: Path, files: tuple[Path, Path]
) -> None:
    process = begin(files, killed, 0.0)
    assert process.wait(120) == 0
    found = status(killed)
    assert isinstance(found, RunStatus)
    assert (found.state, found.done, found.chunks, found.attempts) == ("done", 9, 9, 2)
    assert found.holder is None
    assert am.Run(killed).record["state"] == "done"


def test_a_lock_file_that_nobody_holds_says_nothing(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / "run.json").write_text(json.dumps({"state": "running", "plan": {"chunks": 4}}))
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": "2026-02-06 04:17:00"}
    (tmp_path / ".owner").write_text(json.dumps(owner))
    found = status(tmp_path)
    assert isinstance(found, RunStatus)
    assert (found.state, found.done, found.chunks) == ("stopped", 0, 4)


def test_a_run_on_another_host_is_told_by_its_lock(tmp_path: Path) -> None:
    """The other host is played by another process of this one that holds the lock for real."""
    (tmp_path / "run.json").write_text(json.dumps({"state": "running", "plan": {"chunks": 4}}))
    owner = {"host": "node-17", "pid": 4242, "since": "2026-02-06 04:17:00"}
    (tmp_path / ".owner").write_text(json.dumps(owner))
    code = (
        "import sys, time; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]):\n    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / ".lock")], stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        found = status(tmp_path)
        assert isinstance(found, RunStatus)
        assert found.state == "running"
        assert "process 4242 on node-17" in found.text()
    finally:
        holder.kill()
        holder.wait()
    assert status(tmp_path).running is False


def test_quarantined_chunks_and_notes_are_told(tmp_path: Path) -> None:
    entry = {"chunk": [0, 1], "rows": [0, 512], "cols": [512, 900], "reason": "OSError: torn tile"}
    record = {
        "state": "quarantined", "plan": {"chunks": 2, "chunk_px": 512}, "quarantined": [entry],
        "notes": ["first", "The images are shifted by 7 px."], "attempts": 1,
    }  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(record))
    text = status(tmp_path).text()
    assert "set aside  chunk [0, 1]: OSError: torn tile" in text
    assert "note       The images are shifted by 7 px." in text


def test_a_region_counts_its_scenes(tmp_path: Path) -> None:
    folder = RegionFolder(tmp_path)
    folder.make()
    for name, state, reason in (
        ("a", "done", ""), ("b", "done", ""), ("c", "failed", "no overlap"), ("d", "running", "")
    ):  # fmt: skip
        folder.write_state(SceneState(name, state, {}, reason))
    run = folder.run("d").path
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"state": "running", "plan": {"chunks": 4}}))
    before = snapshot(tmp_path)
    found = status(tmp_path)
    assert isinstance(found, RegionStatus)
    assert found.counts == {"done": 2, "failed": 1, "stopped": 1}
    assert found.scenes == 4
    assert "c: failed, no overlap" in found.text()
    assert "d: stopped, 0/4 chunks" in found.text()
    assert snapshot(tmp_path) == before


def test_a_training_tells_its_epochs(tmp_path: Path) -> None:
    config = TrainConfig(out=str(tmp_path), epochs=12)
    network = torch.nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(network.parameters())
    save_state(config, network, optimizer, {}, Progress(epoch=3, best=0.25, best_epoch=2))
    found = status(tmp_path)
    assert isinstance(found, TrainingStatus)
    assert (found.done, found.epochs, found.state) == (3, 12, "stopped")
    assert "epochs     3 of 12, best score 0.2500" in found.text()
    assert "Run the same command again" in found.text()
    save_state(config, network, optimizer, {}, Progress(epoch=12, best=0.25, best_epoch=2))
    assert status(tmp_path).state == "done"
    patient = TrainConfig(out=str(tmp_path), epochs=12, patience=5)
    for epoch, state in ((6, "stopped"), (7, "done")):
        save_state(patient, network, optimizer, {}, Progress(epoch=epoch, best_epoch=2))
        assert status(tmp_path).state == state


def test_a_training_is_told_from_its_first_epoch_on_and_kept_from_another(tmp_path: Path) -> None:
    out = tmp_path / "trained"
    config = TrainConfig(out=str(out), epochs=12)
    with holder(out, "training") as process:
        found = status(out)
        assert isinstance(found, TrainingStatus)
        assert (found.running, found.epochs) == (True, 0)
        assert f"running, process {process.pid} on" in found.text()
        network = torch.nn.Linear(1, 1)
        save_state(config, network, torch.optim.AdamW(network.parameters()), {}, Progress(epoch=3))
        assert (status(out).running, status(out).progress) == (True, 0.25)
        with pytest.raises(Refused, match="in use by another training"):
            train(config, fresh=True)
    killed = status(out)
    assert (killed.state, killed.progress) == ("stopped", 0.25)
    assert f"stopped, left by process {process.pid}" in killed.text()


def test_where_there_is_no_run_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="holds no run"):
        status(tmp_path)
    with pytest.raises(Refused, match="holds no run"):
        status(tmp_path / "nowhere")


def test_the_command_prints_text_or_json(killed: Path) -> None:
    shown = CliRunner().invoke(app, ["status", str(killed)])
    assert shown.exit_code == 0
    assert "chunks " in shown.output
    told = json.loads(CliRunner().invoke(app, ["status", str(killed), "--json"]).output)
    assert told["chunks"] == 9
    watched = CliRunner().invoke(app, ["status", str(killed), "--watch"])
    assert watched.exit_code == 0, "it ends when nothing runs any more"


def test_status_does_not_wait_for_torch() -> None:
    code = "import sys, aftermap.cluster.status as s; print('torch' in sys.modules, s.STATE)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert told.split() == ["False", NAME]


def test_clock() -> None:
    assert [clock(s) for s in (5, 65.4, 3725)] == ["0:05", "1:05", "1:02:05"]
