"""Job scripts: bash accepts them, values stay values, and a stopped run starts again."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aftermap.cluster.jobs.options import SCHEDULERS, JobOptions, job_options, walltime_seconds
from aftermap.cluster.jobs.script import COMMANDS, RANKED, Work, job_script
from aftermap.scenes.errors import UsageError
from hypothesis import given
from hypothesis import strategies as st

PLACE = Path("/scratch/quake")


def options(**changes: Any) -> JobOptions:
    return job_options({"walltime": "01:00:00", **changes})


def region(**changes: Any) -> Work:
    given = {
        "arguments": ("region", "/scratch/quake/region.toml"),
        "folder": PLACE,
        "out": PLACE / "out",
        "jobs": PLACE / "out" / "jobs",
    }
    return Work(**given | changes)


def directives(script: str, prefix: str) -> list[str]:
    return [
        line.removeprefix(prefix + " ") for line in script.splitlines() if line.startswith(prefix)
    ]


def check_syntax(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("gpus", [0, 2])
@pytest.mark.parametrize("image", [None, "/images/after map.sif"])
def test_bash_accepts_every_kind_of_script(
    scheduler: str, nodes: int, gpus: int, image: str | None
) -> None:
    asked = options(scheduler=scheduler, nodes=nodes, gpus=gpus, image=image, workers=2)
    for command in COMMANDS:
        script = job_script(asked, region(arguments=(command, "a b.toml")))
        check_syntax(script)
        assert "'a b.toml'" in script
        assert ("apptainer exec" in script) == (image is not None)
        assert ("tls.key" in script) == (nodes > 1 and command not in RANKED)
        assert ("RANK=" in script) == (nodes * (gpus or 1) > 1 and command in RANKED)


@pytest.mark.parametrize("command", ["tune", "study"])
def test_trials_are_shared_by_the_workers_of_the_job(command: str) -> None:
    asked = options(nodes=2, workers=4, memory="6GiB")
    script = job_script(asked, region(arguments=(command, "-o", "out")))
    line = next(line for line in script.splitlines() if f"-m aftermap {command}" in line)
    assert line.endswith('-o out --cluster "$private/scheduler.json" --workers 8 --memory 6GiB &')
    assert f"--mem={(4 * 6 + 1) * 1024}M" in script  # with a process that leads the workers
    assert "-path '*/state.safetensors'" in script  # what says that an attempt got something done
    assert "aftermap status" not in script  # it knows runs, regions and single trainings


def test_slurm_is_asked_for_what_the_table_says() -> None:
    asked = options(
        account="quake23", partition="gpu", qos="high", constraint="a100&nvme", nodes=2, workers=4,
        memory="6GiB", gres="gpu:a100:4", name="kahramanmaras", signal_before=240,
        directives=["--mail-type=END"],
    )  # fmt: skip
    found = directives(job_script(asked, region()), "#SBATCH")
    assert set(found) >= {
        "--job-name=kahramanmaras",
        "--time=01:00:00",
        "--account=quake23",
        "--partition=gpu",
        "--qos=high",
        "--constraint=a100&nvme",
        "--nodes=2",
        "--cpus-per-task=4",
        f"--mem={(4 * 6 + 1) * 1024}M",
        "--gres=gpu:a100:4",
        "--signal=B:USR1@240",
        "--requeue",
        "--mail-type=END",
    }
    assert f"--output={PLACE}/out/jobs/logs/kahramanmaras-%j.log" in found


def test_pbs_and_lsf_are_asked_in_their_own_words() -> None:
    same = {"account": "quake23", "partition": "long", "workers": 4, "memory": "1GiB", "nodes": 2}
    pbs = directives(job_script(options(scheduler="pbs", **same), region()), "#PBS")
    assert "-l select=2:ncpus=4:mem=5120mb" in pbs
    assert {"-l walltime=01:00:00", "-A quake23", "-q long", "-l place=scatter"} <= set(pbs)
    lsf = directives(job_script(options(scheduler="lsf", **same), region()), "#BSUB")
    assert {"-W 01:00", "-n 8", '-R "span[ptile=4]"', "-P quake23", "-q long"} <= set(lsf)
    assert '-R "rusage[mem=5120MB/host]"' in lsf


@pytest.mark.parametrize(
    ("scheduler", "line", "task"),
    [
        ("slurm", "--array=1-8%3", "$SLURM_ARRAY_TASK_ID"),
        ("pbs", "-J 1-8%3", "$PBS_ARRAY_INDEX"),
        ("lsf", '-J "aftermap[1-8]%3"', "$LSB_JOBINDEX"),
    ],
)
def test_an_array_shares_scenes_and_a_second_job_finishes(
    scheduler: str, line: str, task: str
) -> None:
    asked = options(scheduler=scheduler, array=8, at_once=3)
    scenes, finish = (job_script(asked, region(), step) for step in ("scenes", "finish"))
    assert line in scenes
    assert f'--scenes "{task}/8"' in scenes
    assert "--finish" in finish
    assert line not in finish
    with pytest.raises(UsageError, match="no array"):
        job_script(asked, region(arguments=("assess", "a.tif")), "scenes")


@pytest.mark.parametrize("bad", ["a\nb", "a\0b", "a\rb", "a\x1bb", "a\u2028b", ""])
@pytest.mark.parametrize("name", ["account", "partition", "name", "scratch", "image", "python"])
def test_newlines_and_control_characters_are_refused_by_name(name: str, bad: str) -> None:
    with pytest.raises(UsageError, match=name):
        options(**{name: bad})


@pytest.mark.parametrize("name", ["setup", "directives", "binds"])
def test_lists_are_refused_line_by_line(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        options(**{name: ["fine\n#SBATCH --uid=0"]})
    with pytest.raises(UsageError, match="list"):
        options(**{name: "module load x"})


@pytest.mark.parametrize(
    "changes",
    [
        {"account": "a b"},
        {"account": "$(id)"},
        {"partition": "x;id"},
        {"partition": "--uid=0"},
        {"name": "a/b"},
        {"gres": "gpu:1 --uid=0"},
        {"constraint": "a`id`"},
        {"logs": "/a b"},
        {"directives": ["uid=0"]},
        {"walltime": "tomorrow"},
        {"walltime": "00:03:00"},
        {"walltime": "1:99:00"},
        {"walltime": 60},
        {"memory": "lots"},
        {"memory": "10MB"},
        {"nodes": 0},
        {"workers": 1.5},
        {"array": -1},
        {"requeue": True},
        {"scheduler": "sge"},
        {"array": 4, "nodes": 2},
        {"scheduler": "pbs", "qos": "high"},
        {"colour": "red"},
    ],
)
def test_values_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        options(**changes)


def test_there_is_no_hidden_walltime() -> None:
    with pytest.raises(UsageError, match="walltime"):
        job_options({})


@pytest.mark.parametrize(
    ("text", "seconds"), [("00:30", 1800), ("01:02:03", 3723), ("2-03:00:00", 183_600)]
)
def test_walltimes_are_read(text: str, seconds: int) -> None:
    assert walltime_seconds(text) == seconds


@given(
    st.text(
        st.characters(exclude_categories=("C", "Z")) | st.sampled_from(" '\"$`\\;&|*#"), min_size=1
    )
)
def test_whatever_a_file_is_called_the_shell_sees_one_word(name: str) -> None:
    script = job_script(options(), region(arguments=("assess", name, "b.tif")))
    line = next(line for line in script.splitlines() if "-m aftermap assess" in line)
    assert shlex.split(line)[:5] == ["${python[@]}", "-m", "aftermap", "assess", name]
    assert shlex.split(line)[5] == "b.tif"


RUN = """#!{python}
import os, pathlib, signal, sys, time
def stop(number, frame):
    if "{done}" != "False":
        pathlib.Path("{done}", "0").touch()
    sys.exit({code})
signal.signal(signal.SIGINT, stop)
print("args:", *sys.argv[1:], flush=True)
os.kill(os.getppid(), signal.SIG{signal})
time.sleep(5)
"""
"""A run that stops cleanly on SIGINT, and has it sent to itself by way of the job script."""


def stub(folder: Path, name: str, body: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/bash\n{body}\n")
    file.chmod(0o755)


@pytest.fixture
def played(tmp_path: Path) -> Callable[..., tuple[subprocess.CompletedProcess[str], str]]:
    """Runs a job script under bash, with a batch system that notes what it is asked for.

    `aftermap` is a program that stops cleanly on SIGINT, with or without having finished a chunk.
    """
    tools, out = tmp_path / "bin", tmp_path / "o ut"
    tools.mkdir()
    chunk = out / "layers.zarr" / "damage" / "c" / "0"
    chunk.mkdir(parents=True)
    (tmp_path / "jobs" / "logs").mkdir(parents=True)
    asked = tmp_path / "asked"
    asked.touch()
    for name in ("scontrol", "qrerun"):
        stub(tools, name, f'echo {name} "$@" >> {asked}')

    def play(
        scheduler: str, progress: bool = True, code: int = 130, signals: str = "USR1", **more: Any
    ) -> tuple[subprocess.CompletedProcess[str], str]:
        work = Work(
            arguments=("assess", "a b.tif"), folder=tmp_path, out=out, jobs=tmp_path / "jobs"
        )
        (tools / "run").write_text(
            RUN.format(python=sys.executable, signal=signals, code=code, done=progress and chunk)
        )
        (tools / "run").chmod(0o755)
        script = job_script(options(scheduler=scheduler, python=str(tools / "run"), **more), work)
        check_syntax(script)
        surroundings = {
            "PATH": f"{tools}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "PBS_JOBID": "7.head",
            "LSB_JOBID": "7", "HOME": str(tmp_path), "SLURM_RESTART_COUNT": "2",
        }  # fmt: skip
        (tmp_path / "job.sh").write_text(script)
        done = subprocess.run(
            ["bash", tmp_path / "job.sh"],
            env=surroundings,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done, asked.read_text()

    return play


def test_a_signal_stops_the_run_cleanly_and_slurm_starts_it_again(played: Any) -> None:
    done, asked = played("slurm")
    assert (
        "args: -m aftermap assess a b.tif --cluster local --workers 1 --memory 4GiB" in done.stdout
    )
    assert (done.returncode, asked) == (130, "scontrol requeue 7\n")
    assert "starting again" in done.stderr


def test_an_output_folder_behind_a_link_is_looked_into(played: Any, tmp_path: Path) -> None:
    (tmp_path / "o ut").rename(tmp_path / "elsewhere")
    (tmp_path / "o ut").symlink_to(tmp_path / "elsewhere")
    done, asked = played("slurm")
    assert "starting again" in done.stderr
    assert asked == "scontrol requeue 7\n"


def test_the_scheduler_of_several_nodes_knows_how_often_a_chunk_is_tried(tmp_path: Path) -> None:
    script = job_script(options(nodes=2, workers=2, python=str(tmp_path / "run")), region())
    start = script.split('. "$private/tls.sh"\ndask_log=')[1].split("started+=")[0]
    start = start.replace("$dask_log", str(tmp_path / "log")).partition("\n")[2]
    stub(tmp_path, "run", "env")
    done = subprocess.run(
        ["bash", "-c", f'python=("{tmp_path}/run")\n{start}wait'], env={"PATH": os.environ["PATH"]}
    )
    assert done.returncode == 0
    told = (tmp_path / "log").read_text().splitlines()
    assert "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES=2" in told


def test_pbs_and_lsf_start_a_stopped_run_again(played: Any, tmp_path: Path) -> None:
    done, asked = played("pbs")
    assert (done.returncode, asked) == (130, "qrerun 7.head\n")
    assert (tmp_path / "jobs" / ".restarts-7").read_text() == "1\n"
    done, asked = played("lsf")
    assert done.returncode == 99
    assert (tmp_path / "jobs" / ".restarts-7").read_text() == "2\n"
    assert '#BSUB -Q "99"' in job_script(options(scheduler="lsf"), region())


@pytest.mark.parametrize("scheduler", ["pbs", "lsf"])
def test_where_the_system_sends_no_signal_the_script_does(played: Any, scheduler: str) -> None:
    done, _ = played(scheduler, signals="CONT", walltime="00:01:00", signal_before=29)
    assert done.returncode == 0, "it ends before its time is up"
    script = job_script(options(scheduler=scheduler, walltime="02:00:00"), region())
    assert "(sleep 7020; kill -USR1 $$) &" in script


def test_a_run_that_gets_nothing_done_is_not_started_again(played: Any) -> None:
    done, asked = played("slurm", progress=False)
    assert (done.returncode, asked) == (130, "")
    assert "nothing was finished" in done.stderr


def test_restarts_are_limited(played: Any) -> None:
    done, asked = played("slurm", requeue=2)
    assert asked == ""
    assert "after 2 restarts" in done.stderr
    done, asked = played("slurm", requeue=0)
    assert (done.returncode, asked) == (130, "")


def test_what_is_done_or_refused_is_not_started_again(played: Any) -> None:
    for code in (0, 3, 4, 5):
        done, asked = played("slurm", code=code)
        assert (done.returncode, asked) == (code, "")


def test_a_cancelled_job_stops_cleanly_and_stays_away(played: Any) -> None:
    done, asked = played("slurm", signals="TERM")
    assert (done.returncode, asked) == (130, "")


def test_nothing_of_the_submitters_environment_is_in_a_script(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    for scheduler in SCHEDULERS:
        script = job_script(options(scheduler=scheduler), region())
        assert "hush" not in script
        assert "SECRET" not in script
    assert "--export=HOME,USER" in job_script(options(), region())
    assert '-env "HOME,USER' in job_script(options(scheduler="lsf"), region())
    assert "-V" not in job_script(options(scheduler="pbs"), region()).split()


def test_paths_in_a_header_must_be_plain() -> None:
    with pytest.raises(UsageError, match="logs"):
        job_script(options(), region(jobs=Path("/a b/jobs")))
    assert "/logs/aftermap-%j.log" in job_script(options(logs="/logs"), region(jobs=Path("/a b")))


def test_python_defaults_to_one_that_is_there() -> None:
    assert "python=(/opt/py/bin/python3)" in job_script(
        options(python="/opt/py/bin/python3"), region()
    )
    assert sys.version_info >= (3, 11)
