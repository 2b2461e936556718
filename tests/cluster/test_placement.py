"""Workers are checked and made ready before the first chunk, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Timer

import dask
import pytest
import torch
from aftermap.cluster.client import connected
from aftermap.cluster.futures import Stopped
from aftermap.cluster.job import Job, JobFile
from aftermap.cluster.machine import cores
from aftermap.cluster.placement import NoWorker, placed
from aftermap.kernels.methods import load_method
from aftermap.models.checkpoint import bundled
from aftermap.scenes.errors import Refused
from aftermap.scenes.pair import make_pair
from aftermap.scenes.plan import Plan
from aftermap.scenes.store import Store
from distributed import Client, LocalCluster, Scheduler, SpecCluster
from rasters import texture, write_raster

Planned = tuple[Job, JobFile]
SHAPE = 300, 300
TESTS = Path(__file__).parents[1]


def can_hide() -> bool:
    """Whether this process may mount over folders in a namespace of its own."""
    tried = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt"]
    try:
        return subprocess.run(tried, capture_output=True, timeout=10).returncode == 0
    except OSError:
        return False


hiding = pytest.mark.skipif(not can_hide(), reason="mounting in a namespace is not allowed here")


def planned(folder: Path, weights: Path | None = None, device: str = "cpu") -> Planned:
    """A job on a small pair, in folders of its own for images, weights and run."""
    for name in ("images", "run"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    pair = make_pair(
        write_raster(folder / "images/pre.tif", texture(*SHAPE, 1)),
        write_raster(folder / "images/post.tif", texture(*SHAPE, 2)),
    )
    kernel = load_method("fc-siam-diff", weights, device=device)
    plan = Plan.of(SHAPE, kernel.window, 1024)
    job = Job(kernel, pair, plan, Store(folder / "run/layers.zarr", plan, kernel.layers))
    return job, JobFile.write(job, folder / "run/.job")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A cluster without workers, on loopback."""
    with (
        LocalCluster(
            n_workers=0,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def worker(client: Client) -> Iterator[Callable[..., None]]:
    """Starts a worker process that does not see a folder, or that finds other packages first."""
    with ExitStack() as stack:

        def start(hidden: Path | None = None, path: Path | None = None) -> None:
            stack.enter_context(_worker(client, hidden, path))

        yield start


@contextmanager
def _worker(client: Client, hidden: Path | None, path: Path | None) -> Iterator[None]:
    command = [
        *(sys.executable, "-m", "distributed.cli.dask_worker", client.scheduler.address),
        *("--nthreads", "1", "--no-nanny", "--dashboard-address", "127.0.0.1:0"),
    ]
    if hidden is not None:
        over = f'mount -t tmpfs none "{hidden}" && exec "$@"'
        command = ["unshare", "-m", "sh", "-c", over, "sh", *command]
    known = set(client.scheduler_info(n_workers=-1)["workers"])
    process = subprocess.Popen(
        command,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(map(str, (path, TESTS) if path else (TESTS,)))},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        client.wait_for_workers(len(known) + 1, timeout=60)
        yield
    finally:
        process.terminate()
        process.wait(20)
        while set(client.scheduler_info(n_workers=-1)["workers"]) - known:
            pass


def test_workers_times_threads_are_the_cores(tmp_path: Path) -> None:
    job, file = planned(tmp_path)
    for workers in (1, 2):
        with connected("local", workers, "2GiB") as client, placed(client, job, file):
            found = client.run(torch.get_num_threads)
            assert set(found.values()) == {max(1, cores() // workers)}


def test_a_cluster_without_workers_is_waited_for_and_then_given_up_in_words(
    client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job, file = planned(tmp_path)
    address = client.scheduler.address
    begun = time.monotonic()
    with (
        dask.config.set({"aftermap.wait-for-workers": "2s"}),
        connected(address) as joined,
        pytest.raises(
            NoWorker, match=f"cluster at {address} has no worker.*dask worker.*--cluster"
        ),
    ):
        placed(joined, job, file, quiet=False).__enter__()
    assert 2 <= time.monotonic() - begun < 20
    told = capsys.readouterr().err
    assert told.count(f"waiting    for a worker of {address}, for up to 2 s\n") == 1


def test_a_cluster_that_grows_with_its_tasks_is_given_one(client: Client, tmp_path: Path) -> None:
    """Its scheduler starts a worker only once something waits for one."""
    from aftermap.kernels.loaded import loaded

    loaded.cache_clear()  # the worker is in this process, where other tests have loaded weights
    job, file = planned(tmp_path)
    client.cluster.adapt(minimum=0, maximum=1, interval="100ms", wait_count=1000)
    try:
        with (
            dask.config.set({"aftermap.wait-for-workers": "60s"}),
            connected(client.scheduler.address) as joined,
            placed(joined, job, file),
        ):
            assert list(joined.run(_loads, file).values()) == [1]
    finally:
        client.cluster.adapt(minimum=0, maximum=0, interval="100ms", wait_count=1)
        while client.scheduler_info(n_workers=-1)["workers"]:
            time.sleep(0.1)
        client.cluster._adaptive.stop()


def test_workers_that_are_jobs_may_wait_in_their_queue_until_the_run_is_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cluster that this process started elsewhere: its jobs come when they come."""
    job, file = planned(tmp_path)
    options = {"host": "127.0.0.1", "dashboard": False}
    stop, begun = Event(), time.monotonic()
    later = Timer(3, stop.set)
    later.start()
    with (
        dask.config.set({"aftermap.wait-for-workers": "0.5s"}),
        SpecCluster(scheduler={"cls": Scheduler, "options": options}, silence_logs=50) as cluster,
        Client(cluster) as client,
        pytest.raises(Stopped),
    ):
        placed(client, job, file, quiet=False, stop=stop).__enter__()
    later.join()
    assert time.monotonic() - begun > 3
    assert "for up to" not in (told := capsys.readouterr().err)
    assert told.startswith("waiting    for a worker of tcp://127.0.0.1:")


@pytest.mark.slow
def test_the_command_says_that_no_worker_came(
    client: Client, pair_files: tuple[Path, Path], tmp_path: Path
) -> None:
    address = client.scheduler.address
    words = ["assess", *map(str, pair_files), "-o", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-m", "aftermap", *words, "--method", "difference", "--cluster", address],
        env=os.environ | {"DASK_AFTERMAP__WAIT_FOR_WORKERS": "2s"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 3, done.stderr
    assert f"waiting    for a worker of {address}, for up to 2 s" in done.stderr
    assert "none came within 2 s" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@hiding
def test_weights_that_a_worker_cannot_read_are_sent_to_it(
    client: Client, worker: Callable[..., None], tmp_path: Path
) -> None:
    there = tmp_path / "weights"
    there.mkdir()
    own = bundled("fc-siam-diff")
    assert own is not None
    for suffix in (".safetensors", ".json"):
        (there / f"mine{suffix}").write_bytes(own.with_suffix(suffix).read_bytes())
    job, file = planned(tmp_path, there / "mine.safetensors")
    worker(hidden=there)
    with placed(client, job, file):
        (seen,) = client.run(os.path.exists, job.kernel.weights).values()
        (loaded,) = client.run(_loads, file).values()
        assert (seen, loaded) == (False, 1)
        worker(hidden=there)  # joins in mid-run
        found = client.run(_loads, file)
        assert list(found.values()) == [1, 1]


def _loads(file: JobFile) -> int:
    """How often this process has read the weights from a file, the kernel being called once more."""
    from aftermap.cluster.job import load_job
    from aftermap.kernels.loaded import loaded

    load_job(file).kernel.load()
    return loaded.cache_info().misses


@pytest.mark.slow
@hiding
def test_a_worker_that_does_not_see_the_run_folder_is_named(
    client: Client, worker: Callable[..., None], tmp_path: Path
) -> None:
    job, file = planned(tmp_path)
    worker(hidden=tmp_path / "run")
    with pytest.raises(Refused, match=r"worker at tcp.*does not see the run folder .*/run.*-o"):
        placed(client, job, file).__enter__()


@pytest.mark.slow
@hiding
def test_a_worker_that_does_not_see_the_images_is_named(
    client: Client, worker: Callable[..., None], tmp_path: Path
) -> None:
    job, file = planned(tmp_path)
    worker(hidden=tmp_path / "images")
    with pytest.raises(Refused, match=r"does not see the image .*pre\.tif"):
        placed(client, job, file).__enter__()


@pytest.mark.slow
def test_a_worker_of_another_environment_is_refused(
    client: Client, worker: Callable[..., None], tmp_path: Path
) -> None:
    job, file = planned(tmp_path)
    other = tmp_path / "site/numpy-1.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0\n")
    worker(path=other.parent)
    with pytest.raises(Refused, match=r"other versions: numpy 1\.0 \(here "):
        placed(client, job, file).__enter__()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_run_for_gpus_is_refused_by_workers_without_one(tmp_path: Path) -> None:
    job, file = planned(tmp_path, device="elsewhere")
    assert job.kernel.facts()["device"] == "cuda"
    with (
        connected("threads", workers=1) as client,
        pytest.raises(Refused, match=r"sees no GPU.*--device cpu"),
    ):
        placed(client, job, file).__enter__()
