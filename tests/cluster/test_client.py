"""From a word or an address to a client."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.request import urlopen

import dask.array
import pytest
from aftermap.cluster import client as client_module
from aftermap.cluster.client import connect, connected, dashboard, resolved, worker_count
from aftermap.cluster.machine import core_ids, cores, worker_memory
from aftermap.scenes.errors import Refused, UsageError
from distributed import Client, LocalCluster


def test_local_workers_are_single_threaded_processes_with_a_tuned_allocator() -> None:
    with connected("local", workers=2, memory="1GiB") as client:
        assert sorted(client.nthreads().values()) == [1, 1]
        seen = client.run(
            lambda: (
                os.environ["MALLOC_TRIM_THRESHOLD_"],
                os.environ["OMP_NUM_THREADS"],
                os.getpid(),
            )
        )
        assert {value[:2] for value in seen.values()} == {("17179869184", "1")}
        assert os.getpid() not in {value[2] for value in seen.values()}
        assert client.scheduler.address.startswith("tcp://127.0.0.1:")


def test_threads_stay_in_this_process() -> None:
    with connected("threads", workers=2) as client:
        assert list(client.nthreads().values()) == [2]
        assert set(client.run(os.getpid).values()) == {os.getpid()}
        assert urlopen(dashboard(client), timeout=10).status == 200


@pytest.mark.parametrize("kind", ["threads", "local"])
def test_nobody_asks_for_the_frames_of_threads_at_work(kind: str) -> None:
    """CPython 3.11 may collect garbage while it gathers them, and then wait for ever."""
    with connected(kind, workers=1) as client:
        (asked,) = client.run(lambda dask_worker: sorted(dask_worker.periodic_callbacks)).values()
    assert "heartbeat" in asked
    assert "profile" not in asked


def test_a_dashboard_that_may_be_on_another_machines_loopback_is_told_with_its_tunnel() -> None:
    class Joined:
        cluster, dashboard_link = None, "http://node7:40123/status"
        scheduler = type("Scheduler", (), {"address": "tls://node7:8786"})

    told = dashboard(Joined())  # type: ignore[arg-type]
    assert told.startswith("http://node7:40123/status ")
    assert "ssh -L 40123:127.0.0.1:40123 node7" in told
    assert "http://127.0.0.1:40123/status" in told


def test_an_address_and_a_scheduler_file_join_a_running_cluster(tmp_path: Path) -> None:
    with LocalCluster(
        n_workers=1, processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address=None
    ) as cluster:
        with connected(cluster.scheduler_address) as client:
            assert client.submit(sum, [1, 2]).result() == 3
        with Client(cluster) as owner:
            owner.write_scheduler_file(str(tmp_path / "scheduler.json"))
        with connected(str(tmp_path / "scheduler.json")) as client:
            assert client.submit(sum, [1, 2]).result() == 3
            assert connect(client) is client
        assert cluster.status.name == "running"


def test_what_cannot_be_connected_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="local, threads, cuda"):
        connect("slrum")
    with pytest.raises(UsageError, match="--workers 0"):
        connect("local", workers=0)
    with pytest.raises(UsageError, match="4GiB"):
        worker_memory("plenty", 1)
    with pytest.raises(Refused, match="does not exist"):
        connect(str(tmp_path / "scheduler.json"))
    for half in ("", "{", "{}", "[]", '{"address": 1}'):
        (tmp_path / "scheduler.json").write_text(half)
        with pytest.raises(Refused, match="no scheduler file, or not yet"):
            connect(str(tmp_path / "scheduler.json"))


@pytest.mark.slow
def test_an_address_where_nobody_answers_is_refused() -> None:
    with pytest.raises(Refused, match="within 10 s"):
        connect("tcp://127.0.0.1:9")


def test_cuda_without_a_gpu_is_refused_in_words() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.raises(Refused, match=r"aftermap\[gpu\]|no GPU"):
        connect("cuda")


@pytest.mark.parametrize(
    ("gpus", "kind", "workers"),
    [([], "local", 5), (["0"], "local", 5), (["0", "1"], "cuda", 2), (["0", "1", "3"], "cuda", 3)],
)
def test_auto_is_the_cores_or_the_one_gpu_and_a_process_for_each_of_several(
    monkeypatch: pytest.MonkeyPatch, gpus: list[str], kind: str, workers: int
) -> None:
    monkeypatch.setattr(client_module, "usable_gpus", lambda: gpus)
    monkeypatch.setattr(client_module, "cores", lambda: 5)
    assert resolved("auto") == kind
    assert resolved("threads") == "threads"
    assert worker_count("auto", None) == workers
    assert worker_count("auto", 7) == 7


def test_options_are_for_batch_systems() -> None:
    with pytest.raises(UsageError, match="walltime"):
        connect("local", walltime="1:00:00")


def test_dask_computes_by_itself_again_in_whatever_order_clients_are_closed() -> None:
    from contextlib import ExitStack

    first, second = ExitStack(), ExitStack()
    first.enter_context(connected("threads", workers=1))
    second.enter_context(connected("threads", workers=1))
    first.close()
    second.close()
    assert dask.array.ones(10, chunks=5).sum().compute() == 10


def test_memory_is_an_even_share() -> None:
    assert worker_memory("2GiB", 7) == 2 << 30
    assert 0 < worker_memory(None, 2) < worker_memory(None, 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system binds no cores")
def test_cores_are_those_that_this_process_may_use() -> None:
    mine = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {max(mine)})
        assert cores() == 1
        assert core_ids() == (max(mine),)
    finally:
        os.sched_setaffinity(0, mine)
    assert cores() == len(mine)
