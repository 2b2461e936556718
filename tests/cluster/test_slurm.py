"""A real SLURM: the same files as from threads, whatever happens to the jobs.

`eval "$(.ci/slurm start)"` starts one on this machine, with two nodes.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aftermap.cluster.client import connected
from aftermap.cluster.regions.region import run_region
from aftermap.cluster.status import status
from aftermap.models.checkpoint import read_card
from aftermap.scenes.errors import Refused
from batch import outputs
from PIL import Image
from rasters import UTM, texture, write_raster

import aftermap as am

SECRET = "AFTERMAP_TEST_SECRET"
PIXELS = {"method": "difference", "chunk": 512, "resolution": 0.1}
"""Small files resampled to many pixels: 63 chunks, which take some seconds on one core."""


def answers() -> bool:
    try:
        return subprocess.run(["sinfo", "-h"], capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(not answers(), reason='no SLURM answers; try: eval "$(.ci/slurm start)"'),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("images")
    pre = texture(700, 900)
    post = pre.copy()
    post[:, 300:360, 400:480] = 255 - post[:, 300:360, 400:480]
    post[:, :80, :120] = 0
    return write_raster(folder / "pre.tif", pre), write_raster(folder / "post.tif", post, nodata=0)


@pytest.fixture(scope="module")
def reference(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("reference") / "run"
    with connected("threads", workers=2) as client:
        am.assess(*files, out=out, client=client, **PIXELS)
    found = outputs(out)
    assert len([name for name in found if "damage/c/" in name]) == 63
    return found


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No test leaves a job behind."""
    yield
    until = time.monotonic() + 60
    while queue():
        assert time.monotonic() < until, f"jobs were left: {queue()}"
        subprocess.run(["scancel", *{job.split("_")[0] for job in queue()}], check=False)
        time.sleep(1)


def queue() -> dict[str, str]:
    """State of each job."""
    done = subprocess.run(
        ["squeue", "-h", "-o", "%i %t"], capture_output=True, text=True, check=True
    )
    return dict(line.split() for line in done.stdout.splitlines())


def wait(what: Callable[[], Any], seconds: float = 120, every: float = 0.05) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, f"not within {seconds} s; the queue: {queue()}"
        time.sleep(every)


def chunks(run: Path) -> int:
    return sum(1 for _ in run.glob("layers.zarr/damage/c/*/*"))


def submitted(files: tuple[Path, Path], out: Path, **job: Any) -> Any:
    words = ["assess", *map(str, files), "-o", str(out)]
    words += [word for name, value in PIXELS.items() for word in (f"--{name}", str(value))]
    table = {"walltime": "00:10:00", "memory": "1GiB", "signal_before": 60}
    return am.cluster.submit(words, "slurm", job=table | job)


def log(out: Path, job: str) -> str:
    return (out.with_name(f"{out.name}-jobs") / "logs" / f"aftermap-{job}.log").read_text()


def test_workers_that_are_jobs_give_the_same_files_also_when_one_is_cancelled(
    files: tuple[Path, Path],
    reference: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(SECRET, "hush-hush")
    jobs = {"walltime": "00:20:00", "folder": tmp_path / "jobs", "wait": 120}
    lost: list[str] = []
    with connected("slurm", 2, "1GiB", **jobs) as client:
        assert client.scheduler.address.startswith("tls://")
        wait(lambda: len(client.nthreads()) == 2)
        assert not any(SECRET in seen for seen in client.run(lambda: dict(os.environ)).values())

        def cancel_one() -> None:
            wait(lambda: chunks(tmp_path / "run") >= 3, every=0.01)
            lost.extend(
                [next(iter(client.cluster.workers.values())).job_id, str(chunks(tmp_path / "run"))]
            )
            subprocess.run(["scancel", lost[0]], check=True)

        killer = threading.Thread(target=cancel_one)
        killer.start()
        run = am.assess(*files, out=tmp_path / "run", client=client, **PIXELS)
        killer.join()
        assert int(lost[1]) < 63, "the job was cancelled in mid-run"
        assert lost[0] not in queue()
        wait(lambda: len(client.nthreads()) == 2)  # another job has taken its place
    assert run.quarantined == []
    assert outputs(tmp_path / "run") == reference


def test_a_job_over_two_nodes_gives_the_same_files_and_leaves_no_credentials(
    files: tuple[Path, Path],
    reference: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(SECRET, "hush-hush")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "run"
    done = submitted(files, out, nodes=2, setup=["env > seen-$SLURMD_NODENAME"])
    private = tmp_path / "run-jobs" / f"cluster-{done.jobs[0]}"
    wait(lambda: chunks(out) >= 1)
    assert (private / "tls.key").stat().st_mode & 0o077 == 0
    assert '"tls://' in (private / "scheduler.json").read_text()
    assert status(out).running
    wait(lambda: not queue())
    assert not private.exists()
    assert outputs(out) == reference
    seen = {path.name: path.read_text() for path in tmp_path.glob("seen-*")}
    assert set(seen) == {"seen-one", "seen-two"}, "both nodes took part"
    assert not any(SECRET in text for text in seen.values())


def test_a_job_whose_time_is_up_stops_starts_again_and_ends_with_the_same_files(
    files: tuple[Path, Path], reference: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = submitted(files, out, gres="gpu:1", setup=['echo "devices $CUDA_VISIBLE_DEVICES"'])
    (job,) = done.jobs
    wait(lambda: chunks(out) >= 3, every=0.01)
    # What SLURM sends by --signal=B:USR1@60, sent now.
    subprocess.run(["scancel", "--batch", "--signal=USR1", job], check=True)
    wait(lambda: queue().get(job) != "R")
    kept = chunks(out)
    assert 3 <= kept < 63, "it stopped in mid-run"
    assert queue()[job] in ("PD", "CG"), "it is in the queue again"
    found = status(out)
    assert (found.state, found.running) == ("stopped", False)  # type: ignore[union-attr]
    wait(lambda: not queue(), 180)
    assert outputs(out) == reference
    assert am.Run(out).record["attempts"] == 2
    assert am.Run(out).record["chunks_run"] == 63 - kept
    assert "Out of time: starting again." in log(out, job)
    assert log(out, job).count("devices 0") == 2


def test_a_cancelled_job_stops_cleanly_and_the_same_submission_goes_on(
    files: tuple[Path, Path], reference: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    (job,) = submitted(files, out).jobs
    wait(lambda: chunks(out) >= 3, every=0.01)
    subprocess.run(["scancel", job], check=True)
    wait(lambda: not queue())
    wait(lambda: not status(out).running)  # here SLURM may lose sight of a process that still ends
    assert 3 <= chunks(out) < 63
    submitted(files, out)
    wait(lambda: not queue())
    assert outputs(out) == reference


def test_an_array_shares_a_regions_scenes_and_a_job_after_it_merges_them(tmp_path: Path) -> None:
    rows = ["scene_id,pre,post"]
    for k in range(3):
        pre = texture(300, 400, k)
        post = pre.copy()
        post[:, 100:150, 100 : 150 + 20 * k] = 255 - post[:, 100:150, 100 : 150 + 20 * k]
        place = UTM @ UTM.translation(1000 * k, 0)
        write_raster(tmp_path / f"pre{k}.tif", pre, transform=place)
        write_raster(tmp_path / f"post{k}.tif", post, transform=place)
        rows.append(f"s{k},pre{k}.tif,post{k}.tif")
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    for name, job in (
        ("jobs", 'walltime = "00:10:00"\nmemory = "1GiB"\narray = 2\n'),
        ("plain", 'walltime = "00:10:00"\n'),
    ):
        (tmp_path / f"{name}.toml").write_text(
            '[region]\nname = "quake"\n'
            f'out = "{name}"\n[images]\nkind = "list"\npath = "list.csv"\n'
            f'[assess]\nmethod = "difference"\n[cluster]\nkind = "threads"\n[job]\n{job}'
        )
    done = am.cluster.submit(tmp_path / "jobs.toml")
    assert len(done.jobs) == 2
    wait(lambda: not queue(), 240)
    found = status(tmp_path / "jobs.toml")
    assert found.counts["done"] == 3  # type: ignore[union-attr]
    run_region(tmp_path / "plain.toml")

    def files(out: Path) -> dict[str, str]:
        """What the region holds, but for locks, times and the jobs' own files."""
        own = (".", "jobs/", "region.json", *(f"scenes/s{k}.json" for k in range(3)))
        return {k: v for k, v in outputs(out).items() if not k.startswith(own)}

    assert files(tmp_path / "jobs") == files(tmp_path / "plain")
    assert any(name.endswith("buildings.gpkg") for name in files(tmp_path / "jobs"))


def test_a_training_runs_on_two_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for i in range(4):
        pre = rng.integers(90, 110, (64, 64, 3)).astype(np.uint8)
        post, mask = pre.copy(), np.zeros((64, 64), np.uint8)
        for level, dark in ((1, 180), (2, 140), (3, 60), (4, 20)):
            row, col = rng.integers(0, 44, 2)
            square = (slice(row, row + 20), slice(col, col + 20))
            pre[square], post[square], mask[square] = 200, dark, level
        for name, array in (("pre", pre), ("post", post), ("mask", mask)):
            (tmp_path / "chips" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "chips" / name / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    words = "train --data chips -o w --size small --epochs 2 --steps 2 --chip 32 --batch 4"
    job = {"walltime": "00:10:00", "memory": "1GiB", "nodes": 2}
    job |= {"setup": ["env | grep -E ^WORLD_SIZE > on-$SLURMD_NODENAME || true"]}
    (number,) = am.cluster.submit(words.split(), "slurm", job=job).jobs
    wait(lambda: not queue())
    assert log(tmp_path / "w", number).count("score") == 2, "one process tells"
    assert "\nepochs     2 of 2" in status(tmp_path / "w").text()
    assert {"on-one", "on-two"} <= {path.name for path in tmp_path.glob("on-*")}
    card = read_card(tmp_path / "w" / "fc-siam-diff.safetensors")
    assert card.method == "fc-siam-diff"


def test_what_slurm_turns_down_is_told_in_its_words(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(Refused, match="invalid partition"):
        submitted(files, tmp_path / "run", partition="nowhere")
    with pytest.raises(Refused, match="invalid partition"):
        am.cluster.connect(
            "slurm", 1, "1GiB", walltime="01:00:00", queue="nowhere", folder=tmp_path / "jobs"
        )
