"""Faults with real processes: nothing is lost, nothing is wrong, and the same command goes on."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import rasterio
from aftermap.cluster.client import connected
from rasters import texture, write_raster
from regions import digests, write_pair, write_region
from sabotage import Sabotage, Site, killed, site

import aftermap as am

pytestmark = pytest.mark.slow

WORDS = ("--method", "difference", "--chunk", "512")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """900 x 1100 px with two changed blocks: six chunks of 512 px."""
    folder = tmp_path_factory.mktemp("images")
    pre = texture(900, 1100)
    post = pre.copy()
    post[:, 100:160, 200:300] ^= 255
    post[:, 490:560, 480:600] ^= 255
    post[:, :80, :120] = 0
    return write_raster(folder / "pre.tif", pre), write_raster(folder / "post.tif", post, nodata=0)


@pytest.fixture(scope="module")
def reference(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The outputs of a run that nothing happened to."""
    out = tmp_path_factory.mktemp("reference") / "run"
    am.assess(*files, out=out, method="difference", chunk=512, cluster="threads", workers=2)
    return outputs(out)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A cluster that lives on while clients come and go."""
    with site(tmp_path_factory.mktemp("site"), memory="1200MiB") as running:
        yield running


@pytest.fixture(autouse=True)
def _no_fault_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "here" in request.fixturenames:
        for file in request.getfixturevalue("here").sabotage.folder.iterdir():
            file.unlink()


def outputs(run: Path) -> dict[str, str]:
    """Digest of every file of a run that must not depend on how it was made."""
    free = {"run.json", "report.html", ".lock"}
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in free
    }


def record(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())


def command(files: tuple[Path, Path], out: Path, *words: object) -> list[str]:
    aftermap = [sys.executable, "-m", "aftermap", "assess"]
    return [*aftermap, *map(str, files), "-o", str(out), *WORDS, *map(str, words)]


def started(words: list[str]) -> subprocess.Popen[str]:
    """The command in a session of its own, as a job has one."""
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finished(words: list[str], code: int = 0) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=200)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr


def wait_for(condition: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def shards(out: Path) -> list[Path]:
    """The chunks that are done."""
    return [path for path in out.glob("layers.zarr/damage/c/*/*") if path.is_file()]


# Workers (rows 23, 24)


def test_a_worker_killed_in_mid_run_changes_no_byte(
    files: tuple[Path, Path], reference: dict[str, str], tmp_path: Path
) -> None:
    sabotage = Sabotage(tmp_path / "faults")
    sabotage.folder.mkdir()
    (sabotage.folder / "pace").write_text("0.5")
    out = tmp_path / "run"
    with connected("local", workers=2, memory="1GiB") as client:
        client.register_plugin(sabotage)
        before = set(client.run(os.getpid).values())

        def kill() -> None:
            wait_for(lambda: shards(out) and len(sabotage.began()) > 2)
            os.kill(sabotage.began()[-1][1], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        run = am.assess(*files, out=out, method="difference", chunk=512, client=client)
        killer.join()
        client.wait_for_workers(2, timeout=60)
        after = set(client.run(os.getpid).values())
    assert len(before - after) == 1
    assert run.quarantined == []
    chunks = [chunk for chunk, _ in sabotage.began()]
    assert len(chunks) > 6  # the one that was lost was begun once more
    assert set(chunks) == {f"{i}-{j}" for i in range(2) for j in range(3)}
    assert outputs(out) == reference


@pytest.mark.parametrize("fault", ["kill", "bloat"])
def test_a_chunk_that_always_ends_its_worker_is_the_only_one_set_aside(
    files: tuple[Path, Path], reference: dict[str, str], here: Site, tmp_path: Path, fault: str
) -> None:
    out = tmp_path / "run"
    poison = here.sabotage.folder / f"{fault}-0-1"
    poison.touch()
    words = command(files, out, "--cluster", here.file)
    finished(words, code=4)
    found = record(out)
    assert [entry["chunk"] for entry in found["quarantined"]] == [[0, 1]]
    assert "KilledWorker" in found["quarantined"][0]["reason"]
    began = [pid for chunk, pid in here.sabotage.began() if chunk == "0-1"]
    assert len(began) > 2  # tried again on other workers, and once more alone
    assert len(shards(out)) == 5
    with rasterio.open(out / "damage.tif") as source:
        damage = source.read(1)
    assert (damage[:512, 512:1024] == 255).all()
    assert (damage[512:] != 255).all()
    poison.unlink()
    finished(words)
    again = record(out)
    assert (again["chunks_run"], again["quarantined"]) == (1, [])
    assert outputs(out) == reference


# Client, scheduler, walltime, machine (row 25)


def test_a_killed_client_leaves_workers_that_do_no_harm(
    files: tuple[Path, Path], reference: dict[str, str], here: Site, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    pace = here.sabotage.folder / "pace"
    pace.write_text("1")
    words = command(files, out, "--cluster", here.file)
    process = started(words)
    wait_for(lambda: shards(out))
    killed(process)
    assert record(out)["state"] == "running"
    pace.unlink()
    finished(words)  # at once, while the old client's chunks are still being worked on
    assert record(out)["attempts"] == 2
    assert outputs(out) == reference


def test_chunks_of_a_killed_client_do_not_reach_the_run_that_took_its_place(
    files: tuple[Path, Path], reference: dict[str, str], here: Site, tmp_path: Path
) -> None:
    out, faults = tmp_path / "run", here.sabotage.folder
    (faults / "hold").touch()
    process = started(command(files, out, "--cluster", here.file))
    wait_for(lambda: len(here.sabotage.began()) == 2)  # both workers are at it
    killed(process)
    changed = {"cluster": "threads", "workers": 2, "chunk": 512, "fresh": True}
    am.assess(*files, out=out, method="texture", **changed)
    before = outputs(out)
    (faults / "hold").unlink()  # now the old chunks come to their end
    wait_for(lambda: len(list(faults.glob("ended-*"))) == 2)
    time.sleep(1)
    assert outputs(out) == before != reference


def test_a_killed_scheduler_ends_the_run_in_words_and_loses_nothing(
    files: tuple[Path, Path], reference: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with site(tmp_path / "first") as first:
        (first.sabotage.folder / "pace").write_text("0.5")
        process = started(command(files, out, "--cluster", first.file))
        wait_for(lambda: len(shards(out)) >= 2)
        killed(first.scheduler)
        start = time.monotonic()
        _, told = process.communicate(timeout=120)
        assert time.monotonic() - start < 60
        assert process.returncode == 1, told
        assert "Traceback" not in told, told
        assert "run the same command again" in told
    done = {path: path.stat().st_mtime_ns for path in shards(out)}
    assert 2 <= len(done) < 6
    finished(command(files, out, "--cluster", "threads"))
    assert record(out)["chunks_run"] == 6 - len(done)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert outputs(out) == reference


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_that_reaches_its_walltime_goes_on_where_it_was(
    files: tuple[Path, Path], reference: dict[str, str], tmp_path: Path, sent: signal.Signals
) -> None:
    # A batch system sends SIGTERM to every process of a job, and SIGKILL some time later.
    out = tmp_path / "run"
    words = command(files, out, "--cluster", "local", "--workers", 2)
    process = started(words)
    wait_for(lambda: shards(out))
    family = [process, *psutil.Process(process.pid).children(recursive=True)]
    os.killpg(process.pid, sent)
    _, told = process.communicate(timeout=60)
    if sent == signal.SIGTERM:
        assert process.returncode == 130, told
        assert "Traceback" not in told, told
        assert "Run the same command again to go on" in told
    else:
        assert process.returncode == -signal.SIGKILL
    wait_for(lambda: not any(psutil.pid_exists(p.pid) for p in family), 20)
    done = {path: path.stat().st_mtime_ns for path in shards(out)}
    finished(command(files, out, "--cluster", "threads"))
    assert record(out)["attempts"] == 2
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert outputs(out) == reference


ON_CTRL_C = """
import os, signal, sys, time
from aftermap.cluster.client import connected

if __name__ == "__main__":
    heard = []
    signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    with connected("local", 2, "1GiB") as client:
        (dead, first), (_, second) = client.run(os.getpid).items()
        os.kill(first, signal.SIGKILL)
        while dead in client.nthreads() or len(client.nthreads()) < 2:
            time.sleep(0.2)
        before = set(client.run(os.getpid).values())
        os.killpg(0, signal.SIGINT)
        time.sleep(2)
        print(len(heard), set(client.run(os.getpid).values()) == before, second in before)
"""


def test_workers_and_those_in_their_stead_do_not_hear_ctrl_c(tmp_path: Path) -> None:
    script = tmp_path / "ctrl_c.py"
    script.write_text(ON_CTRL_C)
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True, text=True, timeout=120, start_new_session=True,
    )  # fmt: skip
    assert done.stdout.split() == ["1", "True", "True"], done.stderr


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_region_whose_processes_are_all_signalled_ends_and_goes_on(
    tmp_path: Path, sent: signal.Signals
) -> None:
    # A terminal sends Ctrl-C to every process that it started, a batch system SIGTERM.
    pairs = [(name, *write_pair(tmp_path, name, 36, k)) for k, name in enumerate("abc")]
    file = write_region(tmp_path, pairs, cluster='kind = "local"\nworkers = 2')
    words = [sys.executable, "-m", "aftermap", "region", str(file)]
    process = started(words)
    wait_for(lambda: list((tmp_path / "out" / "scenes").glob("*/layers.zarr/damage/c/*/*")))
    os.killpg(process.pid, sent)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Traceback" not in told, told
    finished(words)
    interrupted = digests(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "interrupted")
    finished(words)
    assert digests(tmp_path / "out") == interrupted


# Strangers (A5)


def test_clusters_that_are_started_here_listen_on_loopback_alone() -> None:
    me = psutil.Process()

    def listening() -> dict[psutil.Process, set[tuple[str, int]]]:
        return {
            process: {
                tuple(connection.laddr)
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            }
            for process in (me, *me.children(recursive=True))
        }

    before = listening()  # of clusters of other tests
    for kind in ("local", "threads"):
        with connected(kind, workers=2, memory="1GiB") as client:
            assert client.submit(sum, [1, 2]).result() == 3
            heard = {
                place
                for process, places in listening().items()
                for place in places - before.get(process, set())
            }
            assert len(heard) >= (8 if kind == "local" else 1)
            assert {ip for ip, _ in heard} == {"127.0.0.1"}, kind


def test_what_workers_run_is_for_the_owners_eyes_alone(
    files: tuple[Path, Path], here: Site, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    (here.sabotage.folder / "pace").write_text("0.3")
    old = os.umask(0)
    try:
        process = started(command(files, out, "--cluster", here.file))
        wait_for(lambda: here.sabotage.began())
        assert (out / ".job").stat().st_mode & 0o077 == 0
        process.communicate(timeout=120)
    finally:
        os.umask(old)
    assert process.returncode == 0
    assert not (out / ".job").exists()


# One writer per raster (row 21)


def test_each_raster_is_written_once_and_by_one_worker(
    files: tuple[Path, Path], reference: dict[str, str], here: Site, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    finished(command(files, out, "--cluster", here.file))
    written = [file.name for file in here.sabotage.folder.glob("wrote-*")]
    workers = {pid for _, pid in here.sabotage.began()}
    assert sorted(name.split("-")[1] for name in written) == ["damage", "damage_probability"]
    assert {int(name.split("-")[2]) for name in written} <= workers
    assert {path.stem for path in out.glob("*.tif")} == {"damage", "damage_probability"}
    assert outputs(out) == reference


# Masked arrays (row 29)


def test_no_masked_array_is_made_where_it_could_be_shipped(files: tuple[Path, Path]) -> None:
    pair = am.open_pair(*files, chunks=300)
    for name in ("pre", "post", "valid"):
        block = pair[name].data.blocks[(0,) * pair[name].ndim].compute()
        assert type(block) is np.ndarray
    assert not pair["valid"].values[:80, :120].any()
