"""One readable job script for SLURM, PBS or LSF, as a string; nothing is written or run here."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ...scenes.errors import UsageError
from .options import PATH, SUBMIT, JobOptions, check_text, walltime_text
from .surroundings import KEPT, worker_exports

Step = Literal["all", "scenes", "finish"]
"""What of a region a job does: everything, one array task's scenes, or what comes after them."""

RANKED = ("train", "pretrain")
"""Commands whose processes share every batch, one per GPU or node, and need no Dask."""

TRIALS = ("tune", "study")
"""Commands that run trainings as tasks of a Dask cluster."""

COMMANDS = ("region", "assess", *RANKED, *TRIALS)
"""aftermap's commands that can be submitted."""

_LED_BY = 1 << 30
"""Memory of the process that leads the workers, and of Dask's scheduler, bytes."""

_PROGRESS = dict.fromkeys((*RANKED, *TRIALS), "*/state.safetensors")
"""Files that each attempt must add to; for the others it is chunks."""

_PREFIX = {"slurm": "#SBATCH", "pbs": "#PBS", "lsf": "#BSUB"}


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a job does, and where."""

    arguments: tuple[str, ...]
    """aftermap's arguments: a command of COMMANDS and what belongs to it."""
    folder: Path
    """Folder that the arguments' paths are relative to; absolute."""
    out: Path
    """The run's, region's or weights' folder; absolute."""
    jobs: Path
    """Folder for scripts, logs and a cluster's credentials; absolute, seen by all nodes."""

    def __post_init__(self) -> None:
        if not self.arguments or self.arguments[0] not in COMMANDS:
            raise UsageError(
                f"{' '.join(self.arguments[:1]) or 'Nothing'!r} cannot be submitted as a job; there "
                f"are {', '.join(COMMANDS)}."
            )
        for argument in self.arguments:
            check_text(f"The argument of {self.arguments[0]}", argument)
        for name in ("folder", "out", "jobs"):
            check_text(f"The path of {name}", str(getattr(self, name)))
            if not getattr(self, name).is_absolute():
                raise UsageError(f"The path of {name}, {getattr(self, name)}, must be absolute.")

    @property
    def command(self) -> str:
        """The first argument."""
        return self.arguments[0]


def job_script(options: JobOptions, work: Work, step: Step = "all") -> str:
    """The job script: header, surroundings, the run, clean stop and restart when time is up.

    Every value is checked (header) or quoted for the shell (body); only `setup` lines are taken as
    they are. Raises UsageError for what cannot be combined.
    """
    ranked = work.command in RANKED
    if step != "all" and work.command != "region":
        raise UsageError(f"Only a region has scenes to share; {work.command} has no array.")
    nodes = 1 if step == "finish" else options.nodes
    together = nodes > 1 and not ranked
    ranks = _ranks(options) if ranked and _ranks(options) > 1 else 0
    logs = options.logs or str(work.jobs / "logs")
    check_text("The folder of the logs (set [job] logs)", logs, PATH)
    text = (
        _templates()
        .get_template(f"job.{options.scheduler}.j2")
        .render(
            title=_title(work, step),
            version=version("aftermap"),
            command=SUBMIT[options.scheduler] + (" <" if options.scheduler == "lsf" else ""),
            prefix=_PREFIX[options.scheduler],
            options=options,
            work=work,
            walltime=walltime_text(options.scheduler, options.seconds),
            cores=max(options.workers, options.gpus),
            megabytes=_megabytes(options, ranked),
            tasks=options.array if step == "scenes" else 0,
            logs=logs,
            watched=work.command not in TRIALS,
            kept=KEPT,
            stop="TERM" if ranks else "INT",
            scratch=shlex.quote(options.scratch) if options.scratch else '"${TMPDIR:-/tmp}"',
            python=_python(options),
            together=together,
            nodes=nodes,
            threads=max(1, options.workers // (options.gpus or 1)),
            ranks=ranks,
            exports=worker_exports(),
            worker=_worker(options),
            workers=nodes * _processes(options),
            extra=_extra(options, work, step, together),
            progress=_PROGRESS.get(work.command, "*/layers.zarr/damage/c/*"),
        )
    )
    return text.rstrip("\n") + "\n"


def _title(work: Work, step: Step) -> str:
    what = {"all": "", "scenes": ", its scenes", "finish": ", what comes after its scenes"}[step]
    return f"aftermap {work.command} into {shlex.quote(str(work.out))}{what}"


def _megabytes(options: JobOptions, ranked: bool) -> int:
    """Memory of a node: that of its workers, and of what leads them."""
    lead = 0 if ranked else _LED_BY
    count = _processes(options)
    return -(-(count * options.worker_bytes + lead) // (1 << 20))


def _processes(options: JobOptions) -> int:
    """Workers per node: one for each of several GPUs, else as asked; they can share one GPU."""
    return options.gpus if options.gpus > 1 else options.workers


def _ranks(options: JobOptions) -> int:
    """Processes of a training: one per GPU, or one per node."""
    return options.nodes * (options.gpus or 1)


def _python(options: JobOptions) -> list[str]:
    """The words that start Python with aftermap on a node."""
    if options.image is None:
        return [options.python or "python3"]
    devices = ["--nv"] if options.gpus or options.gres else []
    binds = [word for bind in options.binds for word in ("--bind", bind)]
    return ["apptainer", "exec", *devices, *binds, options.image, options.python or "python3"]


def _worker(options: JobOptions) -> list[str]:
    """The Dask command of a node's workers."""
    interface = ["--interface", options.interface] if options.interface else []
    if options.gpus > 1:
        return ["cuda", "worker", "--memory-limit", str(options.worker_bytes), *interface]
    count = ["--nworkers", str(options.workers), "--nthreads", "1"]
    return ["worker", *count, "--memory-limit", str(options.worker_bytes), *interface]


def _extra(options: JobOptions, work: Work, step: Step, together: bool) -> str:
    """What the job adds to aftermap's arguments, as shell text."""
    words = []
    if step == "finish":
        words.append("--finish")
    if step == "scenes":
        task = {"slurm": "SLURM_ARRAY_TASK_ID", "pbs": "PBS_ARRAY_INDEX", "lsf": "LSB_JOBINDEX"}
        words.append(f'--scenes "${task[options.scheduler]}/{options.array}"')
    if work.command in RANKED:
        return ""
    if together:
        count = options.nodes * _processes(options)
        words.append(f'--cluster "$private/scheduler.json" --workers {count}')
    elif options.gpus > 1:
        words.append(f"--cluster cuda --workers {options.gpus}")
    else:
        words.append(f"--cluster local --workers {options.workers}")
    words.append(f"--memory {shlex.quote(options.memory)}")
    return "".join(f" {word}" for word in words)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # a shell script: values are quoted by `q`
    )
    environment.filters["q"] = lambda value: shlex.quote(str(value))
    return environment
