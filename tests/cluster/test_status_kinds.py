"""How far galleries, chips, searches and studies are, asked of folders that these made themselves."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from aftermap.cluster.chips.folder import ChipsFolder
from aftermap.cluster.experiment import begin, plain
from aftermap.cluster.gallery.gallery import gallery
from aftermap.cluster.status import (
    ChipsStatus,
    GalleryStatus,
    SearchStatus,
    StudyStatus,
    experiment,
    status,
)
from aftermap.cluster.status import (
    gallery as galleries,
)
from aftermap.cluster.studies.paper import Asked
from aftermap.cluster.studies.study import FILES, STUDIES
from aftermap.cluster.tune import _SEARCH, tune
from aftermap.models.recipes import TrainConfig
from aftermap.models.state import Progress, save_state
from aftermap.scenes.errors import Refused
from chips_made import square, write_chips
from holders import holder
from PIL import Image
from rasters import texture
from scored import scored
from typer.testing import CliRunner

from aftermap.cli import app

SIDE, PHOTOS = 32, 70

SLOW = (
    "import sys, time, aftermap.cluster.gallery.scores as scores\n"
    "whole = scores._scores\n"
    "def slow(*a):\n    time.sleep(1); return whole(*a)\n"
    "scores._scores = slow\n"
    "from aftermap.cluster.gallery.gallery import gallery\n"
    "gallery(*sys.argv[1:4], device='cpu')\n"
)
"""The real gallery, of photos that take as long as large ones would."""


def snapshot(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def training(folder: Path, done: int, epochs: int) -> None:
    """The state of a training after some epochs."""
    folder.mkdir(parents=True)
    network = torch.nn.Linear(1, 1)
    config = TrainConfig(out=str(folder), epochs=epochs)
    save_state(config, network, torch.optim.AdamW(network.parameters()), {}, Progress(epoch=done))


@pytest.mark.slow
def test_a_gallery_from_its_beginning_over_a_kill_to_its_end(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number in range(PHOTOS):
        pixels = texture(SIDE, SIDE, number).transpose(1, 2, 0)
        Image.fromarray(pixels).save(photos / f"{number}.png")
    (photos / "broken.jpg").write_bytes(b"no photo")
    weights = scored(tmp_path, "deep-disaster", texture(3 * SIDE, 3 * SIDE))
    words = [sys.executable, "-c", SLOW, *map(str, (photos, weights, out))]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 90
        while len(list((out / "scores").glob("[!.]*.csv"))) < 2:
            assert time.monotonic() < until
            time.sleep(0.02)
        alive = status(out)
        assert isinstance(alive, GalleryStatus)
        assert (alive.state, alive.running, alive.photos) == ("running", True, PHOTOS + 1)
        assert f"process {process.pid} on" in alive.text()
        assert alive.scored in (32, 48)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = snapshot(out)
    killed = status(out)
    assert isinstance(killed, GalleryStatus)
    assert (killed.state, killed.running) == ("stopped", False)
    assert 32 <= killed.scored < PHOTOS
    assert f"scored     {killed.scored} of {PHOTOS + 1}" in killed.text()
    assert "Run the same command again" in killed.text()
    assert snapshot(out) == before
    gallery(photos, weights, out, device="cpu")
    done = status(out)
    assert isinstance(done, GalleryStatus)
    assert (done.state, done.scored, done.photos, done.unreadable) == ("done", PHOTOS, PHOTOS, 1)
    assert "gallery.html" in done.text()
    told = json.loads(CliRunner().invoke(app, ["status", str(out), "--json"]).output)
    assert (told["state"], told["running"], told["scored"]) == ("done", False, PHOTOS)


def test_a_search(tmp_path: Path) -> None:
    chips = write_chips(tmp_path / "chips", [square(32, np.s_[8:20], np.s_[8:20])] * 20)
    out = tmp_path / "search"
    shared = {"data": (str(chips),), "epochs": 1, "steps": 1, "chip": 32, "core": 512}
    tuned = tune(shared, out, trials=3, cluster="threads", workers=1)
    done = status(out)
    assert isinstance(done, SearchStatus)
    assert (done.state, done.over, done.failed, done.active) == ("done", 3, 0, ())
    assert done.best == (tuned.trials[0].number, tuned.trials[0].score)
    assert f"best       {tuned.trials[0].score:.4f} (trial {done.best[0]})" in done.text()
    # As a kill leaves it: one trial without a result, another one under way.
    (out / "trials" / "0002" / "result.json").unlink()
    training(out / "trials" / "0003", 4, 10)
    before = snapshot(out)
    stopped = status(out)
    assert isinstance(stopped, SearchStatus)
    assert (stopped.state, stopped.running, stopped.over) == ("stopped", False, 2)
    assert "trials/0003: 4 of 10" in stopped.text()
    assert "Run the same command again" in stopped.text()
    assert snapshot(out) == before
    with holder(out, "search"):
        assert status(out).state == "running"
        with pytest.raises(Refused, match="in use by another search"):
            tune(shared, out, trials=3, cluster="threads", workers=1)
    failed = json.loads((out / "trials" / "0001" / "result.json").read_text()) | {"score": None}
    (out / "trials" / "0001" / "result.json").write_text(json.dumps(failed))
    assert "2 over, 1 of them failed" in status(out).text()


@pytest.mark.parametrize("name", STUDIES)
def test_a_study(name: str, tmp_path: Path) -> None:
    """Its folder is laid out by the study's own tasks, whose outcomes are not computed here."""
    out = tmp_path / "study"
    tasks = STUDIES[name](Asked(out.absolute(), 2, {}, {})).tasks
    begin(out, FILES[0], plain({"study": name, "settings": {}, "seeds": 2}))
    (out / "scenes").mkdir()  # where synthetic scenes are kept
    training(tasks[-1].folder / "network", 3, 12)
    for task in tasks[:-1]:
        task.kept.parent.mkdir(parents=True)
        task.kept.write_text("{}")
    found = status(out)
    assert isinstance(found, StudyStatus)
    assert (found.name, found.state, found.seeds) == (name, "stopped", 2)
    assert (found.tasks, found.done) == (len(tasks), len(tasks) - 1)
    assert f"tasks      {len(tasks) - 1} of {len(tasks)}" in found.text()
    assert "/network: 3 of 12" in found.text()
    assert f"aftermap study {name} ..." in found.text()
    tasks[-1].kept.write_text("{}")
    assert status(out).state == "stopped", "its page is written last"
    (out / FILES[1]).write_text("<!doctype html>")
    done = status(out)
    assert isinstance(done, StudyStatus)
    assert (done.state, done.running, done.active) == ("done", False, ())
    told = json.loads(CliRunner().invoke(app, ["status", str(out), "--json"]).output)
    assert (told["done"], told["tasks"]) == (len(tasks), len(tasks))


def test_a_study_of_another_version_is_told_without_its_number_of_tasks(tmp_path: Path) -> None:
    begin(tmp_path, FILES[0], {"study": "lisbon", "settings": {}, "seeds": 1})
    found = status(tmp_path)
    assert isinstance(found, StudyStatus)
    assert "tasks      0 of an unknown number" in found.text()


def test_chips(tmp_path: Path) -> None:
    folder = ChipsFolder(tmp_path / "chips")
    with folder.locked():
        record = folder.begin({"size": 256}, fresh=False)
        folder.write(record | {"attempts": 1})
        (folder.screens).mkdir()
        (folder.screens / "a.json").write_text("{}")
        alive = status(folder.path)
        assert isinstance(alive, ChipsStatus)
        assert (alive.state, alive.step, alive.screened) == ("running", "screening", 1)
    assert "stopped, screening" in status(folder.path).text()
    folder.write(record | {"plan": "abc"})
    assert "stopped, writing" in status(folder.path).text()
    folder.write(record | {"plan": "abc", "state": "done"})
    assert status(folder.path).text().splitlines()[1] == "state      done"


def test_names_are_those_of_who_writes_them() -> None:
    assert (experiment.SEARCH, (experiment.STUDY, experiment.PAGE)) == (_SEARCH, FILES)
    assert galleries._Chips(Path("x")).record == ChipsFolder(Path("x")).record


def test_folders_of_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes-student").mkdir()
    (tmp_path / "letter.txt").write_text("dear")
    for folder in (tmp_path, tmp_path / "notes-student", tmp_path / "notes"):
        with pytest.raises(Refused, match="no gallery, no chips, no search and no study"):
            status(folder)
    shutil.rmtree(tmp_path / "notes-student")
