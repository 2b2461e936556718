"""Commands that are killed while they work."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import torch


def same_threads() -> dict[str, str]:
    """This environment, with this process's number of threads: then figures agree to the bit."""
    return os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}


def kill(command: Sequence[str], begun: Callable[[], bool], seconds: float = 60) -> None:
    """Start a command with this process's number of threads; SIGKILL it and its children once `begun`.

    Fails where it is over before, or is not so far after some seconds.
    """
    process = subprocess.Popen(
        command, env=same_threads(), start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + seconds
        while not begun():
            assert process.poll() is None, "it was over before it could be killed"
            assert time.monotonic() < until, "it never came so far"
            time.sleep(0.005)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        ended = process.wait()
    assert ended == -signal.SIGKILL, "it was over before it could be killed"
