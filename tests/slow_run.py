"""A real run in a process of its own that takes its time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

SLOW = (
    "import sys, time, aftermap.kernels.apply as apply\n"
    "import aftermap.cluster.job as job\n"
    "whole = apply.apply_chunk\n"
    "def slow(*a):\n    time.sleep(float(sys.argv[4])); return whole(*a)\n"
    "job.apply_chunk = slow\n"
    "import aftermap as am\n"
    "from aftermap.cluster.client import connected\n"
    "with connected('threads', workers=1) as client:\n"
    "    am.assess(*sys.argv[1:3], out=sys.argv[3], method='difference', chunk=512, client=client)\n"
)
"""The real run, with chunks that take as long as they would on a large scene."""


def begin(files: tuple[Path, Path], out: Path, seconds: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, *map(str, files), str(out), str(seconds)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for_chunks(out: Path, count: int) -> None:
    until = time.monotonic() + 90
    while len(list(out.glob("layers.zarr/damage/c/*/*"))) < count:
        assert time.monotonic() < until, "the run did not get that far"
        time.sleep(0.05)
