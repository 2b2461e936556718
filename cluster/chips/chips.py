"""Chips from images: find, screen, pair, label, divide, write; or go on with it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed import Client

from ...scenes.errors import AftermapError, NothingToAnalyse
from ...scenes.holding import watched
from ...scenes.patches import Grounds, share_grounds
from ...scenes.remote import RemoteFile, is_remote
from ..client import check_cluster, connected, dashboard
from ..fingerprint import digest, fingerprint_input
from ..machine import worker_memory
from ..request import versions
from ..status import listed
from .folder import ChipsFolder
from .labels import Labels, labelled, open_labels, unread_levels
from .masks import Masks, open_masks, with_masks
from .plan import Funnel, Spot, counted, divided, facts_of, find_spots, rows_of, shares
from .request import ChipsRequest
from .screening import Screening, screen_all
from .sheets import Found, sheets_of_images, sheets_of_pair
from .write import Writer, masked, write_all

_ASKED_AT_ONCE = 16
"""Images whose fingerprints are taken at a time."""


@dataclass(frozen=True)
class Chips:
    """What came of making chips, or would."""

    path: Path
    funnel: Mapping[str, int]
    splits: Mapping[str, Mapping[str, Mapping[str, int]]]
    """Of "main" and "pre-training": part to label to places."""
    most_bytes: int
    """Of all images and masks before compression."""
    unreadable: tuple[str, ...] = ()
    """Images of which patches cannot be read, with the reason."""
    notes: tuple[str, ...] = ()
    written: bool = False

    @property
    def exit_code(self) -> int:
        """0 done, 4 with images that cannot be read."""
        return 4 if self.unreadable else 0

    @property
    def labelled(self) -> bool:
        """Whether anything can be learnt from them."""
        return any(self.funnel[f"{label} places"] for label in ("damaged", "intact"))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "chips": str(self.path),
            "written": self.written,
            "funnel": dict(self.funnel),
            "splits": self.splits,
            "bytes_at_most": self.most_bytes,
            "unreadable": list(self.unreadable),
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """The figures, for the command line."""
        lines = [*Funnel(self.funnel).lines(), ""]
        for name, parts in self.splits.items():
            told = ", ".join(f"{part} {_labels(labels)}" for part, labels in sorted(parts.items()))
            lines.append(f"{name:<13} {told or 'not divided'}")
        lines.append(f"{'on disk':<13} at most {self.most_bytes / 1e6:,.1f} MB")
        lines += listed("note", self.notes, 20, 13)
        if self.unreadable:
            lines += listed("cannot be read", self.unreadable, 10, 14)
            lines.append("Run the same command again to try them once more.")
        if self.written:
            lines.append(f"{'chips':<13} {self.path}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Work:
    """A request, checked: what will be cut, and by what it is labelled."""

    request: ChipsRequest
    found: Found
    grounds: Grounds
    labels: Labels | None
    facts: Mapping[str, Any] = field(default_factory=dict)


def make_chips(request: ChipsRequest, quiet: bool = True) -> Chips:
    """Cut chips from images and write them to a folder; goes on where it stopped.

    Paper 001 sections III.A to III.D. With `dry_run` every patch is screened and nothing is
    written but what is known of each image, which the real run then believes. Raises UsageError or
    Refused in words before anything is read, NothingToAnalyse where no chip survives.
    """
    work = _prepared(request)
    request = work.request
    folder = ChipsFolder(request.out)
    with folder.locked(), _told(folder):
        record = folder.begin(work.facts, request.fresh)
        if record.get("state") == "done" and folder.whole():
            _say(f"{folder.path} is complete already; nothing to do. --fresh starts over.", quiet)
            return _again(folder.path, record)
        record |= {"attempts": record["attempts"] + 1, "versions": versions()}
        folder.write(record)
        with _client(request) as client:
            watched(folder.path, dashboard(client))
            _say(f"dashboard  {dashboard(client)}", quiet)
            seen, spots, chips = _planned(client, work, folder, quiet)
            if not request.dry_run:
                _write(client, work, folder, record, spots, quiet)
                done = "quarantined" if seen.reasons or work.found.unreadable else "done"
                record |= {"state": done, "finished": time.strftime("%FT%TZ", time.gmtime())}
                chips = Chips(**vars(chips) | {"written": True})
        folder.write(record | {"result": chips.to_dict()})
    return chips


def _prepared(request: ChipsRequest) -> _Work:
    """Check a request: its images, its labels, its cluster. No pixel of an image is read."""
    if request.region is None:
        found = sheets_of_pair(request)
    else:
        request, images = request.with_region()
        found = sheets_of_images(request, images)
    check_cluster(request.cluster, request.workers)
    worker_memory(request.memory, 1)  # refuses what is no amount
    labels: Labels | None = open_labels(request)
    if request.masks is not None:
        labels = open_masks(request.masks, request.size)
    grids = [sheet.patches for sheet in found.sheets]
    wanted = None if found.area is None else [grid.touching(found.area) for grid in grids]
    grounds = share_grounds(grids, wanted)
    return _Work(request, found, grounds, labels, _facts(request, found, labels))


def _facts(request: ChipsRequest, found: Found, labels: Labels | None) -> dict[str, Any]:
    """What makes two sets of chips the same."""
    files = sorted({file for sheet in found.sheets for s in sheet.shots for file in s.files})
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        prints = dict(zip(files, pool.map(_print, files), strict=True))
    sheets = {
        sheet.name: {
            "grid": [list(sheet.patches.grid.shape), list(sheet.patches.grid.affine)[:6]],
            "crs": sheet.patches.crs,
            "images": {
                "/".join(shot.key): {prints[file]["path"]: prints[file] for file in shot.files}
                for shot in sheet.shots
            },
        }
        for sheet in found.sheets
    }
    area = None if found.area is None else found.area.wkt
    return {
        "images": sheets,
        "area": area,
        "options": request.options(),
        "labels": None if labels is None else labels.facts(),
    }


def _print(file: str) -> dict[str, Any]:
    try:
        return fingerprint_input(RemoteFile.of(file) if is_remote(file) else Path(file))
    except OSError as error:  # a file that cannot be read is set aside when its turn comes
        return {"path": file, "fault": error.strerror}


def _planned(
    client: Client, work: _Work, folder: ChipsFolder, quiet: bool
) -> tuple[Screening, list[Spot], Chips]:
    """Screen, pair, label and divide; raises NothingToAnalyse where no place is left."""
    request, sheets = work.request, work.found.sheets
    seen = screen_all(
        client, sheets, work.grounds, request.screens, request.read_as, folder.screens, quiet
    )
    spots, funnel = find_spots(sheets, work.grounds, seen)
    notes = list(work.found.notes)
    if isinstance(work.labels, Masks):
        spots, more = with_masks(spots, work.labels, sheets, work.grounds, seen)
        notes += more
    elif work.labels is not None:
        spots = labelled(client, spots, work.labels)
        notes += unread_levels(work.labels)
    funnel = counted(spots, funnel)
    if not spots and not seen.reasons:
        folder.clear()  # so that other thresholds can be tried
    _check_left(spots, funnel, seen)
    spots, more = divided(spots, request.seed)
    images, masks = len(rows_of(spots)), len(masked(spots))
    unreadable = [
        f"{sheets[i].name} {sheets[i].shots[j].name}: {reason}"
        for (i, j), reason in seen.reasons.items()
    ]
    chips = Chips(
        request.out,
        funnel.counts,
        shares(spots),
        (3 * images + masks) * request.size**2,
        (*work.found.unreadable, *unreadable),
        (*notes, *more),
    )
    return seen, spots, chips


def _write(
    client: Client,
    work: _Work,
    folder: ChipsFolder,
    record: dict[str, Any],
    spots: Sequence[Spot],
    quiet: bool,
) -> None:
    """Write the chips, then the tables. Chips of another plan, made when fewer images could be
    read, make way."""
    request = work.request
    plan = digest({"chips": facts_of(spots)})
    if record.get("plan") != plan:
        folder.clear_chips()
        record["plan"] = plan
        folder.write(record)
    writer = Writer(
        request.out.absolute(), request.format, request.size, request.read_as, work.labels
    )
    write_all(client, writer, spots, quiet)
    if not folder.tables:  # those that are there may have been edited
        folder.write_tables(spots, request.format)


def _check_left(spots: Sequence[Spot], funnel: Funnel, seen: Screening) -> None:
    if spots:
        return
    counts = funnel.counts
    told = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
    why = next(iter(seen.reasons.values()), "")
    raise NothingToAnalyse(
        f"No chip is left: {told}. "
        + (f"Some images cannot be read: {why} " if why else "")
        + "A chip needs a kept patch before and one after the event at the same ground; the screens "
        "are changed or switched off with --black, --snow and --variance."
    )


def _again(path: Path, record: Mapping[str, Any]) -> Chips:
    """What an earlier run said of its chips."""
    told = record["result"]
    return Chips(
        path,
        told["funnel"],
        told["splits"],
        told["bytes_at_most"],
        tuple(told["unreadable"]),
        tuple(told["notes"]),
        written=True,
    )


def _client(request: ChipsRequest) -> AbstractContextManager[Client]:
    if isinstance(request.cluster, Client):
        return nullcontext(request.cluster)
    return connected(request.cluster, request.workers, request.memory, **request.queue)


@contextmanager
def _told(folder: ChipsFolder) -> Iterator[None]:
    """Say in words that the folder can no longer be written."""
    try:
        yield
    except OSError as error:
        raise AftermapError(
            f"{folder.path} can no longer be written ({error}). What is done is kept: make room, and "
            "run the same command again."
        ) from error


def _labels(labels: Mapping[str, int]) -> str:
    total = sum(labels.values())
    return f"{total} ({', '.join(f'{n} {name}' for name, n in labels.items() if name)})"


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        print(text, file=sys.stderr, flush=True)
