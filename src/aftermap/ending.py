"""How a command ends: in words and with an exit code, whatever stopped it."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress

from aftermap.scenes.errors import AftermapError

INTERRUPTED = 130


def carry_out(command: Callable[[], object]) -> None:
    """Run a command to its end; expected failures are told on standard error, without a traceback.

    SIGTERM, which batch systems send before they kill, stops it as cleanly as Ctrl-C. Exits with
    the code of the failure, 130 for both signals.
    """
    stopped, interrupted = threading.Event(), threading.Event()

    def leave() -> None:
        # A thread that works on in torch is ended by C++ as the interpreter goes, with an abort.
        if interrupted.is_set():
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):  # whoever read it was interrupted, too
                    stream.flush()
            os._exit(INTERRUPTED)

    atexit.register(leave)  # the first one that is registered is called last

    def stop(*_: object) -> None:
        stopped.set()
        logging.disable()  # libraries log of connections that break as all is taken down
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    logging.getLogger("distributed.client").disabled = True  # of a lost scheduler we tell ourselves
    try:
        command()
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer has caught the interrupt and says nothing
            interrupted.set()
            _say_interrupted()
        raise
    except Exception as error:
        if stopped.is_set():  # something failed because everything was being stopped
            interrupted.set()
            _say_interrupted()
            sys.exit(INTERRUPTED)
        if isinstance(error, AftermapError):
            print(f"aftermap: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        traceback.print_exc()
        sys.exit(1)


def _say_interrupted() -> None:
    print("\naftermap: interrupted. Run the same command again to go on.", file=sys.stderr)
