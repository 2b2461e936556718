"""Contrastive pre-training of the encoders: what looks damaged shall lie apart (paper 001, III.H)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from ..scenes.errors import Refused, UsageError
from ..scenes.layer import NOT_ANALYSED
from .batches import Batch, batches, seen, stacked
from .change import ChangeNet
from .chips.chip import Chip, Chips
from .chips.mixture import Mixture
from .chips.open import open_chips
from .chips.parts import pretraining_parts
from .encoder import Embedder, EncoderFacts, load_embedder, save_encoder
from .loop import Tick, begun, device_of, learn, print_progress, silence
from .losses import contrastive
from .metrics import DAMAGED
from .ranks import Ranks
from .recipes import SIAMESE, SYNTHETIC, PretrainConfig
from .registry import build
from .sources import mixture, synthetic_parts
from .training import parameter_groups

TRIES = 12
"""Draws of a crop until it shows what is wanted; then it is taken for what it shows."""

EXAMINED = 64
"""Crops with damage, and as many without, on which an encoder is examined."""

_EXAM = 2**31 - 1
"""In place of the epoch in the keys of the examination's crops."""


def pretrain(
    config: PretrainConfig, progress: Callable[[Tick], None] | None = None, fresh: bool = False
) -> Path:
    """Pre-train an encoder, or go on with it; returns the file that `TrainConfig.encoder` takes.

    Pairs with damage and pairs without are drawn equally. FC-Siam learns to embed before and after
    of a pair far apart where there is damage, and close together where there is none; FC-EF does
    so with two pairs of which one has damage, and two that are alike. The best encoder is that of
    the lowest loss on held-out pairs. `config.out` gets `<method>-encoder.safetensors` and the
    state; resuming, `fresh`, `progress` and several processes are as for `train`.

    Raises Refused where chips with or without damage are missing.
    """
    ranks = Ranks.here()
    device = device_of(config, ranks)
    ranks.part(config.batch)
    with ranks.joined(device), begun(config, ranks, device, fresh):
        comparison = Comparison(config, device, ranks.leads)
        tell = (progress or print_progress) if ranks.leads else silence
        learnt = learn(comparison, config, tell, ranks, device)
        target = Path(config.out) / f"{config.method}-encoder.safetensors"
        if ranks.leads:
            comparison.network.load_state_dict(learnt.best)
            best = learnt.run.history[learnt.run.best_epoch - 1]
            metrics = {name: value for name, value in best.items() if name != "score"}
            facts = EncoderFacts(
                config.method, config.size, 3, config.dimensions, ", ".join(map(_shown, config.data)),
                metrics | {"best_epoch": learnt.run.best_epoch},
            )  # fmt: skip
            save_encoder(target, comparison.network, facts)
        ranks.wait()
        return target


def separation_on_test(
    config: PretrainConfig, encoder: Path, each: int = 200
) -> tuple[float, float]:
    """How well the distance of embeddings tells damage on test chips: untrained, and pre-trained.

    Areas under the ROC curve over `each` crops with damage and as many without, for FC-EF over as
    many pairs of them; no training has seen any of these places. The untrained encoder is the one
    that the training began with.
    """
    torch.manual_seed(config.seed)
    comparison = Comparison(config, torch.device("cpu"), leads=False)
    parts = [_parts(name, config) for name in config.data]
    test = mixture([part["test"] for part in parts], config)
    comparison.exam = comparison.crops(test, each)
    before = comparison.examine()["auc"]
    load_embedder(encoder, comparison.network)
    return before, comparison.examine()["auc"]


class Comparison:
    """The task of embedding damage apart; see `loop.Task`."""

    def __init__(self, config: PretrainConfig, device: torch.device, leads: bool = True) -> None:
        self.config = config
        if config.method not in SIAMESE:
            raise UsageError(
                f"{config.method} is not pre-trained by this command, which is about "
                f"{', '.join(SIAMESE)}. Change --method."
            )
        network = build(config.method, size=config.size, dropout=0.0)
        assert isinstance(network, ChangeNet)
        if config.chip % network.stride:
            raise UsageError(
                f"Crops must be multiples of {network.stride} px for size {config.size!r}; got "
                f"chip {config.chip} px."
            )
        self.network = Embedder(network, config.dimensions)
        parts = [_parts(name, config) for name in config.data]
        self.chips = mixture([part["train"] for part in parts], config)
        self.damaged = _with_and_without(self.chips, config, "to learn from")
        self.exam: list[Chip] = []
        self.untrained = 0.0
        if leads:
            held = mixture([part["held"] for part in parts], config)
            self.exam = self.crops(held, EXAMINED)
            self.network.to(device)
            self.untrained = self.examine()["auc"]

    def groups(self) -> list[dict[str, Any]]:
        """The encoder, and the head."""
        return parameter_groups(self.network.network.encoders, self.network, self.config)

    def steps(self) -> int:
        """As asked, or as many as the chips fill once."""
        return self.config.steps or max(1, len(self.chips) // self.config.batch)

    def batches(self, steps: int, epoch: int, ranks: Ranks) -> Iterator[Batch]:
        """Crops of an epoch in batches, with damage and without alike."""
        config = self.config
        each = 2 if self.network.compares_pairs else 1
        wanted = balanced(self.damaged, config.batch * steps, each == 2, config.seed, epoch)

        def draw(place: int) -> Chip:
            index, damaged = wanted[place]
            return self._draw(self.chips, index, damaged, (config.seed, epoch, place))

        part = ranks.part(config.batch)
        part = range(part.start * each, part.stop * each)
        return batches(draw, config.batch * each, steps, config.workers, part)

    def learn(self) -> None:
        """Training mode."""
        self.network.train()

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The contrastive loss of embeddings (n, 2, d), paper 001, equation 1."""
        different = self.network.different(batch.damaged).to(outputs.device)
        config = self.config
        return contrastive(outputs[:, 0], outputs[:, 1], different, config.margin, config.normalize)

    def examine(self) -> dict[str, float]:
        """Loss on held-out pairs, and how well the distance tells those that differ (AUC)."""
        self.network.eval()
        rows = [self._embedded(self.exam[i : i + 8]) for i in range(0, len(self.exam), 8)]
        found, different = (torch.cat(parts) for parts in zip(*rows, strict=True))
        config = self.config
        loss = float(
            contrastive(found[:, 0], found[:, 1], different, config.margin, config.normalize)
        )
        auc = separation(distances(found, config.normalize).numpy(), different.numpy())
        gained = {"auc_untrained": self.untrained} if self.untrained else {}
        return {"score": -loss, "held_out_loss": loss, "auc": auc, **gained}

    def _embedded(self, chips: Sequence[Chip]) -> tuple[Tensor, Tensor]:
        """Embeddings of chips, and which of them differ; both on the CPU."""
        batch = stacked(chips)
        device = next(self.network.parameters()).device
        pre, post = seen(batch, device)
        with torch.inference_mode():
            found = self.network(pre, post).float().cpu()
        return found, self.network.different(batch.damaged)

    def crops(self, held: Mixture, each: int) -> list[Chip]:
        """Crops to examine on, `each` with damage and without: for FC-EF two by two, of which half
        differ."""
        config, pairs = self.config, self.network.compares_pairs
        damaged = _with_and_without(held, config, "to be examined on")
        wanted = balanced(damaged, 2 * each // (2 if pairs else 1), pairs, config.seed, _EXAM)
        return [
            self._draw(held, index, shows, (config.seed, _EXAM, place))
            for place, (index, shows) in enumerate(wanted)
        ]

    def _draw(self, chips: Mixture, index: int, damaged: bool, key: tuple[int, int, int]) -> Chip:
        """A crop of a chip that shows damage, or none, as wanted."""
        crop = chips.draw(index, self.config.chip, key)
        for again in range(1, TRIES):
            if shows(crop, damaged, self.config.least):
                break
            crop = chips.draw(index, self.config.chip, (*key, again))
        return crop


def shows(crop: Chip, damaged: bool, least: float) -> bool:
    """Whether a crop plainly shows damage, or plainly none; where no pixel is known its label tells."""
    known = crop.codes != NOT_ANALYSED
    if not known.any():
        return crop.shows_damage == damaged
    share = np.isin(crop.codes[known], DAMAGED).mean()
    return bool(share >= max(least, 1 / known.sum()) if damaged else share == 0)


def balanced(
    damaged: Mapping[bool, Sequence[int]], count: int, pairs: bool, seed: int, epoch: int
) -> list[tuple[int, bool]]:
    """Chips to draw, and whether each is to show damage: half of them, in random order.

    `damaged` has the numbers of the chips with and without. `pairs` gives 2 × `count` chips two by
    two: half of the twos are alike, and of these half show damage.
    """
    rng = np.random.default_rng([seed, epoch, 7])
    kinds = rng.permutation(np.arange(count) % (4 if pairs else 2))
    shown = (
        [
            flag
            for kind in kinds
            for flag in ((True, True), (False, False), (True, False), (False, True))[kind]
        ]
        if pairs
        else [bool(kind) for kind in kinds]
    )
    supply = {flag: _supply(numbers, rng) for flag, numbers in damaged.items()}
    return [(next(supply[flag]), flag) for flag in shown]


def distances(embeddings: Tensor, normalize: bool) -> Tensor:
    """Squared distances of embeddings (n, 2, d), as the loss takes them: (n)."""
    if normalize:
        embeddings = torch.nn.functional.normalize(embeddings, dim=2)
    return (embeddings[:, 0] - embeddings[:, 1]).square().sum(dim=1)


def separation(distance: np.ndarray, different: np.ndarray) -> float:
    """Area under the ROC curve of a distance that shall tell what differs; ties count half."""
    ranks = rankdata(distance)
    positive = int(different.sum())
    negative = len(different) - positive
    return float((ranks[different].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _supply(numbers: Sequence[int], rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from (numbers[i] for i in rng.permutation(len(numbers)))


def _parts(name: str, config: PretrainConfig) -> Mapping[str, Chips]:
    if name == SYNTHETIC:
        parts = synthetic_parts(config.synthetic, config.scenes)
        return parts | {"held": parts["validation"]}
    return pretraining_parts(open_chips(name, classes=1))


def _with_and_without(
    chips: Mixture, config: PretrainConfig, what_for: str
) -> dict[bool, list[int]]:
    """The chips that show damage, and those that have a part without; Refused if there are none.

    A chip of which only pixels tell may serve as both: its crops are looked at as they are drawn.
    """
    labels = [chips.damaged(i) for i in range(len(chips))]
    found = {
        flag: [i for i, label in enumerate(labels) if label in (flag, None)]
        for flag in (True, False)
    }
    if not (found[True] and found[False]):
        raise Refused(
            f"Pre-training compares places with damage and places without, and of the {len(chips)} "
            f"{what_for} of {', '.join(map(_shown, config.data))} {len(found[True])} show damage "
            f"and {len(found[False])} do not. Give --data more chips, of both kinds."
        )
    return found


def _shown(name: str) -> str:
    return name if name == SYNTHETIC else Path(name).name
