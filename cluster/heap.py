"""Memory that a process has freed, handed back to the system."""

from __future__ import annotations

import ctypes
import sys


def trim() -> None:
    """Hand back what the C library keeps of freed memory; does nothing where it is not glibc.

    Workers keep freed memory while chunks are worked on (`cluster/machine.py` says why); between
    the parts of a run it is only in the way.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):
            libc.malloc_trim(0)
