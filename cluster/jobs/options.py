"""What a batch system is asked for; every value checked before a script is made of it.

Directive lines (`#SBATCH`, `#PBS`, `#BSUB`) are not shell: nothing can be quoted in them. So each
value must look like what it is, and control characters are refused everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from dask.utils import parse_bytes

from ...scenes.errors import UsageError

Scheduler = Literal["slurm", "pbs", "lsf"]
SCHEDULERS: tuple[str, ...] = get_args(Scheduler)

SUBMIT = {"slurm": "sbatch", "pbs": "qsub", "lsf": "bsub"}
"""The command that each batch system is recognised by and takes jobs with."""

_WORD = re.compile(r"[A-Za-z0-9][\w.+@-]{0,127}", re.ASCII)
_NAME = re.compile(r"[A-Za-z][\w.-]{0,63}", re.ASCII)
_FEATURES = re.compile(r"[A-Za-z0-9][\w.|&*()\[\]-]{0,127}", re.ASCII)
_GRES = re.compile(r"[A-Za-z0-9][\w:.,/=-]{0,127}", re.ASCII)
_DIRECTIVE = re.compile(r"-[\w.,:;/=+@%\[\]()\"'<>&|* -]{1,255}", re.ASCII)
PATH = re.compile(r"/[\w./+@,:=~-]*")
_WALLTIME = re.compile(r"(?:(\d{1,3})-)?(\d{1,3}):([0-5]\d)(?::([0-5]\d))?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """The `[job]` table of a region file. Raises UsageError, naming the key, for what cannot be."""

    walltime: str
    """Longest time of one attempt: HH:MM, HH:MM:SS or D-HH:MM:SS. There is no default."""
    scheduler: str = "slurm"
    """One of SCHEDULERS."""
    name: str = "aftermap"
    """Name of the job in the queue."""
    account: str | None = None
    """Account or project that pays."""
    partition: str | None = None
    """Partition or queue."""
    qos: str | None = None
    """SLURM: quality of service."""
    constraint: str | None = None
    """SLURM: features a node must have."""
    nodes: int = 1
    """Nodes of one job; more than one are joined into one Dask cluster, by TLS."""
    workers: int = 1
    """Worker processes per node, one core each. They share one GPU; of several GPUs, each gets a
    process of its own and this is the number of cores."""
    memory: str = "4GiB"
    """Memory per worker."""
    gpus: int = 0
    """GPUs per node."""
    gres: str | None = None
    """SLURM: what to ask for in place of `gpu:<gpus>`, e.g. gpu:a100:4."""
    array: int = 0
    """Array tasks among which a region's scenes are shared; 0 makes one job of all scenes."""
    at_once: int | None = None
    """Array tasks that may run at the same time."""
    requeue: int = 10
    """How often a job that ran out of time starts again; 0 never."""
    signal_before: int = 180
    """Seconds before the end at which the run is asked to stop cleanly."""
    setup: tuple[str, ...] = ()
    """Shell lines that make aftermap available (`module load ...`); taken as they are."""
    scratch: str | None = None
    """Fast folder on a node for what workers spill; None takes the node's $TMPDIR or /tmp."""
    logs: str | None = None
    """Folder for the output of jobs; None takes `logs` beside the job script."""
    interface: str | None = None
    """Network interface between nodes, e.g. ib0; None leaves it to Dask."""
    image: str | None = None
    """Apptainer image that holds aftermap."""
    binds: tuple[str, ...] = ()
    """Folders that the image shall see besides the usual ones."""
    python: str | None = None
    """Python with aftermap on the nodes; None takes the submitting one, or the image's."""
    directives: tuple[str, ...] = ()
    """Further directives, without their #SBATCH, #PBS or #BSUB."""

    def __post_init__(self) -> None:
        for name in ("setup", "binds", "directives"):
            value = getattr(self, name)
            if isinstance(value, str) or not all(isinstance(line, str) for line in value):
                raise UsageError(f'[job] {name} is a list of texts: {name} = ["...", "..."].')
            object.__setattr__(self, name, tuple(value))
        if self.scheduler not in SCHEDULERS:
            raise UsageError(
                f"[job] scheduler = {self.scheduler!r} is unknown. Give one of "
                f"{', '.join(SCHEDULERS)} with --scheduler."
            )
        self._check_counts()
        self._check_texts()
        if self.seconds <= self.signal_before + 30:
            raise UsageError(
                f"[job] walltime = {self.walltime!r} leaves no time to work before the signal at "
                f"{self.signal_before} s from its end. Give a longer walltime, or a smaller "
                "signal_before."
            )
        if self.array and self.nodes > 1:
            raise UsageError(
                f"[job] array = {self.array} and nodes = {self.nodes} do not go together: a task "
                "of an array works on one node. Set one of them back."
            )

    @property
    def seconds(self) -> int:
        """The walltime in seconds."""
        return walltime_seconds(self.walltime)

    @property
    def worker_bytes(self) -> int:
        """Memory per worker in bytes."""
        return int(parse_bytes(self.memory))

    def _check_counts(self) -> None:
        least = {"nodes": 1, "workers": 1, "at_once": 1, "signal_before": 10}
        for name in ("nodes", "workers", "gpus", "array", "at_once", "requeue", "signal_before"):
            value = getattr(self, name)
            if value is None and name == "at_once":
                continue
            low = least.get(name, 0)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= 99_999:
                raise UsageError(
                    f"[job] {name} = {value!r} must be a whole number from {low} to 99999."
                )

    def _check_texts(self) -> None:
        patterns = {
            "name": _NAME,
            "account": _WORD,
            "partition": _WORD,
            "qos": _WORD,
            "interface": _WORD,
            "constraint": _FEATURES,
            "gres": _GRES,
            "logs": PATH,
        }
        for name, pattern in patterns.items():
            check_text(f"[job] {name}", getattr(self, name), pattern)
        for name in ("scratch", "image", "python"):
            check_text(f"[job] {name}", getattr(self, name))
        for name, lines in (("setup", self.setup), ("binds", self.binds)):
            for line in lines:
                check_text(f"[job] {name}", line)
        for line in self.directives:
            check_text("[job] directives", line, _DIRECTIVE)
        try:
            size = self.worker_bytes
        except (ValueError, AttributeError, TypeError):
            size = 0
        if size < 1 << 28:
            raise UsageError(
                f"[job] memory = {self.memory!r} is no amount of memory for a worker; give at "
                "least 256MiB, for example 4GiB."
            )
        if self.scheduler != "slurm":
            for name in ("qos", "constraint", "gres"):
                if getattr(self, name) is not None:
                    raise UsageError(
                        f"[job] {name} is SLURM's; say it in {self.scheduler}'s own words under "
                        "directives."
                    )


def job_options(table: Mapping[str, Any], **changes: Any) -> JobOptions:
    """The options of a `[job]` table, with what was said on the command line in their place."""
    known = {field.name for field in fields(JobOptions)}
    values = {**table, **{name: value for name, value in changes.items() if value is not None}}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(
            f"A job has no such options: {', '.join(unknown)}. The [job] table knows: "
            f"{', '.join(sorted(known))}."
        )
    if "walltime" not in values:
        raise UsageError(
            "A job needs a walltime, and there is no default that could surprise you: give "
            'walltime = "04:00:00" in the [job] table, or --walltime 04:00:00.'
        )
    return JobOptions(**values)


def check_text(name: str, value: str | None, pattern: re.Pattern[str] | None = None) -> None:
    """Refuse a text with control characters, or one that does not look as it must, by its name."""
    if value is None:
        return
    if not isinstance(value, str) or not value:
        raise UsageError(f"{name} = {value!r} must be a text that is not empty.")
    if any(not character.isprintable() for character in value):
        raise UsageError(
            f"{name} = {value!r} holds a newline, NUL or another character that cannot be printed; "
            "it would become a line of its own in the job script."
        )
    if pattern is not None and not pattern.fullmatch(value):
        raise UsageError(
            f"{name} = {value!r} cannot stand in a job script's header: letters, digits and the "
            f"usual signs only, as in {pattern.pattern}."
        )


def walltime_seconds(text: str) -> int:
    """Seconds of HH:MM, HH:MM:SS or D-HH:MM:SS. Raises UsageError for anything else."""
    found = _WALLTIME.fullmatch(text) if isinstance(text, str) else None
    seconds = 0
    if found:
        days, hours, minutes, rest = (int(part or 0) for part in found.groups())
        seconds = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    if not seconds:
        raise UsageError(
            f"walltime = {text!r} is no time; give HH:MM, HH:MM:SS or D-HH:MM:SS, for example "
            "04:00:00."
        )
    return seconds


def walltime_text(scheduler: str, seconds: int) -> str:
    """A walltime as the batch system wants it; LSF counts whole minutes."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes + (rest > 0 and scheduler == "lsf"), 60)
    return (
        f"{hours:02}:{minutes:02}" if scheduler == "lsf" else f"{hours:02}:{minutes:02}:{rest:02}"
    )
