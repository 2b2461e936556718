"""Batch systems for tests: `qsub` and `bsub` that run the scripts they are given, for real."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path


def outputs(run: Path) -> dict[str, str]:
    """Digest of every file of a run that must not depend on how it was made."""
    free = {"run.json", "report.html", ".lock"}
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in free
    }


PBS = """#!{python}
import os, pathlib, re, subprocess, sys
here = pathlib.Path(sys.argv[0]).parent
words = sys.argv[1:]
script = pathlib.Path(words[-1])
wait = words[words.index("-W") + 1] if "-W" in words else ""
with (here / "asked").open("a") as log:
    print("qsub", *words, file=log)
count = sum(1 for _ in (here / "asked").open())
job = f"{{count}}.head"
text = script.read_text()
if "#PBS -l walltime=" not in text:
    sys.exit("qsub: no walltime")
array = re.search(r"^#PBS -J 1-(\\d+)", text, re.M)
surroundings = {{k: os.environ[k] for k in ("PATH", "HOME")}}
for task in range(1, int(array[1]) + 1) if array else [0]:
    name = f"{{count}}[{{task}}].head" if task else job
    more = {{"PBS_JOBID": name}} | ({{"PBS_ARRAY_INDEX": str(task)}} if task else {{}})
    with (here / f"log-{{count}}-{{task}}").open("w") as log:
        subprocess.run(["bash", script], env=surroundings | more, stdout=log, stderr=log)
print(f"{{count}}[].head" if array else job)
"""
"""A qsub of which the last word is the script; it gives the job nothing but PATH and HOME."""

LSF = """#!{python}
import os, pathlib, re, subprocess, sys
here = pathlib.Path(sys.argv[0]).parent
text = sys.stdin.read()
with (here / "asked").open("a") as log:
    print("bsub", *sys.argv[1:], file=log)
count = sum(1 for _ in (here / "asked").open())
spooled = here / f"spool-{{count}}"
spooled.write_text(text)
array = re.search(r'^#BSUB -J "[^"\\[]*\\[1-(\\d+)', text, re.M)
kept = re.search(r'^#BSUB -env "([^"]*)"', text, re.M)[1].split(",")
surroundings = {{k: os.environ[k] for k in kept if k in os.environ}}
again = re.search(r'^#BSUB -Q "(\\d+)"', text, re.M)
for task in range(1, int(array[1]) + 1) if array else [0]:
    more = {{"LSB_JOBID": str(count), "LSB_JOBINDEX": str(task)}}
    with (here / f"log-{{count}}-{{task}}").open("w") as log:
        while True:
            done = subprocess.run(["bash", spooled], env=surroundings | more, stdout=log, stderr=log)
            if again is None or done.returncode != int(again[1]):
                break
print(f"Job <{{count}}> is submitted to default queue <normal>.")
"""
"""A bsub that reads the script from its input, passes on what -env names, and does what -Q says."""


WORKERS = """#!/bin/bash
# Start a worker's job and come back, as a batch system does.
here=$(dirname "$0")
[ -n "$1" ] && script=$1 || {{ script=$(mktemp "$here/spool.XXXX"); cat > "$script"; }}
cp "$script" "$here/script"
env -i PATH="$PATH" HOME="$HOME" setsid bash "$here/script" > "$here/worker.log" 2>&1 &
echo $! >> "$here/pids"
echo "Job <$!> is submitted to default queue <normal>."
"""
"""A qsub or bsub for jobs that are Dask workers."""

CANCEL = """#!/bin/bash
kill -- "-$1" && echo "$1" >> "$(dirname "$0")/cancelled"
"""
"""A qdel or bkill."""


def path_without(names: tuple[str, ...], folder: Path) -> str:
    """The PATH as if these programs were not installed; `folder` gets links to their neighbours."""
    places = []
    for number, place in enumerate(map(Path, os.environ["PATH"].split(os.pathsep))):
        if any((place / name).exists() for name in names):
            mirror = folder / str(number)
            mirror.mkdir(parents=True)
            for program in place.iterdir():
                if program.name not in names:
                    (mirror / program.name).symlink_to(program)
            place = mirror
        places.append(str(place))
    return os.pathsep.join(places)


def install_for_workers(folder: Path, submit: str, cancel: str) -> None:
    """Put a batch system for Dask workers into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in ((submit, WORKERS.format()), (cancel, CANCEL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


def install(folder: Path, name: str) -> Path:
    """Put `qsub` or `bsub` into a folder; what it is asked goes to `asked` beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text({"qsub": PBS, "bsub": LSF}[name].format(python=sys.executable))
    program.chmod(0o755)
    return program
