"""A student that is fitted to a run's before image: what is refused leaves it alone, kills go on."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import torch
from aftermap.cluster.assess import assess
from aftermap.cluster.client import connected
from aftermap.cluster.status import RunStatus, TrainingStatus, status
from aftermap.models.adversarial import train_teacher
from aftermap.models.adversarial_recipe import AdversarialConfig
from aftermap.models.loop import silence
from aftermap.scenes.errors import AftermapError, NothingToAnalyse, Refused, UsageError
from distributed import Client
from rasters import UTM, texture, write_raster
from typer.testing import CliRunner

import aftermap as am
from aftermap.cli import app

SIDE = 16


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Trainings end with the same weights on the same number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Textures:
    """Undamaged ground, in squares."""

    def __len__(self) -> int:
        return 32

    def image(self, index: int) -> np.ndarray:
        return texture(SIDE, SIDE, index)

    def label(self, index: int) -> bool | None:
        return False


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("scene")
    ground = texture(130, 150, 5)
    after = ground.copy()
    after[:, 40:80, 50:90] = np.random.default_rng(0).integers(0, 256, (3, 40, 40))
    return write_raster(folder / "pre.tif", ground), write_raster(folder / "post.tif", after)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two that were trained with other seeds."""
    made = []
    for seed in range(2):
        out = tmp_path_factory.mktemp("teacher")
        config = AdversarialConfig(
            out=str(out), epochs=1, batch=16, width=4, side=SIDE, seed=seed,
            device="cpu",
        )  # fmt: skip
        made.append(train_teacher(config, Textures(), progress=silence))
    return made[0], made[1]


@pytest.fixture(scope="module")
def threads() -> Iterator[Client]:
    with connected("threads", workers=1) as client:
        yield client


def fit(files: tuple[Path, Path], out: Path, teacher: Path, client: Client, **asked: Any) -> am.Run:
    plain: dict[str, Any] = {"chunk": 48, "device": "cpu", "client": client}
    return assess(*files, out, "deep-disaster", fit="before", teacher=teacher, **(plain | asked))


@pytest.fixture(scope="module")
def done(
    files: tuple[Path, Path],
    teachers: tuple[Path, Path],
    threads: Client,
    tmp_path_factory: pytest.TempPathFactory,
) -> am.Run:
    return fit(files, tmp_path_factory.mktemp("runs") / "run", teachers[0], threads)


def student(run: Path) -> dict[str, tuple[str, int]]:
    """Digest and time of each file of a run's student."""
    folder = run.with_name(f"{run.name}-student")
    return {
        file.name: (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
        for file in folder.glob("[!.]*")
    }


def outputs(run: Path) -> dict[str, str]:
    """Digest of every file that resuming must not change."""
    free = {"run.json", "report.html", ".lock"}
    return {
        str(file.relative_to(run)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in run.rglob("*")
        if file.is_file() and file.name not in free
    }


def test_a_refused_call_leaves_the_student_alone(
    files: tuple[Path, Path],
    teachers: tuple[Path, Path],
    threads: Client,
    done: am.Run,
    tmp_path: Path,
) -> None:
    before, layers = student(done.path), outputs(done.path)
    assert {"deep-disaster.safetensors", "deep-disaster.json", "state.safetensors"} <= set(before)
    other = write_raster(tmp_path / "other.tif", texture(130, 150, 6))
    first, second = teachers
    refused: list[tuple[tuple[Path, Path], Path, dict[str, Any], str]] = [
        ((other, files[1]), first, {}, r"fit\.files"),
        (files, second, {}, r"fit\.teacher"),
        (files, first, {"contamination": 0.2}, r"fit\.contamination: was 0.05, now 0.2"),
        (files, first, {"overlap": 4}, "squares"),
    ]
    for images, teacher, asked, told in refused:
        with pytest.raises(Refused, match=rf"made differently[\s\S]*{told}"):
            fit(images, done.path, teacher, threads, **asked)
        assert student(done.path) == before
    # What the plan, the method or the images refuse is refused before an earlier run is thrown away.
    mistakes: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"halo": 8}, UsageError),
        ({"memory": "1MiB"}, Refused),
        ({"bbox": (39.0, 37.0, 39.00001, 37.00001)}, AftermapError),
        ({"views": 4}, UsageError),
        ({"chunk": 0}, Refused),
    ]
    for mistake, kind in mistakes:
        with pytest.raises(kind):
            fit(files, done.path, first, threads, fresh=True, **mistake)
        assert student(done.path) == before
        assert outputs(done.path) == layers


def test_images_too_small_are_refused_before_an_earlier_run_is_thrown_away(
    teachers: tuple[Path, Path], threads: Client, done: am.Run, tmp_path: Path
) -> None:
    before, layers = student(done.path), outputs(done.path)
    small = tuple(write_raster(tmp_path / f"{n}.tif", texture(40, 40, n)) for n in range(2))
    with pytest.raises(Refused, match="16 whole valid squares of 16 px"):
        fit((small[0], small[1]), done.path, teachers[0], threads, fresh=True)
    empty = np.zeros((3, 130, 150), np.uint8)
    blank = write_raster(tmp_path / "blank.tif", empty, nodata=0)
    ground = write_raster(tmp_path / "ground.tif", texture(130, 150, 5))
    with pytest.raises((Refused, NothingToAnalyse)):
        fit((ground, blank), done.path, teachers[0], threads, fresh=True)
    assert (student(done.path), outputs(done.path)) == (before, layers)


def test_a_living_run_keeps_its_student_from_another(
    files: tuple[Path, Path], teachers: tuple[Path, Path], threads: Client, done: am.Run
) -> None:
    before = student(done.path)
    code = (
        "import sys; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]):\n    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(done.path / ".lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(Refused, match="in use by another run"):
            fit(files, done.path, teachers[0], threads, contamination=0.3, fresh=True)
        assert student(done.path) == before
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.slow
def test_a_complete_run_is_not_trained_again_even_without_its_student(
    files: tuple[Path, Path], teachers: tuple[Path, Path], threads: Client, tmp_path: Path
) -> None:
    run = fit(files, tmp_path / "run", teachers[0], threads)
    first, weights = outputs(run.path), tmp_path / "run-student" / "deep-disaster.safetensors"
    record = json.loads((run.path / "run.json").read_text())
    assert record["method"]["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    for file in weights.parent.iterdir():
        file.unlink()
    again = fit(files, run.path, teachers[0], threads)
    assert again.record["attempts"] == 1
    assert not weights.exists()
    # With chunks missing it is trained anew, to the same bytes.
    (run.path / "run.json").write_text(json.dumps(record | {"state": "running"}))
    next((run.path / "layers.zarr" / "damage" / "c").glob("0/*")).unlink()
    resumed = fit(files, run.path, teachers[0], threads)
    assert resumed.record["chunks_run"] == 1
    assert outputs(run.path) == first


def test_chunks_of_other_weights_are_not_gone_on_with(
    files: tuple[Path, Path], teachers: tuple[Path, Path], threads: Client, tmp_path: Path
) -> None:
    run = fit(files, tmp_path / "run", teachers[0], threads)
    record = json.loads((run.path / "run.json").read_text())
    record["method"]["weights_sha256"] = "ab" * 32
    (run.path / "run.json").write_text(json.dumps(record | {"state": "running"}))
    with pytest.raises(Refused, match="was scored with weights abababababab"):
        fit(files, run.path, teachers[0], threads)


def test_other_weights_are_another_run(
    files: tuple[Path, Path],
    teachers: tuple[Path, Path],
    threads: Client,
    done: am.Run,
    tmp_path: Path,
) -> None:
    other = fit(files, tmp_path / "run", teachers[1], threads)
    assert other.record["run_id"] != done.record["run_id"]
    assert other.record["facts"]["fit"]["teacher"] != done.record["facts"]["fit"]["teacher"]


KILLED = (
    "import os, signal, sys, torch\n"
    "torch.set_num_threads(1)\n"
    "import aftermap.models.adversarial_course as course, aftermap.cluster.assess as run\n"
    "stop_at, kept = sys.argv[5], course.save_state\n"
    "def die():\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    "def save(*a):\n"
    "    kept(*a)\n"
    "    if stop_at == 'training' and a[-1].epoch == 4: die()\n"
    "course.save_state = save\n"
    "if stop_at == 'run': run.run_bounded = lambda *a, **k: die()\n"
    "from aftermap.cluster.client import connected\n"
    "with connected('threads', workers=1) as client:\n"
    "    run.assess(*sys.argv[1:3], sys.argv[3], 'deep-disaster', fit='before', teacher=sys.argv[4],\n"
    "               chunk=48, device='cpu', client=client)\n"
)
"""The real run, which kills itself after the fourth epoch or when the first chunk would start."""


def test_another_chunk_size_is_refused_before_a_lost_student_is_trained_again(
    files: tuple[Path, Path], teachers: tuple[Path, Path], threads: Client, tmp_path: Path
) -> None:
    run = fit(files, tmp_path / "run", teachers[0], threads)
    record = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(record | {"state": "running"}))
    shutil.rmtree(tmp_path / "run-student")
    with pytest.raises(Refused, match="--chunk 96"):
        fit(files, run.path, teachers[0], threads, chunk=96)
    assert not (tmp_path / "run-student").exists()


@pytest.mark.slow
def test_killed_in_training_and_in_the_run_it_goes_on_to_the_same_bytes(
    files: tuple[Path, Path],
    teachers: tuple[Path, Path],
    threads: Client,
    done: am.Run,
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    torch.manual_seed(0)
    for moment in ("training", "run"):
        words = [sys.executable, "-c", KILLED, *map(str, files), str(out), str(teachers[0]), moment]
        assert subprocess.run(words, capture_output=True).returncode == -9
        if moment == "training":
            found = status(out)
            assert isinstance(found, TrainingStatus)
            assert (found.state, found.done, found.epochs, found.run) == ("stopped", 4, 15, out)
            assert f"--fit before -o {out}" in found.text()
            before = student(out)
            with pytest.raises(Refused, match="state of another training"):
                fit(files, out, teachers[1], threads)
            assert student(out) == before
            assert not (out / "run.json").exists()
    trained = student(out)
    run = fit(files, out, teachers[0], threads)
    assert student(out) == trained
    assert run.record["facts"] == done.record["facts"]
    assert run.record["run_id"] == done.record["run_id"]
    assert outputs(out) == outputs(done.path)


@pytest.mark.slow
def test_while_it_trains_the_run_says_so(
    files: tuple[Path, Path], teachers: tuple[Path, Path], tmp_path: Path
) -> None:
    slow = KILLED.replace("if stop_at == 'training' and a[-1].epoch == 4: die()",
                          "import time; time.sleep(60)")  # fmt: skip
    out = tmp_path / "run"
    words = [sys.executable, "-c", slow, *map(str, files), str(out), str(teachers[0]), ""]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        state, until = tmp_path / "run-student" / "state.safetensors", time.monotonic() + 90
        while not state.exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        mine, run = status(tmp_path / "run-student"), status(out)
        assert isinstance(mine, TrainingStatus)
        assert isinstance(run, RunStatus)
        assert (mine.state, mine.running, mine.done) == ("running", True, 1)
        assert "student    1 of 15" in run.text()
        told = json.loads(CliRunner().invoke(app, ["status", str(out), "--json"]).output)
        assert told["student"]["done"] == 1
    finally:
        process.kill()
        process.wait()


def test_plan_says_what_training_adds(
    files: tuple[Path, Path], teachers: tuple[Path, Path], tmp_path: Path
) -> None:
    words = ["plan", *map(str, files), "--method", "deep-disaster", "--fit", "before", "--device", "cpu",
             "--teacher", str(teachers[0]), "-o", str(tmp_path / "run"), "--cluster", "threads"]  # fmt: skip
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.exception
    # Squares of 16 px every 8 px: 15 rows of 17.
    assert "training   15 epochs over up to 255 squares of 16 px" in shown.output
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).output)
    assert told["training"]["squares"] == 15 * 17
    assert told["training"]["seconds"] > 0
    assert "training" not in json.loads(
        CliRunner()
        .invoke(app, ["plan", *map(str, files), "--method", "difference", "--json"])
        .output
    )
    wrong = CliRunner().invoke(
        app, [*words, "--contamination", "0.1", "--method", "inception-window"]
    )
    assert isinstance(wrong.exception, UsageError)
    assert not list(tmp_path.iterdir())


def test_footprints_are_counted_on_squares_of_a_fit(
    files: tuple[Path, Path],
    teachers: tuple[Path, Path],
    threads: Client,
    done: am.Run,
    tmp_path: Path,
) -> None:
    """Given later, to the run that is there, they are refused; to a copy of its student they are heard."""
    import geopandas as gpd

    boxes = [shapely.box(60, 50, 80, 70), shapely.box(5, 5, 20, 20)]
    placed = [shapely.affinity.affine_transform(b, [0.5, 0, 0, -0.5, UTM.c, UTM.f]) for b in boxes]
    gpd.GeoDataFrame(geometry=placed, crs="EPSG:32637").to_file(tmp_path / "houses.gpkg")
    asked = {"footprints": tmp_path / "houses.gpkg"}
    before = student(done.path)
    with pytest.raises(Refused, match=r"inputs\.footprints: was null"):
        fit(files, done.path, teachers[0], threads, **asked)
    assert student(done.path) == before
    shutil.copytree(f"{done.path}-student", tmp_path / "run-student")
    run = fit(files, tmp_path / "run", teachers[0], threads, **asked)
    assert len(run.buildings) == 2
    assert {n: digest for n, (digest, _) in student(run.path).items()} == {
        n: digest for n, (digest, _) in before.items()
    }
