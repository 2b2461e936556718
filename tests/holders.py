"""Another process that holds a folder, as a run or a training that is at work does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CODE = """
import sys, time
from pathlib import Path
from aftermap.scenes.holding import holding
with holding(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(folder: Path, work: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a folder for some work, killed as the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", _CODE, str(folder), work], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
