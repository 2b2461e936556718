"""Chips rendered from synthetic scenes."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...scenes.errors import UsageError
from .chip import Chip, without_nodata


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

    def damaged(self, index: int) -> bool | None:
        """None: only its pixels tell."""
        return None

    def chip(self, index: int, rng: np.random.Generator | None = None) -> Chip:
        """Render a chip, or read it if it was rendered before; it has two dates only."""
        path = self.path(index)
        with self._locks[index]:
            if not path.exists():
                self._render(index, path)
        planes = np.load(path, mmap_mode="r", allow_pickle=False)
        return Chip(planes[:3], planes[3:6], planes[6], name=f"synthetic {self.seeds[index]}")

    def _render(self, index: int, path: Path) -> None:
        from ...scenes.synth import Synth, render_pair_aligned

        scene = Synth(size=self.side, seed=self.seeds[index], gsd=self.gsd(index))
        pre, post, codes = render_pair_aligned(scene, 0, 0, self.side, self.side)
        planes = np.concatenate([pre, post, without_nodata(pre, post, codes)[None]])
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            np.save(file, planes, allow_pickle=False)
        os.replace(name, path)


def _renderer_digest() -> str:
    from ...scenes import synth

    digest = hashlib.sha256()
    for source in sorted(Path(synth.__file__).parent.glob("synth*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:10]
