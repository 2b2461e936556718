"""Pass 1: every patch of every image is read and judged; what is known of an image is kept."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from distributed import Client

from ...scenes.errors import Refused
from ...scenes.patches import Grounds, PatchGrid
from ...scenes.remote import is_remote
from ...scenes.scene import ReadError, Scene
from ...scenes.screen import Screens, Verdict
from ..fingerprint import digest
from ..futures import Failure, run_bounded
from ..progress import RunProgress
from .request import ReadAs
from .sheets import Sheet, Shot, open_shot

LETTERS: dict[str, Verdict | str] = {
    "k": "kept",
    "b": "black",
    "s": "snow",
    "v": "variance",
    "?": "unreadable",
    "-": "not cut",
    "o": "one side only",
}
"""How verdicts are written down, a letter for each patch of an image."""

_LETTER = {verdict: letter for letter, verdict in LETTERS.items()}
_TO_READ = " "
_AT_ONCE = 1 << 24
"""Pixels that are read at a time."""
_PER_TASK = 1 << 26
"""Pixels that a task is given."""

Image = tuple[int, int]
"""Number of a sheet, and of a shot in it."""


@dataclass(frozen=True, eq=False)
class Strip:
    """Patches of one image that one task screens."""

    image: Image
    patches: PatchGrid
    shot: Shot
    indices: np.ndarray


@dataclass(frozen=True)
class Screened:
    """What became of a strip: a letter for each of its patches, and why some cannot be read."""

    strip: Image
    indices: np.ndarray
    letters: str
    reason: str = ""


@dataclass(frozen=True)
class Screening:
    """What became of all patches."""

    verdicts: Mapping[Image, str]
    """A letter of LETTERS for each patch of an image."""
    reasons: Mapping[Image, str] = field(default_factory=dict)
    """Why patches of an image cannot be read."""

    def count(self, verdict: Verdict | str) -> int:
        """How many patches were judged so."""
        return sum(letters.count(_LETTER[verdict]) for letters in self.verdicts.values())

    def kept(self, image: Image) -> np.ndarray:
        """The patches of an image that were kept."""
        return np.flatnonzero(np.frombuffer(self.verdicts[image].encode(), np.uint8) == ord("k"))


def screen_all(
    client: Client,
    sheets: Sequence[Sheet],
    grounds: Grounds,
    screens: Screens,
    read_as: ReadAs,
    folder: Path,
    quiet: bool,
) -> Screening:
    """Judge every patch that is cut and that images of both sides of the event could show: others
    are not read. What `folder` says of an image from an earlier run is believed; what cannot be
    read is not written there, and is tried again by the next run."""
    known = _known(sheets, folder)
    reasons: dict[Image, str] = {}
    two_sided = _two_sided(sheets, grounds)
    unread = [_unread(of, two_sided) for of in grounds.of]
    letters = {
        (i, j): unread[i].copy()
        for i, sheet in enumerate(sheets)
        for j in range(len(sheet.shots))
        if (i, j) not in known
    }
    strips = [strip for image in letters for strip in _strips(sheets, unread[image[0]], image)]
    left = Counter(strip.image for strip in strips)
    with RunProgress(len(strips), quiet=quiet, noun="strips") as progress:
        for result in run_bounded(client, screen_strip, strips, screens, read_as):
            screened = _lost(result) if isinstance(result, Failure) else result
            image, sheet = screened.strip, sheets[screened.strip[0]]
            letters[image][screened.indices] = list(screened.letters)
            if screened.reason:
                reasons.setdefault(image, screened.reason)
            left[image] -= 1
            if not left[image] and image not in reasons:
                _write(folder, sheet, sheet.shots[image[1]], "".join(letters[image]))
            progress.advance(len(screened.indices) * sheet.patches.size**2)
    found = known | {image: "".join(text) for image, text in letters.items()}
    return Screening(dict(sorted(found.items())), dict(sorted(reasons.items())))


def screen_strip(screens: Screens, read_as: ReadAs, strip: Strip) -> Screened:
    """Read and judge the patches of a strip, a few at a time."""
    letters, reason = [], ""
    for run in _runs(strip.indices, strip.patches):
        try:
            letters += _judge(screens, read_as, strip, run)
        except (ReadError, Refused):
            for index in run:  # one of them cannot be read: which?
                try:
                    letters += _judge(screens, read_as, strip, [index])
                except (ReadError, Refused) as error:
                    letters.append(_LETTER["unreadable"])
                    reason = reason or str(error)
    return Screened(strip.image, strip.indices, "".join(letters), reason)


def read_patch(patches: PatchGrid, index: int, shot: Shot, read_as: ReadAs) -> np.ndarray:
    """The pixels of a patch, uint8 (3, size, size); raises ReadError or Refused."""
    return _scene(shot, read_as).read(patches.grid, *patches.window(index))[0]


def _judge(screens: Screens, read_as: ReadAs, strip: Strip, run: Sequence[int]) -> list[str]:
    """Letters of patches that lie beside each other in one row."""
    row0, col0, row1, _ = strip.patches.window(run[0])
    side = strip.patches.size
    scene = _scene(strip.shot, read_as)
    pixels, _ = scene.read(strip.patches.grid, row0, col0, row1, col0 + side * len(run))
    cut = np.split(pixels, len(run), axis=2)
    return [_LETTER[screens.judge(np.ascontiguousarray(patch))] for patch in cut]


def _runs(indices: np.ndarray, patches: PatchGrid) -> Iterator[list[int]]:
    """Patches beside each other in one row, as many as are read at once."""
    most = max(1, _AT_ONCE // patches.size**2)
    run: list[int] = []
    for index in indices.tolist():
        if run and (index != run[-1] + 1 or index % patches.cols == 0 or len(run) == most):
            yield run
            run = []
        run.append(index)
    if run:
        yield run


def _two_sided(sheets: Sequence[Sheet], grounds: Grounds) -> np.ndarray:
    """Which grounds images from before and images from after the event could show: bool (grounds,)."""
    shown = {when: np.zeros(len(grounds.owners), bool) for when in ("pre", "post")}
    for sheet, of in zip(sheets, grounds.of, strict=True):
        for when in {shot.when for shot in sheet.shots}:
            shown[when][of[of >= 0]] = True
    return shown["pre"] & shown["post"]


def _unread(of: np.ndarray, two_sided: np.ndarray) -> np.ndarray:
    """Letters of a sheet's patches that are not read, and blanks for those that are."""
    letters = np.full(len(of), _LETTER["not cut"])
    cut = np.flatnonzero(of >= 0)
    letters[cut] = np.where(two_sided[of[cut]], _TO_READ, _LETTER["one side only"])
    return letters


def _strips(sheets: Sequence[Sheet], unread: np.ndarray, image: Image) -> Iterator[Strip]:
    sheet = sheets[image[0]]
    cut = np.flatnonzero(unread == _TO_READ)
    most = max(1, _PER_TASK // sheet.patches.size**2)
    if most >= sheet.patches.cols:
        most -= most % sheet.patches.cols
    for first, last in pairwise([*range(0, len(cut), most), len(cut)]):
        yield Strip(image, sheet.patches, sheet.shots[image[1]], cut[first:last])


def _lost(failure: Failure[Strip]) -> Screened:
    """A strip whose task failed for good."""
    strip, error = failure.item, failure.error
    letters = _LETTER["unreadable"] * len(strip.indices)
    return Screened(strip.image, strip.indices, letters, f"{type(error).__name__}: {error}"[:500])


def _scene(shot: Shot, read_as: ReadAs) -> Scene:
    """The image of a shot, opened once per process and version of its files."""
    return _opened(shot, read_as, tuple(_stamp(file) for file in shot.files))


@lru_cache(maxsize=64)
def _opened(shot: Shot, read_as: ReadAs, stamps: tuple[object, ...]) -> Scene:
    return open_shot(shot, read_as)


def _stamp(file: str) -> tuple[int, int] | None:
    if is_remote(file):
        return None
    with suppress(OSError):
        found = os.stat(file)
        return found.st_size, found.st_mtime_ns
    return None


def _file(folder: Path, sheet: Sheet, shot: Shot) -> Path:
    """Where it is written down what became of an image's patches."""
    return folder / f"{digest({'sheet': sheet.name, 'shot': shot.key})[:24]}.json"


def _write(folder: Path, sheet: Sheet, shot: Shot, letters: str) -> None:
    file = _file(folder, sheet, shot)
    folder.mkdir(exist_ok=True)
    part = file.with_suffix(".part")
    told = {"sheet": sheet.name, "image": list(shot.key), "patches": letters}
    part.write_text(json.dumps(told) + "\n", encoding="utf-8")
    part.replace(file)


def _known(sheets: Sequence[Sheet], folder: Path) -> dict[Image, str]:
    """What earlier runs wrote down."""
    known = {}
    for i, sheet in enumerate(sheets):
        for j, shot in enumerate(sheet.shots):
            with suppress(OSError, ValueError, KeyError, TypeError):
                told = json.loads(_file(folder, sheet, shot).read_text(encoding="utf-8"))
                letters = told["patches"]
                if len(letters) == len(sheet.patches) and set(letters) <= set(LETTERS):
                    known[i, j] = letters
    return known
