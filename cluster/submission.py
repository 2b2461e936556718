"""Handing work to a batch system: write the job script, submit it, say how to watch it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..scenes.errors import Refused, UsageError
from .jobs.options import SUBMIT, JobOptions, job_options
from .jobs.queues import check_queue
from .jobs.script import COMMANDS, TRIALS, Step, Work, job_script
from .regions.file import read_region_file
from .regions.folder import RegionFolder

_OUT = {
    "assess": "run",
    "train": "weights",
    "pretrain": "encoder",
    "tune": "tuning",
    "study": "study",
}
"""Where commands write by default."""

_SET_BY_JOB = ("--cluster", "--workers", "--memory")

_CANCEL = {"slurm": "scancel", "pbs": "qdel", "lsf": "bkill"}
_QUEUE = {"slurm": "squeue --me", "pbs": "qstat -u $USER", "lsf": "bjobs"}


@dataclass(frozen=True)
class Submission:
    """What was, or with `dry_run` would be, handed to the batch system."""

    scheduler: str
    scripts: dict[Path, str]
    """Job scripts by the file that each is written to, in the order of submission."""
    watched: Path
    """What `aftermap status` is to be given; of searches and studies the folder of the logs."""
    jobs: tuple[str, ...] = ()
    """Job ids, one per script; empty after a dry run."""
    logged: bool = False
    """Whether only the log says how far it is."""

    def text(self) -> str:
        """For the terminal: the scripts of a dry run, or how to watch and cancel the jobs."""
        if not self.jobs and len(self.scripts) == 1:
            return next(iter(self.scripts.values())).rstrip("\n")
        if not self.jobs:
            return "\n".join(f"# --- {path} ---\n{text}" for path, text in self.scripts.items())
        return "\n".join(
            [
                *(
                    f"job {job:<8} {path}"
                    for job, path in zip(self.jobs, self.scripts, strict=True)
                ),
                f"queue        {_QUEUE[self.scheduler]}",
                f"progress     {'the log in' if self.logged else 'aftermap status'} "
                f"{shlex.quote(str(self.watched))}",
                f"cancel       {_CANCEL[self.scheduler]} {' '.join(self.jobs)}",
            ]
        )


def submit(
    work: str | Path | Sequence[str],
    scheduler: str | None = None,
    dry_run: bool = False,
    job: str | Path | Mapping[str, Any] | None = None,
    **changes: Any,
) -> Submission:
    """Submit a region, or one command of `COMMANDS`, to SLURM, PBS or LSF.

    `work` is a region file, or a command as on the command line: ["assess", "pre.tif", "post.tif",
    "-o", "run"]. Options come from the file's [job] table, or for commands from `job` (a mapping,
    or a TOML file with a [job] table); `scheduler` and `changes` (walltime, account, partition,
    nodes, array, ...: fields of JobOptions) stand above it. With `array`, a region becomes an array
    of jobs and one that follows it. `dry_run` writes and submits nothing.

    Raises UsageError or Refused in words, before anything is written, for unusable options and
    where the batch system is not installed.
    """
    words = [str(work)] if isinstance(work, (str, Path)) else [str(word) for word in work]
    file = _region_file(words)
    table, planned = _command(words, job) if file is None else _region(file, job)
    options = job_options(table, scheduler=scheduler, **changes)
    if options.python is None and options.image is None:
        options = replace(options, python=sys.executable)
    if options.array and planned.command != "region":
        raise UsageError(f"array shares a region's scenes; {planned.command} has none to share.")
    steps: dict[str, Step] = {"region": "all"} if planned.command == "region" else {"job": "all"}
    if options.array:
        steps = {"scenes": "scenes", "finish": "finish"}
    scripts = {
        planned.jobs / f"{name}.{options.scheduler}.sh": job_script(options, planned, step)
        for name, step in steps.items()
    }
    logged = planned.command in TRIALS
    watched = Path(planned.arguments[1]) if planned.command == "region" else planned.out
    if logged:
        watched = _logs(options, planned)
    submission = Submission(options.scheduler, scripts, watched, logged=logged)
    if dry_run:
        return submission
    _check_installed(options)
    return replace(submission, jobs=_submit(options, planned, scripts))


def _region_file(words: Sequence[str]) -> str | None:
    """The region file of `region.toml` or `region region.toml`; None where it is another command."""
    if words[:1] == ["region"]:
        if len(words) != 2 or words[1].startswith("-"):
            raise UsageError(
                f"A region is submitted by its file alone, aftermap submit region.toml; got "
                f"{shlex.join(words)!r}."
            )
        return words[1]
    return words[0] if len(words) == 1 and words[0] not in COMMANDS else None


def _region(file: str, job: Any) -> tuple[Mapping[str, Any], Work]:
    if job is not None:
        raise UsageError("A region file has its own [job] table; leave out --job.")
    region = read_region_file(file)
    planned = Work(
        arguments=("region", str(region.file)),
        folder=region.file.parent,
        out=region.out,
        jobs=region.out / "jobs",
    )
    return region.job, planned


def _command(words: Sequence[str], job: Any) -> tuple[Mapping[str, Any], Work]:
    """A command line, and the [job] table that came with it."""
    for word in words:
        if word.partition("=")[0] in _SET_BY_JOB:
            raise UsageError(
                f"{word.partition('=')[0]} is set by the job itself; say nodes, workers and memory in "
                "the [job] table."
            )
    out = Path.cwd() / _out_of(words)
    planned = Work(
        arguments=tuple(words),
        folder=Path.cwd(),
        out=out,
        jobs=out.with_name(f"{out.name}-jobs"),
    )
    return _table(job), planned


def _out_of(words: Sequence[str]) -> str:
    """What -o or --out names."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word in ("-o", "--out"):
            return following
        if word.startswith("--out="):
            return word.removeprefix("--out=")
        if word.startswith("-o") and not word.startswith("--"):
            return word.removeprefix("-o").removeprefix("=")
    return _OUT.get(words[0], "run")


def _table(job: Any) -> Mapping[str, Any]:
    if job is None:
        return {}
    if isinstance(job, Mapping):
        return job
    try:
        content = tomllib.loads(Path(job).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Refused(f"The job file {job} cannot be read: {error}. Check --job.") from error
    if "job" not in content:
        raise UsageError(f"{job} has no [job] table: it says what to ask the batch system for.")
    return content["job"]


def _check_installed(options: JobOptions) -> None:
    try:
        check_queue(options.scheduler)
    except Refused as error:
        raise Refused(
            f"{str(error).partition(':')[0].replace('--cluster', '--scheduler')}. Submit from a "
            "login node, or look at the script with --dry-run."
        ) from None


def _logs(options: JobOptions, work: Work) -> Path:
    return Path(options.logs or work.jobs / "logs")


def _submit(options: JobOptions, work: Work, scripts: Mapping[Path, str]) -> tuple[str, ...]:
    """Write and submit each script; each waits for the one before it to end."""
    jobs: list[str] = []
    try:
        if work.command == "region":
            RegionFolder(work.out).check_foreign()
            RegionFolder(work.out).make()
        work.jobs.mkdir(mode=0o700, parents=True, exist_ok=True)
        _logs(options, work).mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, text in scripts.items():
            path.unlink(missing_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700), "w") as file:
                file.write(text)
    except OSError as error:
        raise Refused(f"The job script cannot be written: {error}.") from error
    for path in scripts:
        jobs.append(_hand_over(options.scheduler, path, jobs[-1] if jobs else None))
    return tuple(jobs)


def _hand_over(scheduler: str, script: Path, after: str | None) -> str:
    """Submit one script, without a shell between; returns the job's id."""
    wait = {
        "slurm": ["--parsable", *([f"--dependency=afterany:{after}"] if after else [])],
        "pbs": ["-W", f"depend=afterany:{after}"] if after else [],
        "lsf": ["-w", f"ended({after})"] if after else [],
    }[scheduler]
    program = SUBMIT[scheduler]
    # Set, it would stand above the script's own list of variables that a job may take along.
    surroundings = {k: v for k, v in os.environ.items() if k != "SBATCH_EXPORT"}
    with script.open() as text:
        named = [] if scheduler == "lsf" else [str(script)]  # bsub reads a script from its input
        done = subprocess.run(
            [program, *wait, *named],
            stdin=text if scheduler == "lsf" else subprocess.DEVNULL,
            env=surroundings,
            capture_output=True,
            text=True,
        )
    found = re.search(r"<(\d+)>" if scheduler == "lsf" else r"^([\w\[\].-]+)", done.stdout)
    if done.returncode or found is None:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").replace("\n", "; ")
        raise Refused(f"{program} turned {script} down: {said}. Check the [job] table.")
    return found[1]
