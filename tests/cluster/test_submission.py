"""Submitting: what is written, what the batch system is asked, and that its jobs do the work."""

from __future__ import annotations

import dataclasses
import os
import shlex
import stat
from pathlib import Path

import pytest
import typer
from aftermap.scenes.errors import Refused, UsageError
from batch import install, outputs, path_without
from typer.testing import CliRunner

import aftermap as am
from aftermap.cli import app

JOB = {"walltime": "00:10:00", "memory": "1GiB"}


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs in front of the PATH, and no batch system behind it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    rest = path_without(("qsub", "bsub"), tmp_path / "rest")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{rest}")
    return folder


@pytest.fixture
def region(tmp_path: Path) -> Path:
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
    file = tmp_path / "quake.toml"
    file.write_text(
        '[images]\nkind = "folder"\nbefore = "before"\nafter = "after"\n'
        '[job]\nwalltime = "02:00:00"\naccount = "quake23"\nworkers = 4\n'
    )
    return file


def test_a_dry_run_shows_the_script_and_leaves_nothing(region: Path) -> None:
    shown = CliRunner().invoke(app, ["submit", str(region), "--dry-run", "--partition", "long"])
    assert shown.exit_code == 0, shown.output
    assert shown.output.startswith("#!/bin/bash")
    for line in (
        "#SBATCH --time=02:00:00",
        "#SBATCH --account=quake23",
        "#SBATCH --partition=long",
    ):
        assert line in shown.output.splitlines()
    assert f"-m aftermap region {region} --cluster local --workers 4" in shown.output
    assert sorted(path.name for path in region.parent.iterdir()) == [
        "after",
        "before",
        "quake.toml",
    ]


def test_a_region_is_its_file_however_it_is_said(region: Path) -> None:
    plain = am.cluster.submit(region, dry_run=True)
    assert am.cluster.submit(["region", str(region)], dry_run=True) == plain
    for words in (["region"], ["region", str(region), "--scenes", "1/2"], ["region", "--fresh"]):
        with pytest.raises(UsageError, match=r"aftermap submit region\.toml"):
            am.cluster.submit(words, dry_run=True, job=JOB)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["assess", "a.tif", "b.tif", "--nope"], "No such option"),
        (["assess", "a.tif", "b.tif", "--chunk", "large"], "valid integer"),
        (["train", "--epochs"], "requires an argument"),
    ],
)
def test_a_typo_in_a_command_is_told_before_it_waits_in_a_queue(
    words: list[str], told: str
) -> None:
    asked = ["submit", "--walltime", "01:00:00", "--dry-run", "--", *words]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 2, done.output
    assert told in done.output


@pytest.mark.parametrize(
    "words", [["-o", "there"], ["-othere"], ["--out", "there"], ["--out=there"]]
)
def test_the_folder_of_a_command_is_found_in_every_spelling(words: list[str]) -> None:
    done = am.cluster.submit(["assess", "a.tif", *words], dry_run=True, job=JOB)
    assert done.watched == Path.cwd() / "there"


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (["train"], "weights"),
        (["pretrain", "--data", "chips"], "encoder"),
        (["tune", "--trials", "9"], "tuning"),
        (["study", "kahramanmaras"], "study"),
    ],
)
def test_trainings_of_every_kind_are_submitted(words: list[str], out: str) -> None:
    """As the command line reads them in the job; their folders are those the commands write to."""
    done = am.cluster.submit(words, dry_run=True, job=JOB)
    (script,) = done.scripts
    assert script.parent == Path.cwd() / f"{out}-jobs"
    line = next(x for x in done.scripts[script].splitlines() if f"-m aftermap {words[0]}" in x)
    given = shlex.split(line.removesuffix(" &"))[3:]
    context = typer.main.get_group(app).commands[given[0]].make_context(given[0], given[1:])
    assert str(context.params["out"]) == out
    logged = words[0] in ("tune", "study")
    assert done.watched == (script.parent / "logs" if logged else Path.cwd() / out)
    told = dataclasses.replace(done, jobs=("7",)).text()
    assert ("aftermap status" in told) == (not logged)


def test_what_cannot_be_submitted_is_told_what_can() -> None:
    with pytest.raises(UsageError, match=r"'evaluate' cannot .*train, pretrain, tune, study"):
        am.cluster.submit(["evaluate", "w.safetensors", "--data", "c"], dry_run=True, job=JOB)


def test_an_array_is_two_scripts(region: Path) -> None:
    done = am.cluster.submit(region, "lsf", dry_run=True, array=3)
    assert [path.name for path in done.scripts] == ["scenes.lsf.sh", "finish.lsf.sh"]
    assert all(path.parent == region.parent / "quake-region" / "jobs" for path in done.scripts)


def test_a_job_system_that_is_not_installed_is_refused_before_anything_is_written(
    region: Path, tools: Path
) -> None:
    with pytest.raises(Refused, match=r"qsub is not on the PATH.*--dry-run"):
        am.cluster.submit(region, "pbs")
    assert not (region.parent / "quake-region").exists()


def test_a_command_needs_a_walltime_and_leaves_the_cluster_to_the_job(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--walltime"):
        am.cluster.submit(["assess", "a.tif", "b.tif"], dry_run=True)
    with pytest.raises(UsageError, match="--cluster is set by the job"):
        am.cluster.submit(["assess", "a.tif", "--cluster=cuda"], dry_run=True, job=JOB)
    with pytest.raises(UsageError, match="cannot be submitted"):
        am.cluster.submit(["serve", "--public"], dry_run=True, job=JOB)
    with pytest.raises(UsageError, match="none to share"):
        am.cluster.submit(["assess", "a.tif"], dry_run=True, job=JOB, array=2)
    with pytest.raises(UsageError, match="newline"):
        am.cluster.submit(["assess", "a.tif\nrm -rf ~"], dry_run=True, job=JOB)
    with pytest.raises(UsageError, match="no such options: colour"):
        am.cluster.submit(["assess", "a.tif"], dry_run=True, job=JOB, colour="red")
    (tmp_path / "job.toml").write_text("[jobs]\n")
    with pytest.raises(UsageError, match=r"no \[job\] table"):
        am.cluster.submit(["assess", "a.tif"], dry_run=True, job=tmp_path / "job.toml")
    with pytest.raises(Refused, match="--job"):
        am.cluster.submit(["assess", "a.tif"], dry_run=True, job=tmp_path / "none.toml")


@pytest.mark.slow
@pytest.mark.parametrize(("scheduler", "program"), [("pbs", "qsub"), ("lsf", "bsub")])
def test_pbs_and_lsf_jobs_assess_and_write_what_a_plain_run_writes(
    scheduler: str,
    program: str,
    tools: Path,
    pair_files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(tools, program)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    monkeypatch.chdir(tmp_path)
    words = [
        "assess",
        "pre.tif",
        "post.tif",
        "-o",
        "r un",
        "--method",
        "difference",
        "--chunk",
        "512",
    ]
    done = am.cluster.submit(
        words, scheduler, job=JOB | {"logs": str(tmp_path / "logs"), "setup": ["env > seen"]}
    )
    script = tmp_path / "r un-jobs" / f"job.{scheduler}.sh"
    assert list(done.scripts) == [script]
    assert stat.S_IMODE(script.stat().st_mode) == 0o700
    assert stat.S_IMODE(script.parent.stat().st_mode) == 0o700
    assert done.jobs == (("1.head",) if scheduler == "pbs" else ("1",))
    plain = am.assess(*pair_files, out=tmp_path / "plain", method="difference", chunk=512)
    assert outputs(tmp_path / "r un") == outputs(plain.path)
    assert "hush" not in (tmp_path / "seen").read_text() + (tools / "log-1-0").read_text()


@pytest.mark.slow
def test_the_second_job_of_an_array_waits_for_the_first(region: Path, tools: Path) -> None:
    """The scenes are absent, so the jobs end in words; what matters is how they were asked for."""
    for scheduler, program, wait in (
        ("pbs", "qsub", "-W depend=afterany:1[].head"),
        ("lsf", "bsub", "-w ended(1)"),
    ):
        install(tools, program)
        done = am.cluster.submit(region, scheduler, array=2)
        asked = (tools / "asked").read_text().splitlines()
        assert len(done.jobs) == 2
        assert wait in asked[1]
        assert "cancel" in done.text()
        (tools / "asked").unlink()


def test_what_the_batch_system_says_is_told(region: Path, tools: Path) -> None:
    program = tools / "qsub"
    program.write_text("#!/bin/bash\necho 'qsub: Unknown queue' >&2\nexit 170\n")
    program.chmod(0o755)
    with pytest.raises(Refused, match="Unknown queue"):
        am.cluster.submit(region, "pbs")
