"""The supervised baselines of paper 000's table III: backbones with a linear layer, fixed and trained whole."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...models.batches import normalised
from ...models.fine_tuning import FineTuning, fine_tune
from ...models.heads import LinearHead, Logistic
from ...models.inception_window import InceptionWindow
from ...models.photos.photoset import PhotoSet
from ...models.roc import auc
from ...scenes.atomic import write_atomically
from .backbone import backbone_of, features_of
from .deep_disaster_picture import draw_map
from .deep_disaster_settings import DeepDisasterConfig
from .deep_disaster_table import WHOLE, Areas

_BATCH = 32
"""Photos that are scored at once."""


def supervised(config: DeepDisasterConfig, folder: Path, seed: int) -> dict[str, Areas]:
    """AUC by network, event learnt from and event tested on; the first network's map is drawn.

    A backbone comes with its features fixed and, under its name with `WHOLE`, trained whole. None where
    an event has no damage to learn from, as in the layout of the published code. `folder` is the seed's.
    """
    photos = config.photos(folder.parent, config.backbone_side)
    found: dict[str, Areas] = {}
    if not all(photos.town(event).part("train").labels.any() for event in photos.towns):
        return found
    for name in config.backbones:
        baseline = _Baseline.of(name, config, photos, folder)
        found[name] = {event: baseline.fixed(event) for event in photos.towns}
        found[name + WHOLE] = {
            event: baseline.whole(event, FineTuning(config.tuning_epochs, seed=seed))
            for event in photos.towns
        }
        if name == config.backbones[0]:
            write_atomically(folder / "map.png", baseline.map(photos.towns[0]))
    return found


def areas_of(photos: PhotoSet, scores: Mapping[str, np.ndarray]) -> dict[str, float]:
    """AUC on the test photos of each event, from their scores."""
    found = {}
    for event, these in scores.items():
        area = auc(these, photos.town(event).part("test").labels)
        assert area is not None  # checked before
        found[event] = area
    return found


@dataclass(frozen=True, eq=False)
class _Baseline:
    """A backbone, and a linear layer for each event on what it makes of the event's photos."""

    name: str
    network: InceptionWindow
    photos: PhotoSet
    folder: Path
    heads: Mapping[str, LinearHead]
    tests: Mapping[str, np.ndarray]
    """By event, features of its test photos, fp32 (n, d)."""

    @classmethod
    def of(cls, name: str, config: DeepDisasterConfig, photos: PhotoSet, folder: Path) -> _Baseline:
        network = backbone_of(name, config.backbone_side, config.encoder)
        features = features_of(network, photos, folder.parent / "features")[:, 0]
        number = {photo: index for index, photo in enumerate(photos.photos)}

        def rows(event: str, part: str) -> np.ndarray:
            return features[[number[photo] for photo in photos.town(event).part(part).photos]]

        heads = {}
        for event in photos.towns:
            head = Logistic().fit(rows(event, "train"), photos.town(event).part("train").labels)
            assert isinstance(head, LinearHead)
            heads[event] = head
        tests = {event: rows(event, "test") for event in photos.towns}
        return cls(name, network, photos, folder, heads, tests)

    def fixed(self, event: str) -> dict[str, float]:
        """AUC on all events of the linear layer that an event's photos gave."""
        head = self.heads[event]
        return areas_of(self.photos, {k: head.scores(x) for k, x in self.tests.items()})

    def whole(self, event: str, tuning: FineTuning) -> dict[str, float]:
        """AUC on all events of the network trained whole on an event's photos; kept once it is there."""
        name = self.name.replace("/", "-")
        kept = self.folder / f"{name}-{self.photos.towns.index(event)}.json"
        if not kept.is_file():
            train = self.photos.town(event).part("train")
            network = copy.deepcopy(self.network)
            network.set_head(*self.heads[event].tensors())
            fine_tune(network, train, train.labels, np.arange(len(train)), tuning)
            scores = {
                other: _scores(network, self.photos.town(other).part("test"))
                for other in self.photos.towns
            }
            write_atomically(kept, json.dumps(areas_of(self.photos, scores)).encode())
        areas: dict[str, float] = json.loads(kept.read_text())
        return areas

    def map(self, event: str) -> bytes:
        """Grad-CAM of the linear layer on the test photo with damage that scores highest, as PNG."""
        head, part = self.heads[event], self.photos.town(event).part("test")
        index = int(np.argmax(np.where(part.labels, head.scores(self.tests[event]), -1)))
        self.network.set_head(*head.tensors())
        return draw_map(self.network.cpu(), part.image(index), part.photos[index].path.name)


@torch.inference_mode()
def _scores(network: InceptionWindow, photos: PhotoSet) -> np.ndarray:
    """The probability of damage of photos, fp32 (n,)."""
    found = []
    for start in range(0, len(photos), _BATCH):
        some = range(start, min(start + _BATCH, len(photos)))
        images = torch.from_numpy(np.stack([photos.image(i) for i in some]))
        inputs = normalised(images, network.mean, network.std).to(network.head.weight.device)
        found.append(network.scores(inputs).cpu().numpy())
    return np.concatenate(found)
