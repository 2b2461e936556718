"""Images are decoded for the server in processes of their own, each within bounds.

What a stranger's image does to its decoder then befalls that process alone: one that crashes, hangs or takes
too much memory is replaced, and the request that asked for the image is told so.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import signal
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from ..cluster.catalog.files import Files
from ..cluster.catalog.pixels import forget_photos
from ..cluster.catalog.tables import Scene
from ..cluster.catalog.tagging import Square, square_of
from ..cluster.status.words import without_folders
from ..scenes.errors import AftermapError
from ..scenes.handles import close_handles
from ..scenes.scene import ReadError
from .limits import PATIENCE_S, SQUARES, TILES, Busy
from .overviews import Unprepared
from .tiles import Place, Tiles

WORKERS = min(4, max(2, os.cpu_count() or 1))
"""Images that are decoded at once."""

_PREPARING_S = 3600.0
"""For the overviews of one raster."""

_GIVEN_UP_S = 60.0
"""How long nobody tries again what a process has died of, or has not come to an end with."""

_PARENT_DIES = 1
"""Of prctl: PR_SET_PDEATHSIG."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Bounds:
    """What a process may take for one image."""

    seconds: float = 60
    """To read a part of it; to prepare a whole one it has an hour."""
    memory: int = 3 << 30
    """Bytes beside what every process takes. The largest photo that is let in takes 1.2 GiB, and two are
    kept."""


class Decoder:
    """Reads tiles and squares of a catalog's scenes, none of it in this process."""

    def __init__(self, files: Files, bounds: Bounds | None = None) -> None:
        """Starts nothing: the first image does."""
        self._files = files
        self._bounds = bounds or Bounds()
        self._quick, self._slow = (_Pool(count, self._bounds.memory) for count in (WORKERS, 1))
        self._preparing: dict[tuple[int, str], ProcessFuture] = {}
        self._asked = defaultdict[int, set[ProcessFuture]](set)
        """By scene, what is not answered yet."""
        self._given_up: dict[int, tuple[float, str]] = {}
        """By scene, until when, and what is said of it."""
        self._lock = threading.Lock()
        self.close = weakref.finalize(self, _stop, self._quick, self._slow)
        """End the processes, in whatever they are at."""

    def tile(self, scene: Scene, before: Scene | None, where: Place, layer: str) -> bytes:
        """A tile as PNG at full zoom, where nothing may be lost, else as WebP; see `Tiles.read`.

        Raises what that raises, ReadError also for an image that its decoder cannot stand, and Busy while
        an image is prepared, or so many are read that there is no turn.
        """
        task = self._files, scene, before, where, layer
        try:
            with TILES:
                return self._read(scene, _tile, *task, False)
        except Unprepared:
            self._prepare(scene, layer, task)
        # Where overviews could not be kept they are not there now: then it is read without.
        with TILES:
            return self._read(scene, _tile, *task, True)

    def square(
        self, files: Files, scene: Scene, before: Scene | None, place: tuple[int, int, int]
    ) -> Square:
        """As `square_of`, which somebody who tags asks for."""
        with SQUARES:
            return self._read(scene, square_of, files, scene, before, place)

    def _read(self, scene: Scene, function: Callable[..., Answer], *given: Any) -> Answer:
        """What a function finds in one of the processes."""
        future = self._begun(scene, function, *given)
        try:
            return self._answer(scene, future, self._bounds.seconds + PATIENCE_S)
        finally:
            future.cancel()  # if it is not over, nobody waits for it any more
            self._asked[scene.id].discard(future)

    def _begun(self, scene: Scene, function: Callable[..., Any], *given: Any) -> ProcessFuture:
        with self._lock:
            until, told = self._given_up.get(scene.id, (0.0, ""))
            if time.monotonic() < until:
                raise ReadError(told)
            future = self._quick.schedule(_bounded, (function, *given), self._bounds.seconds)
            self._asked[scene.id].add(future)
            return future

    def _prepare(self, scene: Scene, layer: str, task: tuple[Any, ...]) -> None:
        """Have overviews made, and return once they are; raises Busy before."""
        key = scene.id, layer
        with self._lock:
            future = self._preparing.get(key)
            if future is None:
                future = self._slow.schedule(_bounded, (_tile, *task, True), timeout=_PREPARING_S)
                self._preparing[key] = future
        try:
            self._answer(
                scene,
                future,
                PATIENCE_S,
                "The picture is looked at for the first time and prepared",
            )
        finally:
            if future.done():
                with self._lock:
                    self._preparing.pop(key, None)

    def _answer(
        self,
        scene: Scene,
        future: ProcessFuture,
        wait_s: float,
        meanwhile: str = "Many pictures are read",
    ) -> Any:
        """What a process has found."""
        try:
            return future.result(wait_s)
        except ProcessExpired as end:
            raise self._give_up(
                scene, f"what decodes it ended by itself (code {end.exitcode})"
            ) from None
        except CancelledError:
            raise ReadError(f"{scene.name} cannot be read, as others saw.") from None
        except BrokenProcessPool:
            raise Busy("What reads pictures has ended, and begins anew.") from None
        except TimeoutError:
            if not future.done():
                raise Busy(f"{meanwhile} at this moment.") from None
            raise self._give_up(scene, "it takes too long to decode") from None

    def _give_up(self, scene: Scene, why: str) -> ReadError:
        """Keep what is wrong with a scene, and let none of its other parts take a process."""
        told = f"{scene.name} cannot be read: {why}."
        with self._lock:
            self._given_up[scene.id] = time.monotonic() + _GIVEN_UP_S, told
            others = list(self._asked[scene.id])
        for other in others:
            other.cancel()
        return ReadError(told)


class _Pool:
    """Processes that are replaced one by one; all at once where one ended that had nothing to do.

    pebble then gives up the whole pool, which by itself would answer no request ever after.
    """

    def __init__(self, count: int, memory: int) -> None:
        self._count = count
        self._memory = memory
        self._pool = self._begun()
        self._stopped = False
        self._lock = threading.Lock()

    def schedule(
        self, function: Callable[..., Any], given: tuple[Any, ...], timeout: float | None = None
    ) -> ProcessFuture:
        """What comes of a function's call in one of the processes."""
        with self._lock:
            if not self._pool.active and not self._stopped:
                _end(self._pool)
                self._pool = self._begun()
            return self._pool.schedule(function, given, timeout=timeout)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            _end(self._pool)

    def _begun(self) -> ProcessPool:
        # Forked from a process without threads that has imported all this, a worker starts in milliseconds.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["__main__", __name__])
        return ProcessPool(
            self._count, initializer=_confine, initargs=(self._memory,), context=context
        )


def _end(pool: ProcessPool) -> None:
    pool.stop()
    pool.join()


def _stop(*pools: _Pool) -> None:
    for pool in pools:
        pool.stop()


def _confine(memory: int) -> None:
    """Bound this process: its memory, and its life by that of the server."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's, which ends this process
    ctypes.CDLL(None).prctl(_PARENT_DIES, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = _data_bytes() + memory
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _data_bytes() -> int:
    """What this process has allocated, as RLIMIT_DATA counts it."""
    facts = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(facts["VmData"].split()[0]) << 10


def _bounded(function: Callable[..., Answer], files: Files, scene: Scene, *given: Any) -> Answer:
    """Call a function for a scene, in the process that decodes."""
    try:
        return function(files, scene, *given)
    except MemoryError:
        raise _too_large(scene) from None
    except TimeoutError as error:  # of a disk elsewhere
        raise ReadError(f"{scene.name} cannot be read: {error}.") from None
    except (AftermapError, ReadError) as error:
        if isinstance(error.__cause__, MemoryError):
            raise _too_large(scene) from None
        # Where files lie is nobody's business who looks at them.
        raise type(error)(without_folders(str(error))) from None


def _too_large(scene: Scene) -> ReadError:
    # What other images have left must not take the room of the next one.
    forget_photos()
    close_handles()
    return ReadError(f"{scene.name} cannot be read: it takes more memory than one image is given.")


def _tile(
    files: Files, scene: Scene, before: Scene | None, where: Place, layer: str, preparing: bool
) -> bytes:
    image = Tiles(files, preparing).read(scene, before, where, layer)
    if where.whole:
        return image.render(img_format="PNG", zlevel=3)
    return image.render(img_format="WEBP", quality=85)
