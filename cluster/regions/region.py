"""A region: many scenes as one run, from a file that names its images to merged results."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from distributed import Client

from ...scenes.catalog import Pairing, ScenePair
from ...scenes.errors import NothingToAnalyse, UsageError
from ..client import QUEUES, check_cluster, connected, dashboard
from ..machine import worker_memory
from ..progress import RunProgress
from ..run import Outputs
from .districts import read_districts
from .file import RegionFile, read_region_file
from .finish import finish_region, state_of
from .folder import RegionFolder
from .pairs import find_pairs
from .scenes import Work, check_unchanged, checked_method, in_share, run_scenes

_QUEUE = {
    "walltime": "walltime",
    "account": "account",
    "partition": "queue",
    "gres": "gres",
    "setup": "setup",
    "scratch": "scratch",
    "interface": "interface",
    "directives": "directives",
}
"""Keys of [job] to the options of a cluster whose workers are batch jobs."""


@dataclass(frozen=True)
class RegionRun(Outputs):
    """A region's folder, and what became of its scenes; read when asked."""

    counts: Mapping[str, int]
    """State to number of scenes: of the whole region, or of the share that was worked on."""
    share: tuple[int, int] | None = None

    @property
    def districts(self) -> pd.DataFrame:
        """Totals per district, where the region file names districts."""
        return pd.read_csv(self.path / "districts.csv")

    @cached_property
    def record(self) -> dict[str, Any]:
        """region.json; empty before the region was merged."""
        return RegionFolder(self.path).read_record()

    @property
    def exit_code(self) -> int:
        """0 done, 4 with scenes that failed, are missing or have chunks set aside, 5 nothing."""
        known = {name for name, count in self.counts.items() if count}
        if known - {"done", "nothing"}:
            return 4
        return 5 if known == {"nothing"} and self.share is None else 0


def run_region(
    region: RegionFile | str | Path,
    *,
    client: Client | None = None,
    share: tuple[int, int] | None = None,
    finish_only: bool = False,
    fresh: bool = False,
    quiet: bool = True,
) -> RegionRun:
    """Assess every scene of a region, and merge the results; goes on where it stopped.

    `share` (I, N) works on every N-th scene from the I-th on and merges nothing: tasks of a job
    array work at the same time in one folder. `finish_only` merges what is there. Scenes that
    fail are set aside with their reason and tried again by the same call; scenes that were made
    differently are refused before anything runs, and started over with `fresh`. Without a
    `client` the cluster that the file names is started and stopped. Raises UsageError, Refused or
    NothingToAnalyse in words, and AftermapError for what stops every scene: a full disk, a
    cluster that is gone.
    """
    if finish_only and fresh:
        raise UsageError(
            "--finish merges scenes as they are, and --fresh starts some of them over: give one of "
            "them. Run the region with --fresh, then --finish."
        )
    region = region if isinstance(region, RegionFile) else read_region_file(region)
    work = prepare_region(region, client)
    folder = RegionFolder(region.out)
    folder.check_foreign(region.name)
    if not quiet:
        print(describe_pairs(work.pairing), file=sys.stderr, flush=True)
    work.look_at(folder, in_share(work.pairing.pairs, share))
    _say(work.looks.told(), quiet)
    if not fresh:
        check_unchanged(work, folder, share)
    return run_work(work, folder, client, None if finish_only else share, finish_only, quiet, fresh)


def prepare_region(region: RegionFile, client: Client | None = None) -> Work:
    """Check a region's options and find its pairs; no pixel is read and nothing is written."""
    check_cluster(client or region.cluster, region.workers)
    worker_memory(region.memory, 1)  # refuses what is no amount
    kernel = checked_method(region, client)
    districts = None
    if region.districts is not None:
        districts = read_districts(region.districts, region.district_column)
    pairing = find_pairs(
        region.images,
        needs_before="pre" in kernel.inputs,
        crs=region.assess.get("crs"),
        gcps=region.assess.get("gcps", False),
    )
    if not pairing.pairs:
        raise NothingToAnalyse(
            f"{region.file} gives no pair of images: {_counted(pairing.counts)}."
        )
    return Work(region, kernel, pairing, districts)


def run_work(
    work: Work,
    folder: RegionFolder,
    client: Client | None = None,
    share: tuple[int, int] | None = None,
    finish_only: bool = False,
    quiet: bool = True,
    fresh: bool = False,
) -> RegionRun:
    """Work on the scenes that are not finished, then merge; see `run_region`."""
    started = time.strftime("%FT%TZ", time.gmtime())
    folder.make(work.region.name)
    folder.check_foreign(work.region.name)
    with folder.locked(share):
        if not finish_only:
            _run(work, folder, client, share, quiet, fresh)
        if share is not None:
            mine = in_share(work.pairing.pairs, share)
            return RegionRun(folder.path, Counter(state_of(folder, p) for p in mine), share)
        record = finish_region(work, folder, started)
    return RegionRun(folder.path, record["counts"])


def describe_pairs(pairing: Pairing) -> str:
    """The choice of pairs in words: figures, what was left out, and the first pairs with reasons."""
    lines = [f"pairs      {len(pairing.pairs)}: {_counted(pairing.counts)}"]
    lines += [f"left out   {line}" for line in pairing.left_out[:8]]
    if len(pairing.left_out) > 8:
        lines.append(f"left out   ... and {len(pairing.left_out) - 8} lines more in region.json")
    lines += [f"scene      {pair.scene_id}: {pair.why}" for pair in pairing.pairs[:8]]
    if len(pairing.pairs) > 8:
        lines.append(f"scene      ... and {len(pairing.pairs) - 8} more")
    return "\n".join(lines)


def _run(
    work: Work,
    folder: RegionFolder,
    client: Client | None,
    share: tuple[int, int] | None,
    quiet: bool,
    fresh: bool,
) -> None:
    """Work on every scene of a share that is not finished."""
    pairs = work.pairing.pairs
    mine = len(list(in_share(pairs, share)))
    left = [pair for pair in in_share(pairs, share) if not is_finished(work, folder, pair)]
    _say(f"scenes     {mine}, {mine - len(left)} of them finished", quiet)
    if not left:
        return
    region = work.region
    where = client or region.cluster
    with connected(where, region.workers, region.memory, **queue_options(region, where)) as cluster:
        _say(f"dashboard  {dashboard(cluster)}", quiet)
        with RunProgress(mine, mine - len(left), quiet, "scenes") as progress:
            for outcome in run_scenes(work, folder, cluster, left, quiet, fresh):
                if outcome.state != "nothing" and (outcome.state != "done" or outcome.reason):
                    _say(f"scene {outcome.scene_id} {outcome.state}: {outcome.reason}", quiet)
                progress.advance(outcome.pixels)


def queue_options(region: RegionFile, cluster: str | Client) -> dict[str, Any]:
    """What workers that are batch jobs are asked for, from the file's [job] table."""
    if cluster not in QUEUES:
        return {}
    return {_QUEUE[name]: value for name, value in region.job.items() if name in _QUEUE}


def is_finished(work: Work, folder: RegionFolder, pair: ScenePair) -> bool:
    """Whether a scene has all of its results, made from what they would be made from now."""
    state = folder.state(pair.scene_id)
    if state is None or not folder.finished(state):
        return False
    record = folder.run_record(pair.scene_id)
    if record is None and pair.remote:  # nobody wrote down which images showed nothing
        return False
    return not work.changes(pair, state, record)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _say(text: str, quiet: bool) -> None:
    if text and not quiet:
        print(text, file=sys.stderr, flush=True)
