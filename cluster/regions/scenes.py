"""The scenes of a region, a few at a time on one cluster: begun, gone on with, or set aside.

The pairs come from an iterator and as many are in flight as asked for, so that neither the graph
nor the client's memory grows with the region: of a scene that is over, a state file is left.
"""

from __future__ import annotations

import errno
import json
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

from distributed import Client

from ...kernels.buildings import Rules
from ...kernels.detections import LAYER, Suppression
from ...kernels.kernel import PATHS, Kernel
from ...scenes.catalog import CatalogImage, Pairing, ScenePair
from ...scenes.errors import AftermapError, NothingToAnalyse, Refused, UsageError
from ...scenes.raster import close_handles
from ...scenes.remote import is_remote
from ..assess import StorageGone, run_request
from ..budget import NoRoom
from ..fingerprint import differences, fingerprint_file, parts_of
from ..folder import MadeDifferently
from ..futures import Stopped
from ..heap import trim
from ..placement import NoWorker
from ..request import Request, kernel_of, rules_of
from ..run import Run
from .districts import Districts
from .file import RegionFile
from .folder import Busy, RegionFolder, SceneState
from .looks import Looks, remote_inputs

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_LEAST_FREE = 16 << 20
_SHOWN = 12
"""Changed scenes that a refusal lists."""

_READ = ("footprints", "gazetteer")
"""Options that name files which are read for every scene: their path and what is in them count."""

_FILES = (*_READ, *PATHS)
"""All options that name files; of weights the digest counts."""

_FREE = ("chunk", "hash_inputs", "device", "allow_remote")
"""Options that change no bit, or whose effect the kernel's facts tell."""


@dataclass(frozen=True, eq=False)
class Work:
    """A region whose options are checked and whose pairs are known."""

    region: RegionFile
    kernel: Kernel
    pairing: Pairing
    districts: Districts | None = None
    looks: Looks = field(default_factory=Looks)
    """The remote images of scenes that have been begun, as they are now."""

    def request(self, pair: ScenePair, out: Path, client: Client | None = None) -> Request:
        """The assessment of one scene."""
        given: dict[str, Any] = {} if client is None else {"cluster": client}
        if self.kernel.facts().get("device") == "cpu":
            given["device"] = "cpu"  # settled for the region: a client alone does not tell
        images = self.region.images
        return Request(
            pre=None if pair.pre is None else pair.pre.href,
            post=pair.post.href,
            out=out,
            scene=pair.scene_id,
            bbox=images.bbox,
            aoi=None if images.aoi is None else Path(images.aoi),
            memory=self.region.memory,
            **{"allow_remote": images.allow_remote, **self.region.assess, **given},
        )

    def ticket(self, pair: ScenePair) -> dict[str, Any]:
        """What a scene is made from, cheaply: nothing that has to be measured on its pixels.

        Of remote images it holds the addresses: thousands are not asked for before the first scene
        begins. Each run writes down what it found there, and `changes` compares with that.
        """
        images = {"pre": pair.pre, "post": pair.post}
        return self._shared | {
            "images": {role: _identity(image) for role, image in images.items() if image}
        }

    def look_at(self, folder: RegionFolder, pairs: Iterable[ScenePair]) -> None:
        """Look at the remote images of all scenes that have been begun."""
        records = (folder.run_record(pair.scene_id) for pair in pairs if pair.remote)
        self.looks.take(url for record in records if record for url in remote_inputs(record))

    def changes(
        self, pair: ScenePair, state: SceneState, record: Mapping[str, Any] | None
    ) -> list[str]:
        """In what a scene that has been begun differs from what it would be made from now.

        `record` is its run.json, where it has one: remote images are compared with what it says.
        """
        changed = differences(state.ticket, _plain(self.ticket(pair)))
        return changed + (self.looks.changes(record["facts"]["inputs"]) if record else [])

    @cached_property
    def asked(self) -> Request:
        """What is asked of every scene."""
        return Request(post="", **self.region.assess)

    @cached_property
    def rules(self) -> Rules:
        """How pixels become buildings and classes in every scene."""
        return rules_of(self.asked, self.kernel)

    @property
    def has_buildings(self) -> bool:
        """Whether its scenes tell buildings; a binary method without footprints does not."""
        return self.rules.finds_buildings or self.asked.footprints is not None

    @property
    def suppression(self) -> Suppression | None:
        """How the squares of its scenes become detections; None where damage areas are none."""
        scanned = LAYER in (layer.name for layer in self.kernel.layers)
        if not scanned or self.asked.footprints is not None:
            return None
        return Suppression(self.asked.nms, self.asked.nms_rule)

    @cached_property
    def _shared(self) -> dict[str, Any]:
        """What all scenes of the region have in common."""
        region = self.region
        options = {k: v for k, v in region.assess.items() if k not in (*_FREE, *_FILES)}
        files = {k: region.assess.get(k) for k in _READ} | {"aoi": region.images.aoi}
        kernel = {k: v for k, v in self.kernel.facts().items() if k not in PATHS}
        window = self.kernel.window
        return {
            "aftermap": version("aftermap"),
            "method": kernel | {"core_px": window.core, "halo_px": window.halo},
            "options": options,
            "bbox": region.images.bbox,
            "files": {
                name: [fingerprint_file(part) for part in parts_of(file)]
                for name, file in files.items()
                if file
            },
        }


@dataclass(frozen=True)
class Outcome:
    """What came of one scene in this process."""

    scene_id: str
    state: str
    """As in `SceneState`, or "busy" where another process works on it."""
    reason: str = ""
    """Why it is not done, or what else there is to say."""
    pixels: int = 0


def checked_method(region: RegionFile, client: Client | None = None) -> Kernel:
    """The method of a region with its options checked, before any image is looked at."""
    if "scene" in region.assess:
        raise UsageError(f"{region.file}: [assess] scene is set by the region itself; remove it.")
    asked = Request(post="", cluster=client or region.cluster, **region.assess)
    try:
        kernel = kernel_of(asked)
        rules_of(asked, kernel)
    except (UsageError, Refused) as error:
        raise type(error)(f"{region.file}: [assess] {error}") from error
    bands = region.assess.get("bands")
    if bands is not None and len(bands) != kernel.bands:
        raise UsageError(
            f"{region.file}: [assess] bands = {list(bands)} are {len(bands)}, and {kernel.method} "
            f"reads {kernel.bands}."
        )
    footprints = asked.footprints  # weights were read above
    if footprints is not None and not footprints.exists():
        raise Refused(f"{region.file}: [assess] footprints = {str(footprints)!r} does not exist.")
    return kernel


def in_share(pairs: Iterable[ScenePair], share: tuple[int, int] | None) -> Iterator[ScenePair]:
    """Every N-th pair, from the I-th on, counted from 1; all of them without a share."""
    if share is None:
        return iter(pairs)
    part, parts = share
    if not 1 <= part <= parts:
        raise UsageError(f"--scenes {part}/{parts} is no share: give I/N with I from 1 to N.")
    return islice(pairs, part - 1, None, parts)


def check_unchanged(work: Work, folder: RegionFolder, share: tuple[int, int] | None) -> None:
    """Refuse to go on with scenes that were made differently, before anything runs."""
    told: list[str] = []
    count = 0
    for pair in in_share(work.pairing.pairs, share):
        state, record = folder.state(pair.scene_id), folder.run_record(pair.scene_id)
        if state is None or record is None:
            continue
        changed = work.changes(pair, state, record)
        if changed:
            count += 1
            if len(told) < _SHOWN:
                told.append(f"{pair.scene_id}: {'; '.join(changed[:3])}")
    if count:
        listed = "\n  ".join(told)
        raise Refused(
            f"{folder.path} holds {count} scenes that were made differently:\n  {listed}\n"
            "Go on with what they were made with, give another folder with -o, or start these "
            "scenes over with --fresh; the others are kept."
        )


def run_scenes(
    work: Work,
    folder: RegionFolder,
    client: Client,
    pairs: Iterable[ScenePair],
    quiet: bool = True,
    fresh: bool = False,
) -> Iterator[Outcome]:
    """Work on scenes, `scenes_at_once` of them at a time; what came of each, as it comes.

    A scene that fails is set aside with its reason. With `fresh`, one that was made differently is
    begun anew. What would fail every other scene as well
    (a full disk, a cluster that is gone) is raised, after the scenes in flight have stopped.
    """
    stop, room = Event(), max(1, work.region.scenes_at_once)
    todo = iter(pairs)
    with ThreadPoolExecutor(room, thread_name_prefix="scene") as pool:
        running: set[Future[Outcome]] = set()
        try:
            while True:
                running |= {
                    pool.submit(_one, work, folder, client, pair, stop, fresh)
                    for pair in islice(todo, room - len(running))
                }
                if not running:
                    return
                over, running = wait(running, return_when=FIRST_COMPLETED)
                for future in over:
                    yield future.result()
        except BaseException:
            stop.set()
            if running and not quiet:
                print(
                    f"stopping: {len(running)} scenes end with the chunks that are running",
                    file=sys.stderr,
                    flush=True,
                )
            raise


def _one(
    work: Work, folder: RegionFolder, client: Client, pair: ScenePair, stop: Event, fresh: bool
) -> Outcome:
    try:
        with folder.scene_locked(pair.scene_id):
            return _scene(work, folder, client, pair, stop, fresh)
    except Busy:
        return Outcome(pair.scene_id, "busy", "another process works on it")
    finally:
        # Nothing of a scene is needed again, and this process lives as long as the region.
        close_handles()
        trim()


def _scene(
    work: Work, folder: RegionFolder, client: Client, pair: ScenePair, stop: Event, fresh: bool
) -> Outcome:
    """Run one scene, and write down what came of it."""
    known, ticket = folder.state(pair.scene_id), _plain(work.ticket(pair))
    run_folder = folder.run(pair.scene_id)
    lost = run_folder.record.exists() and folder.run_record(pair.scene_id) is None
    if lost or (known is not None and known.ticket != ticket):
        run_folder.clear()
    attempts = 1 if known is None else known.attempts + 1
    begun = SceneState(pair.scene_id, "running", ticket, attempts=attempts)
    folder.write_state(begun)
    started, reason, facts = time.perf_counter(), "", {}
    request = work.request(pair, run_folder.path, client)
    try:
        try:
            run = run_request(request, stop=stop)
        except MadeDifferently:
            if not fresh:
                raise
            run_folder.clear()
            run = run_request(request, stop=stop)
        state, facts = run.record["state"], _facts(run)
    except Stopped:
        raise
    except NothingToAnalyse as error:
        state, reason = "nothing", str(error)
    except Exception as error:
        _raise_fatal(error, folder, client)
        state, reason = "failed", _in_a_line(error)
    seconds = round(time.perf_counter() - started, 2)
    folder.write_state(SceneState(pair.scene_id, state, ticket, reason, attempts, seconds, facts))
    note = "its run.json could not be read, so it was begun anew" if lost else ""
    return Outcome(pair.scene_id, state, reason or note, facts.get("pixels", 0))


def _facts(run: Run) -> dict[str, Any]:
    plan = run.record["plan"]
    return {
        "run_id": run.record["run_id"],
        "chunks": plan["chunks"],
        "quarantined": len(run.quarantined),
        "pixels": plan["width"] * plan["height"],
    }


def _raise_fatal(error: Exception, folder: RegionFolder, client: Client) -> None:
    """Raise what the next scene would fail of too."""
    if isinstance(error, StorageGone | NoRoom | NoWorker):
        raise error
    try:
        free = shutil.disk_usage(folder.path).free
    except OSError:
        free = 0
    causes: list[BaseException | None] = [error]
    while causes[-1] is not None:
        causes.append(causes[-1].__cause__)
    if free < _LEAST_FREE or any(getattr(c, "errno", None) in _FULL for c in causes):
        raise StorageGone(
            f"The region's folder {folder.path} can no longer be written ({error}; {free >> 20} "
            "MiB free). What is done is kept: make room or restore the folder, and run the same "
            "command again."
        ) from error
    if client.status != "running":
        raise AftermapError(
            f"The cluster is gone ({_in_a_line(error)}). What is done is kept: run the same "
            "command again, and it goes on from there."
        ) from error


def _identity(image: CatalogImage) -> list[dict[str, Any]]:
    """The files of an image with their fingerprints; of a remote one, its address."""
    if is_remote(image.href):
        return [{"path": image.href}]
    try:
        return [fingerprint_file(part) for part in parts_of(image.href)]
    except OSError as error:
        return [{"path": image.href, "missing": error.strerror}]


def _plain(ticket: dict[str, Any]) -> dict[str, Any]:
    """A ticket as it comes back from a file."""
    return json.loads(json.dumps(ticket, default=str))


def _in_a_line(error: BaseException) -> str:
    said = " ".join(str(error).split()) or "no message"
    name = "" if isinstance(error, AftermapError) else f"{type(error).__name__}: "
    return f"{name}{said}"[:500]
