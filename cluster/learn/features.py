"""A backbone's features of tagged squares, kept in the catalog's folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...models.bottlenecks import Bottlenecks
from ...models.inception_window import InceptionWindow
from ..catalog.catalog import Catalog
from .pictures import ChipPictures
from .votes import Voted

BACKBONES = 4
"""Whose features are kept: those that were used last. Each that is tuned has features of its own."""

_ONE = 1
"""Squares that a backbone sees at once: with more, the last bits of features depend on which were
computed together, and the same tags would not give the same weights."""


@dataclass(frozen=True)
class KeptFeatures:
    """The folder `cache/features` of a catalog; it may be removed, but not while a learning runs."""

    catalog: Catalog

    def by(self, network: InceptionWindow) -> Bottlenecks:
        """Those of a network's backbone, as its weights are now."""
        return Bottlenecks(self._folder, network, batch=_ONE)

    def of(
        self,
        network: InceptionWindow,
        chips: Sequence[Voted],
        progress: Callable[[int, int], None],
    ) -> np.ndarray:
        """Of chips, fp32 (n, d); what is not kept is computed, of which `progress` is told."""
        kept = self.by(network)
        features = kept.of(pictures_of(self.catalog, network, chips), progress=progress)[:, 0]
        if chips:
            os.utime(self._folder / kept.key())
        return features

    def tidy(self) -> None:
        """Remove the features of all backbones but those that were used last."""
        folders = [folder for folder in self._folder.glob("*") if folder.is_dir()]
        folders.sort(key=lambda folder: folder.stat().st_mtime_ns, reverse=True)
        for folder in folders[BACKBONES:]:
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def _folder(self) -> Path:
        return self.catalog.folder / "cache" / "features"


def pictures_of(catalog: Catalog, network: InceptionWindow, chips: Sequence[Voted]) -> ChipPictures:
    """The pixels of chips, as a network takes them."""
    names = tuple(voted.chip.content for voted in chips)
    return ChipPictures(catalog.files, names, network.side)
