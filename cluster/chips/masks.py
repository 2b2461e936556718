"""Masks of damage that were published by file name, as those of paper 001, for one's own tiles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ...models.chips.names import STUDY
from ...models.chips.picture import is_image
from ...scenes.errors import Refused
from ...scenes.legend import UNGRADED
from ...scenes.patches import Grounds
from ..fingerprint import digest, fingerprint_file
from .plan import Cut, Key, Spot
from .screening import LETTERS, Screening
from .sheets import Sheet

_VALUES = ({0, 1}, {0, 255})


@dataclass(frozen=True)
class Masks:
    """A folder of masks: which patches of which acquisitions are damaged, and where."""

    folder: Path
    files: Mapping[tuple[str, int, Key], str]
    """By the tile's quadkey, the patch in it, and the acquisition."""

    def codes(self, cut: Cut) -> np.ndarray | None:
        """Damage codes of a chip, uint8 (h, w): 5 where its mask says damage, else 0; None: no mask."""
        if not cut.mask:
            return None
        return np.where(_read(Path(cut.mask)) > 0, np.uint8(UNGRADED), np.uint8(0))

    def facts(self) -> Any:
        """What identifies the masks."""
        prints = [fingerprint_file(path) for path in sorted(self.files.values())]
        return {
            "masks": str(self.folder),
            "files": len(prints),
            "sha256": digest({"files": [[Path(str(p["path"])).name, p] for p in prints]}),
        }


def open_masks(folder: Path, size: int) -> Masks:
    """Read the names of a folder's masks, and check each: raises Refused for other names, for other
    sizes than the chips', and for other values than 0 and 1, or 0 and 255."""
    if not folder.is_dir():
        raise Refused(f"--masks {folder} is not a folder. Give the folder of the masks.")
    files: dict[tuple[str, int, Key], str] = {}
    odd = []
    for path in sorted(p for p in folder.iterdir() if is_image(p)):
        told = STUDY.fullmatch(path.stem)
        if not told:
            odd.append(path.name)
            continue
        _check(path, size)
        key: Key = ("post", told["date"], told["image"])
        files[told["quadkey"], int(told["i"]), key] = str(path.absolute())
    if not files:
        raise Refused(
            f"--masks {folder} holds no image called <quadkey>_<date>_<catalogid>-visual_<i>"
            f"{f', but {odd[0]}' if odd else ''}. Give the folder of the study's masks."
        )
    return Masks(folder, files)


def with_masks(
    spots: Sequence[Spot], masks: Masks, sheets: Sequence[Sheet], grounds: Grounds, seen: Screening
) -> tuple[list[Spot], list[str]]:
    """The spots with their masks, and a note for each mask that no chip has.

    Places with a mask are damaged. Of their after images those without a mask are left out, as
    nothing is known of their pixels. A mask may name a patch of the tile beside the chip's own.
    """
    numbers: dict[str, list[int]] = defaultdict(list)
    for number, sheet in enumerate(sheets):
        numbers[sheet.name.rpartition("-")[2]].append(number)
    chips = {(spot.ground, cut.shot.key) for spot in spots for cut in spot.cuts}
    files: dict[tuple[int, Key], str] = {}
    notes = []
    for (quadkey, index, key), file in masks.files.items():
        at = [n for n in numbers.get(quadkey, []) if index < len(sheets[n].patches)]
        grounds_at = [int(grounds.of[n][index]) for n in at]
        used = [(g, key) for g in grounds_at if (g, key) in chips]
        files.update((place, file) for place in used)
        if not used:
            why = _why(at, index, key, sheets, seen)
            notes.append(f"mask without a chip: {Path(file).name}: {why}")
    return [_masked(spot, files) for spot in spots], notes


def _masked(spot: Spot, files: Mapping[tuple[int, Key], str]) -> Spot:
    found = [replace(c, mask=files.get((spot.ground, c.shot.key), "")) for c in spot.cuts]
    kept = tuple(cut for cut in found if cut.mask or cut.shot.when == "pre")
    if not any(cut.mask for cut in found):
        return spot
    return replace(spot, place=replace(spot.place, label="damaged"), cuts=kept)


def _why(at: Sequence[int], index: int, key: Key, sheets: Sequence[Sheet], seen: Screening) -> str:
    """Why a mask has no chip."""
    for number in at:
        for shot_number, shot in enumerate(sheets[number].shots):
            if shot.key == key:
                verdict = LETTERS[seen.verdicts[number, shot_number][index]]
                return (
                    "its patch has no partner"
                    if verdict in ("kept", "one side only")
                    else f"its patch was removed: {verdict}"
                )
    return "no such acquisition of its tile" if at else "no such tile, or no such patch in it"


def _check(path: Path, size: int) -> None:
    mask = _read(path)
    if mask.shape != (size, size):
        raise Refused(
            f"The mask {path} has {mask.shape[1]} x {mask.shape[0]} px, and chips {size} x {size}. "
            "Give other --masks, or their --size."
        )
    values = set(np.unique(mask).tolist())
    if not any(values <= known for known in _VALUES):
        raise Refused(
            f"The mask {path} holds the values {sorted(values)[:8]}; 0 and 1, or 0 and 255 are "
            "known. Give other --masks, or --labels for a raster of damage codes."
        )


def _read(path: Path) -> np.ndarray:
    """The first band of a mask, uint8 (h, w)."""
    try:
        with Image.open(path, formats=["PNG", "TIFF", "JPEG"]) as image:
            pixels = np.asarray(image)
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise Refused(f"The mask {path} cannot be read: {error}. Give other --masks.") from error
    plain = pixels if pixels.ndim == 2 else pixels[..., 0]
    return plain.astype(np.uint8)
