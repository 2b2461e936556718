"""Workers are checked and made ready before the first chunk, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import torch
from aftermap.cluster.client import connected
from aftermap.cluster.job import Job, JobFile
from aftermap.cluster.machine import cores
from aftermap.cluster.placement import placed
from aftermap.kernels.methods import load_method
from aftermap.models.checkpoint import bundled
from aftermap.scenes.errors import Refused
from aftermap.scenes.pair import make_pair
from aftermap.scenes.plan import Plan
from aftermap.scenes.store import Store
from distributed import Client, LocalCluster
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
    from aftermap.kernels.network import _loaded

    load_job(file).kernel.load()
    return _loaded.cache_info().misses


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
