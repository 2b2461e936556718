"""Training chips: before, after and damage codes, from a folder or from synthetic scenes."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from ..scenes.errors import Refused, UsageError
from ..scenes.layer import NOT_ANALYSED
from .change import DAMAGED

FOLDERS = (("pre", "post", "mask"), ("A", "B", "label"))
"""Names of the folders before, after and mask: those of paper 001, and those of LEVIR-CD."""

SUFFIXES = {".png", ".tif", ".tiff"}


@dataclass(frozen=True)
class Chip:
    """One training example.

    Codes are damage codes: 0 background, 1-4 levels, 5 damaged without a level, 255 left out;
    pixels that are black in either image are left out, for black is nodata.
    """

    pre: np.ndarray
    """Before, uint8 (3, h, w)."""
    post: np.ndarray
    """After, uint8 (3, h, w)."""
    codes: np.ndarray
    """uint8 (h, w)."""

    def __post_init__(self) -> None:
        shape = self.codes.shape
        if self.pre.shape != (3, *shape) or self.post.shape != (3, *shape):
            raise ValueError(
                f"pre {self.pre.shape}, post {self.post.shape} and codes {shape} do not match"
            )


class Chips(Protocol):
    """A data set: chips by number. `chip` may be called from several threads."""

    def __len__(self) -> int: ...

    def chip(self, index: int) -> Chip:
        """The chip at a position, the same at every call."""
        ...


class FolderChips:
    """Chips of a folder: `pre/`, `post/`, `mask/` (or `A/`, `B/`, `label/`), same file names.

    PNG or TIFF, uint8, three bands or more (the first three count). For five classes masks hold
    the codes 0-4, and 255 for pixels to leave out. For one class masks hold 0/1 or 0/255
    (damaged), or codes, of which 2-5 are damaged. What they hold is found over all masks at once.

    Raises Refused if files are missing or masks hold other values.
    """

    def __init__(
        self, root: str | os.PathLike[str], classes: int, names: Sequence[str] | None = None
    ) -> None:
        self.root = Path(root)
        self.folders = _folders(self.root)
        found = _names(self.folders[0])
        self.names = tuple(found if names is None else names)
        """File names without suffix, sorted, or as given."""
        if not self.names:
            raise Refused(
                f"{self.folders[0]} holds no PNG or TIFF files. Give --data a folder with chips."
            )
        self._files = [self._paths(name) for name in self.names]
        self.values = self._scan()
        """The values that occur in the masks."""
        self.graded = self._graded(classes)
        """Whether the masks hold levels, not just damaged or not."""

    def __len__(self) -> int:
        return len(self.names)

    def chip(self, index: int) -> Chip:
        """Read a chip; raises Refused if its three files differ in size or are not uint8."""
        pre_file, post_file, mask_file = self._files[index]
        pre, post, mask = _read(pre_file, 3), _read(post_file, 3), _read(mask_file, 1)[0]
        if not pre.shape[1:] == post.shape[1:] == mask.shape:
            raise Refused(
                f"The chip {self.names[index]!r} of {self.root} has files of different sizes: "
                f"before {pre.shape[1:]}, after {post.shape[1:]}, mask {mask.shape} px."
            )
        codes = mask if self.graded else np.where(mask > 0, DAMAGED, 0).astype(np.uint8)
        return Chip(pre, post, without_nodata(pre, post, codes))

    def split(self, share: float, classes: int) -> tuple[FolderChips, FolderChips]:
        """Training and validation part; `share` of the chips, at least one, are for validation.

        The order is that of the names' SHA-1, so that a chip stays where it is when others are
        added nearby in the alphabet. Chips that overlap on the ground should be split by folder.
        """
        ranked = sorted(self.names, key=lambda name: hashlib.sha1(name.encode()).digest())
        count = max(1, round(share * len(ranked)))
        if count >= len(ranked):
            raise Refused(
                f"{self.root} holds {len(ranked)} chips, too few to keep {count} for validation. "
                f"Give more chips, or a folder to --validation."
            )
        held = set(ranked[:count])
        parts = [n for n in self.names if n not in held], [n for n in self.names if n in held]
        train, validation = (FolderChips(self.root, classes, part) for part in parts)
        # One coding for both parts, or a part without damage would read its masks another way.
        train.graded = validation.graded = self.graded
        return train, validation

    def _paths(self, name: str) -> tuple[Path, Path, Path]:
        paths = []
        for folder in self.folders:
            hits = sorted(p for p in folder.glob(f"{_escaped(name)}.*") if _is_image(p))
            if not hits:
                raise Refused(
                    f"The chip {name!r} has no file in {folder}; every file of {self.folders[0]} "
                    f"needs one of the same name in {self.folders[1]} and {self.folders[2]}. "
                    f"Give --data a complete folder."
                )
            paths.append(hits[0])
        return paths[0], paths[1], paths[2]

    def _scan(self) -> frozenset[int]:
        values = np.zeros(256, bool)
        for *_, mask in self._files:
            values[np.unique(_read(mask, 1))] = True
        return frozenset(np.flatnonzero(values).tolist())

    def _graded(self, classes: int) -> bool:
        found = ", ".join(map(str, sorted(self.values)))
        if classes == 1 and (self.values <= {0, 1} or self.values <= {0, 255}):
            return False
        allowed = {0, 1, 2, 3, 4, 255} | ({5} if classes == 1 else set())
        if not self.values <= allowed:
            raise Refused(
                f"The masks of {self.folders[2]} hold the values {found}; allowed are "
                f"{', '.join(map(str, sorted(allowed)))}. Give --data other chips."
            )
        if classes == 5 and not self.values & {2, 3, 4}:
            raise Refused(
                f"The masks of {self.folders[2]} hold the values {found}: no damage levels 2-4 to "
                f"learn. Give --data other chips, or train with --classes 1."
            )
        return True


class SyntheticChips:
    """Chips rendered from synthetic scenes, one scene per chip, kept on disk once rendered.

    A cached chip is a NumPy file named after all that determines it, the renderer's source text
    included, so that an old cache is never taken for a new scene.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        side: int,
        resolution: tuple[float, float],
        cache: str | os.PathLike[str],
    ) -> None:
        """`side` in px; `resolution` is the range of pixel sizes, m, spread evenly over chips."""
        if side < 64 or not seeds:
            raise UsageError(f"Synthetic chips need scenes of 64 px or more; got {side} px.")
        self.seeds = tuple(seeds)
        self.side = side
        self.resolution = resolution
        self.cache = Path(cache)
        self._renderer = _renderer_digest()
        self._locks = [threading.Lock() for _ in self.seeds]

    def __len__(self) -> int:
        return len(self.seeds)

    def gsd(self, index: int) -> float:
        """Pixel size of a chip, m: steps of the golden ratio fill the range evenly."""
        low, high = self.resolution
        return round(low + (high - low) * ((index + 0.5) * 0.6180339887 % 1), 4)

    def path(self, index: int) -> Path:
        """Where a chip is kept."""
        name = f"{self._renderer}-{self.seeds[index]}-{self.side}-{self.gsd(index)}"
        return self.cache / f"{name}.npy"

    def chip(self, index: int) -> Chip:
        """Render a chip, or read it if it was rendered before."""
        path = self.path(index)
        with self._locks[index]:
            if not path.exists():
                self._render(index, path)
        planes = np.load(path, mmap_mode="r", allow_pickle=False)
        return Chip(planes[:3], planes[3:6], planes[6])

    def _render(self, index: int, path: Path) -> None:
        from ..scenes.synth import Synth, render_pair_aligned

        scene = Synth(size=self.side, seed=self.seeds[index], gsd=self.gsd(index))
        pre, post, codes = render_pair_aligned(scene, 0, 0, self.side, self.side)
        planes = np.concatenate([pre, post, without_nodata(pre, post, codes)[None]])
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            np.save(file, planes, allow_pickle=False)
        os.replace(name, path)


def without_nodata(pre: np.ndarray, post: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Codes (h, w) with 255 where either image (3, h, w) is black."""
    black = ~(pre.any(axis=0) & post.any(axis=0))
    return np.where(black, np.uint8(NOT_ANALYSED), codes)


def _renderer_digest() -> str:
    from ..scenes import synth

    digest = hashlib.sha256()
    for source in sorted(Path(synth.__file__).parent.glob("synth*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:10]


def _folders(root: Path) -> tuple[Path, Path, Path]:
    for before, after, mask in FOLDERS:
        folders = root / before, root / after, root / mask
        if all(folder.is_dir() for folder in folders):
            return folders
    raise Refused(
        f"{root} is no folder of chips: it needs the folders "
        f"{' or '.join('/, '.join(names) + '/' for names in FOLDERS)}. Change --data."
    )


def _names(folder: Path) -> list[str]:
    return sorted({path.stem for path in folder.iterdir() if _is_image(path)})


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _read(path: Path, bands: int) -> np.ndarray:
    """The first bands of an image file, uint8 (bands, h, w)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            # Naming the driver keeps GDAL from following a VRT that is called .png.
            driver = "PNG" if path.suffix.lower() == ".png" else "GTiff"
            with rasterio.open(path, driver=driver) as source:
                if source.count < bands or source.dtypes[0] != "uint8":
                    raise Refused(
                        f"{path} has {source.count} bands of {source.dtypes[0]}; chips need "
                        f"{bands} of uint8. Give --data other chips."
                    )
                return source.read(range(1, bands + 1))
    except RasterioIOError as error:
        raise Refused(f"{path} cannot be read: {error}. Give --data other chips.") from None
