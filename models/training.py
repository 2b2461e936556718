"""Training a change network to find damage, from scratch or from a pre-trained encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..scenes.errors import UsageError
from .batches import Batch, batches, seen, stacked
from .card import MAX_FLIP_RATE, Card
from .change import ChangeNet, receptive_field
from .checkpoint import SUFFIX, load, save
from .chips.chip import Chip
from .encoder import load_encoder
from .evaluation import FIGURES, evaluate_chips
from .fidelity import bf16_flip_rate, halo_flip_rate
from .loop import Tick, begin, device_of, learn, print_progress, silence
from .losses import IGNORE, bce, dice, iou, levels
from .metrics import DAMAGED
from .ranks import Ranks
from .recipes import IMAGENET_MEAN, IMAGENET_STD, SYNTHETIC, LoopConfig, TrainConfig
from .registry import build
from .sources import Exam, training_sources
from .state import Progress

MEASURED = 8
"""Validation chips on which the cost of bf16 and of halos is measured."""


def train(
    config: TrainConfig, progress: Callable[[Tick], None] | None = None, fresh: bool = False
) -> Path:
    """Train a network, or go on with it; returns the path of the best weights.

    The folder `config.out` gets `<method>.safetensors` and its card, those of the best validation
    score, and the state after each epoch. Killed and run again with the same configuration, it
    ends with the same weights as without the interruption (on the same machine and threads).
    `fresh` throws an earlier state away. `progress` is called after each step; None prints.
    Where the environment says that this is one of several processes (see `Ranks`), each works on
    its part of every batch, and the first one validates, tells and writes.

    Raises Refused for chips, an encoder or a state that do not fit, UsageError for a missing extra,
    and AftermapError, naming the chips, if the loss stops being a number.
    """
    ranks = Ranks.here()
    device = device_of(config, ranks)
    ranks.part(config.batch)
    with ranks.joined(device):
        begin(config, ranks, fresh)
        segmentation = Segmentation(config, ranks.leads)
        tell = (progress or print_progress) if ranks.leads else silence
        learnt = learn(segmentation, config, tell, ranks, device)
        target = Path(config.out) / f"{config.method}{SUFFIX}"
        if ranks.leads:
            network = segmentation.network
            network.load_state_dict(learnt.best)
            save(
                target,
                network.cpu(),
                _card(config, network, segmentation.exam.few(MEASURED), learnt.run),
            )
            load(
                target, method=config.method, classes=config.classes
            )  # what was written can be read
        ranks.wait()
        return target


class Segmentation:
    """The task of finding damage pixel by pixel; see `loop.Task`."""

    def __init__(self, config: TrainConfig, leads: bool = True) -> None:
        self.config = config
        self.network = network_of(config)
        if config.encoder is not None:
            load_encoder(config.encoder, self.network, config.method)
        if config.freeze != "no":
            self.network.encoder.requires_grad_(False)
        sources = training_sources(config)
        self.chips = sources.train
        held = sources.validation if leads else ()
        self.exam = Exam(held, config.seed, self.network.stride)

    def groups(self) -> list[dict[str, Any]]:
        """Encoder and the rest, each with its learning rate."""
        return parameter_groups(self.network.encoder, self.network, self.config)

    def steps(self) -> int:
        """As asked, or as many as the chips fill once."""
        return self.config.steps or max(1, len(self.chips) // self.config.batch)

    def batches(self, steps: int, epoch: int, ranks: Ranks) -> Iterator[Batch]:
        """Crops of an epoch in batches."""
        config = self.config
        chosen = self.chips.order(config.batch * steps, config.seed, epoch)

        def draw(place: int) -> Chip:
            return self.chips.draw(chosen[place], config.chip, (config.seed, epoch, place))

        part = ranks.part(config.batch)
        return batches(draw, config.batch, steps, config.workers, part)

    def learn(self) -> None:
        """Training mode; a frozen encoder stays as it is used."""
        self.network.train()
        if self.config.freeze == "all":
            self.network.encoder.eval()

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The configured loss of logits against damage codes."""
        return criterion(self.config, outputs, batch.codes.to(outputs.device))

    def examine(self) -> dict[str, float]:
        """Metrics on the validation chips."""
        return evaluate(self.network, self.exam, self.config)


def parameter_groups(
    encoder: nn.Module, network: nn.Module, config: LoopConfig
) -> list[dict[str, Any]]:
    """What of a network is to be learnt: one group, or two where the encoder has its own rate."""
    if config.encoder_lr is None:
        found = [p for p in network.parameters() if p.requires_grad]
        return [{"params": found, "lr": config.lr, "base_lr": config.lr}]
    inside = {id(p) for p in encoder.parameters()}
    rates = (config.encoder_lr, config.lr)
    split = [
        [p for p in network.parameters() if p.requires_grad and (id(p) in inside) == wanted]
        for wanted in (True, False)
    ]
    return [
        {"params": group, "lr": rate, "base_lr": rate}
        for group, rate in zip(split, rates, strict=True)
        if group
    ]


def criterion(config: TrainConfig, logits: Tensor, codes: Tensor) -> Tensor:
    """The configured loss of logits (n, c, h, w) against damage codes (n, h, w)."""
    if config.classes == 5:
        weights = None
        if config.class_weights is not None:
            weights = torch.tensor(config.class_weights, device=logits.device)
        overlap = "lovasz" if config.loss == "levels-lovasz" else "dice"
        return levels(logits, codes, weights, overlap)  # type: ignore[arg-type]
    damaged = torch.isin(codes, torch.tensor(DAMAGED, dtype=codes.dtype, device=codes.device))
    valid = codes != IGNORE
    if config.loss == "bce":
        return bce(logits[:, 0], damaged, config.pos_weight, valid)
    return (iou if config.loss == "iou" else dice)(logits[:, 0], damaged, valid=valid)


def evaluate(network: ChangeNet, chips: Iterable[Chip], config: TrainConfig) -> dict[str, float]:
    """Validation metrics in fp32, pooled over all pixels that count.

    Five classes: the xView2 score and its parts. One class: IoU (as "score"), F1, precision and
    recall of damaged pixels, as in paper 001, table III.
    """
    found = evaluate_chips(network, chips)
    damaged = {f"damaged_{name}": getattr(found.pixels, name) for name in FIGURES}
    if config.classes == 1 or found.levels is None:
        return {"score": found.pixels.iou, **damaged}
    score = found.levels.score()
    f1 = {f"f1_level_{i}": v for i, v in enumerate(score.pop("damage_f1_per_class"), 1)}
    return {**score, **f1, **damaged}


def network_of(config: TrainConfig) -> ChangeNet:
    """The network that a configuration names, with random weights; UsageError for sizes that do not fit."""
    network = build(config.method, **_options(config))
    if not isinstance(network, ChangeNet):
        raise UsageError(f"{config.method!r} is not trained by this command.")
    if config.chip % network.stride or config.core % network.stride:
        raise UsageError(
            f"Crops and cores must be multiples of {network.stride} px for size {config.size!r}; "
            f"got chip {config.chip} and core {config.core} px."
        )
    return network


def _options(config: TrainConfig) -> dict[str, Any]:
    return {"size": config.size, "classes": config.classes, "dropout": config.dropout}


def _tensors(chip: Chip) -> tuple[Tensor, Tensor]:
    return seen(stacked([chip]), torch.device("cpu"))


def _card(config: TrainConfig, network: ChangeNet, exam: list[Chip], run: Progress) -> Card:
    """The card of the best weights, with the measured cost of bf16 and of the halo."""
    network.eval()
    full = receptive_field(network)
    halo = full if config.halo is None else config.halo
    pairs = [_tensors(chip) for chip in exam]
    flips = bf16_flip_rate(network, pairs)
    side = min(min(chip.codes.shape) for chip in exam)
    core = min(config.core, (side - 2 * full) // network.stride * network.stride)
    halo_flips = halo_flip_rate(network, pairs, halo, core) if core > 0 else None
    scores = dict(run.history[run.best_epoch - 1])
    if core > 0:
        # What a smaller halo would cost, for whoever chooses --halo.
        narrower = range(network.stride * 2, full, network.stride * 2)
        scores |= {f"halo_{h}_flip_rate": halo_flip_rate(network, pairs, h, core) for h in narrower}
    data = " and ".join(
        name if name == SYNTHETIC else f"the chips of {Path(name).name}" for name in config.data
    )
    card = Card(
        method=config.method,
        network=config.method,
        options=_options(config),
        classes=config.classes,
        bands=3,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        resolution=config.resolution,
        nominal_resolution=config.nominal_resolution,
        core=config.core,
        halo=halo,
        stride=network.stride,
        flip_rate=flips,
        halo_flip_rate=halo_flips,
        training_data=config.training_data or f"Trained by aftermap on {data}.",
        licence=config.licence,
        metrics={"best_epoch": run.best_epoch, **scores},
    )
    return replace(card, precision="bf16") if flips <= MAX_FLIP_RATE else card
