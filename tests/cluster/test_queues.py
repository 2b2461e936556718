"""Workers that are batch jobs: what is refused, what is asked for, and that they work and end."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import dask
import pytest
from aftermap.cluster.client import connect, connected
from aftermap.cluster.jobs.queues import start_queue
from aftermap.cluster.security import (
    check_private,
    security_beside,
    security_of,
    temporary_security,
)
from aftermap.scenes.errors import Refused, UsageError
from batch import install_for_workers, path_without
from distributed import Client, LocalCluster

SECRET = "AFTERMAP_TEST_SECRET"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    rest = path_without(("qsub", "bsub", "sbatch"), tmp_path / "rest")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{rest}")
    return folder


def test_a_job_system_that_is_not_installed_is_refused_with_another_in_its_place(
    tools: Path,
) -> None:
    with pytest.raises(Refused, match=r"sbatch is not on the PATH.*--cluster local"):
        connect("slurm", 2, "1GiB", walltime="01:00:00")
    install_for_workers(tools, "qsub", "qdel")
    with pytest.raises(Refused, match=r"bsub is not on the PATH.*--cluster pbs"):
        connect("lsf", 2, "1GiB", walltime="01:00:00")


def test_what_has_no_honest_default_must_be_said(tools: Path) -> None:
    install_for_workers(tools, "qsub", "qdel")
    with pytest.raises(Refused, match=r"workers.*memory.*WALLTIME"):
        start_queue("pbs", None, None)
    with pytest.raises(Refused, match="WALLTIME") as told:
        start_queue("pbs", 1, "1GiB")
    assert "memory" not in str(told.value)
    assert not (tools / "pids").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"account": "a\nb"},
        {"queue": "x;id"},
        {"folder": "/tmp/a b"},
        {"scratch": "a\0b"},
        {"setup": ["a\nb"]},
        {"gres": "gpu:1"},
        {"per_job": 0},
        {"walltime": "soon"},
    ],
)
def test_values_that_cannot_be_are_refused(tools: Path, changes: dict[str, object]) -> None:
    install_for_workers(tools, "qsub", "qdel")
    with pytest.raises(UsageError):
        start_queue("pbs", 1, "1GiB", **{"walltime": "01:00:00", **changes})  # type: ignore[arg-type]
    assert not (tools / "pids").exists()


def test_a_submission_that_fails_is_told_in_its_words(tools: Path, tmp_path: Path) -> None:
    (tools / "qsub").write_text("#!/bin/bash\necho 'qsub: Invalid account' >&2\nexit 1\n")
    (tools / "qsub").chmod(0o755)
    with pytest.raises(Refused, match="Invalid account"):
        start_queue("pbs", 1, "1GiB", walltime="01:00:00", folder=tmp_path / "jobs")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "submit", "cancel"), [("pbs", "qsub", "qdel"), ("lsf", "bsub", "bkill")]
)
def test_workers_are_private_single_threaded_and_know_no_secrets(
    kind: str,
    submit: str,
    cancel: str,
    tools: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install_for_workers(tools, submit, cancel)
    monkeypatch.setenv(SECRET, "hush-hush")
    folder = tmp_path / "jobs"
    options = {
        "walltime": "02:00:00",
        "account": "quake23",
        "queue": "long",
        "folder": folder,
        "wait": 30,
    }
    with connected(kind, 1, "1GiB", **options) as client:
        assert client.scheduler.address.startswith("tls://")
        assert list(client.nthreads().values()) == [1]
        (seen,) = client.run(lambda: dict(os.environ)).values()
        assert seen["MALLOC_TRIM_THRESHOLD_"] == "17179869184"
        assert seen["OMP_NUM_THREADS"] == "1"
        assert SECRET not in seen
        (limit,) = client.run(
            lambda: dask.config.get("distributed.worker.memory.terminate")
        ).values()
        assert limit == 0.98
        (info,) = client.scheduler_info()["workers"].values()
        assert info["memory_limit"] == 1 << 30
        assert client.submit(sum, [1, 2]).result() == 3
        assert client.dashboard_link.startswith("http://127.0.0.1:")
        script = (tools / "script").read_text()
        for word in ("quake23", "long", "02:00", "--nthreads 1", "--tls-key"):
            assert word in script
        assert "hush" not in script
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        keys = list(folder.glob(".dask-jobqueue.worker.key*"))
        assert keys
        assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
        address = client.scheduler.address
        with pytest.raises(OSError):
            Client(address, timeout=3, security=temporary_security())  # a stranger's credentials
    pid = int((tools / "pids").read_text().split()[0])
    assert str(pid) in (tools / "cancelled").read_text().split()
    until = time.monotonic() + 20
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_text():
        assert time.monotonic() < until, "the worker's job goes on"
        time.sleep(0.1)


def test_credentials_are_for_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    made = security_of(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    again = security_of(folder)
    assert Path(made.tls_worker_key).read_text() == Path(again.tls_client_key).read_text()
    assert made.require_encryption
    (folder / "tls.key").chmod(0o640)
    with pytest.raises(Refused, match=r"mode 640.*chmod 600"):
        security_of(folder)
    (folder / "tls.key").chmod(0o600)
    folder.chmod(0o755)
    with pytest.raises(Refused, match=r"mode 755.*chmod 700"):
        security_of(folder)
    with pytest.raises(Refused, match="cannot be read"):
        check_private(tmp_path / "none.json")


@pytest.mark.slow
def test_a_scheduler_file_with_credentials_beside_it_is_joined_by_tls(tmp_path: Path) -> None:
    security = security_of(tmp_path / "cluster")
    with LocalCluster(
        n_workers=1, processes=False, protocol="tls://", host="127.0.0.1",
        dashboard_address=None, security=security,
    ) as cluster:  # fmt: skip
        file = tmp_path / "cluster" / "scheduler.json"
        with Client(cluster, security=security) as owner:
            owner.write_scheduler_file(str(file))
        file.chmod(0o666)
        with pytest.raises(Refused, match="chmod 600"):
            connect(str(file))
        file.chmod(0o600)
        with connected(str(file)) as client:
            assert client.scheduler.address.startswith("tls://")
            assert client.submit(sum, [1, 2]).result() == 3
        with pytest.raises(Refused, match="talks TLS only"):
            connect(cluster.scheduler_address)
        with pytest.raises(OSError):
            Client(cluster.scheduler_address, security=security_of(tmp_path / "other"), timeout=3)
    (tmp_path / "plain.json").touch(mode=0o600)
    assert security_beside(tmp_path / "plain.json") is None
