"""Training a network to find damage or buildings, from scratch or from a pre-trained encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..scenes.errors import Refused, UsageError
from ..scenes.plan import Window
from .amatrice import check_alike, scene_counts, scene_metrics
from .batches import Batch, batches, seen, stacked
from .card import MAX_FLIP_RATE, Card
from .change import ChangeNet, receptive_field
from .checkpoint import SUFFIX, load, read_tensors, save
from .chips.chip import Chip
from .chips.chipset import ChipSet
from .criterion import criterion, scene_criterion
from .damage_net import DamageNet, RasterNet, SceneNet
from .dual_hrnet import DualHRNet
from .encoder import load_encoder
from .evaluation import evaluate_chips
from .fidelity import bf16_flip_rate, halo_flip_rate
from .loop import Tick, batch_norms, begun, device_of, learn, print_progress, silence
from .ranks import Ranks
from .recipes import BACKBONE, IMAGENET_MEAN, IMAGENET_STD, SYNTHETIC, LoopConfig, TrainConfig
from .registry import build
from .sources import Exam, training_sources
from .state import Progress
from .unet import GridClassifier

MEASURED = 8
"""Validation chips on which the cost of bf16 and of halos is measured."""

_BUILDINGS = {"buildings": "of the pixels are buildings"}
SHARES = {
    "unet-footprints": _BUILDINGS,
    "grid-classifier": _BUILDINGS | {"damaged": "of the building pixels are damaged"},
}
"""What must be alike in the parts of chips for the networks of paper 004; see `check_alike`."""


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
    with ranks.joined(device), begun(config, ranks, device, fresh):
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
                _card(segmentation, learnt.run),
            )
            load(
                target, method=config.method, classes=config.classes
            )  # what was written can be read
        ranks.wait()
        return target


class Segmentation:
    """The task of finding damage or buildings, pixel by pixel or cell by cell; see `loop.Task`."""

    def __init__(self, config: TrainConfig, leads: bool = True) -> None:
        self.config = config
        self.network = network_of(config)
        if config.encoder is not None:
            _load_encoder(config.encoder, self.network, config.method)
        if config.init is not None:
            _begin_with(config.init, self.network, config)
        if config.norm_momentum is not None:
            for norm in batch_norms(self.network):
                norm.momentum = config.norm_momentum
        if config.freeze != "no":
            for module in self.network.encoders:
                module.requires_grad_(False)
        sources = training_sources(config)
        self.chips = sources.train
        held = sources.validation if leads else ()
        self.exam = Exam(held, config.seed, self.network.stride)
        self.mix: dict[str, float] = {}
        """Of each part of the chips what share of it shows what; for paper 004, which asks for it."""
        every = [chips for part in sources.parts.values() for chips in part]
        if config.method in SHARES and leads and all(isinstance(c, ChipSet) for c in every):
            self.mix = check_alike(sources.parts, SHARES[config.method])

    def groups(self) -> list[dict[str, Any]]:
        """Encoder and the rest, each with its learning rate."""
        return parameter_groups(self.network.encoders, self.network, self.config)

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
        inputs = self.network.inputs
        return batches(draw, config.batch, steps, config.workers, part, inputs)

    def learn(self) -> None:
        """Training mode; a frozen encoder stays as it is used."""
        self.network.train()
        if self.config.freeze == "all":
            for module in self.network.encoders:
                module.eval()

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The configured loss of logits against damage codes."""
        codes = batch.codes.to(outputs.device)
        if isinstance(self.network, SceneNet):
            return scene_criterion(self.config, outputs, *self.network.labels(codes))
        return criterion(self.config, outputs, codes)

    def examine(self) -> dict[str, float]:
        """Metrics on the validation chips."""
        if isinstance(self.network, DamageNet):
            return evaluate_chips(self.network, self.exam).metrics()
        assert isinstance(self.network, SceneNet)
        # Calling all damaged has a high F1, which a weak classifier does not exceed at any threshold.
        score = "auc" if isinstance(self.network, GridClassifier) else "iou"
        return scene_metrics(scene_counts(self.network, self.exam), score)


def parameter_groups(
    encoders: Sequence[nn.Module], network: nn.Module, config: LoopConfig
) -> list[dict[str, Any]]:
    """What of a network is to be learnt: one group, or two where the encoder has its own rate."""
    if config.encoder_lr is None:
        found = [p for p in network.parameters() if p.requires_grad]
        return [{"params": found, "lr": config.lr, "base_lr": config.lr}]
    inside = {id(p) for encoder in encoders for p in encoder.parameters()}
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


def network_of(config: TrainConfig) -> RasterNet:
    """The network that a configuration names, with random weights; UsageError for sizes that do not fit."""
    if config.method == "unet-grid":
        raise UsageError(
            "unet-grid is two networks that are trained apart. Train --method unet-footprints and "
            "grid-classifier, then join them with `aftermap weights join`."
        )
    network = build(config.method, **_options(config))
    if not isinstance(network, RasterNet):
        raise UsageError(f"{config.method!r} is not trained by this command.")
    window = network.window(config.core, config.halo)
    if any(side % network.stride for side in (config.chip, window.core, window.halo)):
        raise UsageError(
            f"Crops, cores and halos must be multiples of {network.stride} px for this "
            f"{config.method}; got chip {config.chip}, core {window.core} and halo "
            f"{window.halo} px."
        )
    return network


def _begin_with(file: str, network: RasterNet, config: TrainConfig) -> None:
    """Give a network the weights of an earlier training of the same one."""
    trained, card = load(file, method=config.method)
    known = {k: v for k, v in card.options.items() if k != "dropout"}
    wanted = {k: v for k, v in _options(config).items() if k != "dropout"}
    if known != wanted:
        raise Refused(f"{file} holds a network {known}, and {wanted} is trained. Change --init.")
    network.load_state_dict(trained.state_dict())


def _load_encoder(file: str, network: RasterNet, method: str) -> None:
    if isinstance(network, ChangeNet):
        load_encoder(file, network, method)
        return
    assert isinstance(network, (DualHRNet, SceneNet))
    begin = network.load_bodies if isinstance(network, DualHRNet) else network.load_encoder
    try:
        begin(read_tensors(file, "--encoder"))
    except UsageError as error:
        raise Refused(f"{file} cannot be the encoder: {error} Change --encoder.") from None


def _options(config: TrainConfig) -> dict[str, Any]:
    if config.method == "dual-hrnet":
        return {"width": config.width, "stem": config.stem}
    if config.method in BACKBONE:
        cell = {"cell": config.chip} if config.method == "grid-classifier" else {}
        return {"encoder": config.backbone or BACKBONE[config.method]} | cell
    return {"size": config.size, "classes": config.classes, "dropout": config.dropout}


def _card(task: Segmentation, run: Progress) -> Card:
    """The card of the best weights, with the measured cost of bf16 and of the halo."""
    config, network = task.config, task.network.eval()
    window = network.window(config.core, config.halo)
    cpu = torch.device("cpu")
    examples = [seen(stacked([chip], network.inputs), cpu) for chip in task.exam.few(MEASURED)]
    scores = dict(run.history[run.best_epoch - 1])
    threshold = scores.pop("threshold", 0.5)
    flips = bf16_flip_rate(network, examples, threshold)
    halo_flips = None
    if isinstance(network, ChangeNet):
        halos = _halo_flip_rates(network, window, examples)
        halo_flips = halos.pop(window.halo, None)
        scores |= {f"halo_{halo}_flip_rate": rate for halo, rate in halos.items()}
    data = " and ".join(
        name if name == SYNTHETIC else f"the chips of {Path(name).name}" for name in config.data
    )
    card = Card(
        method=config.method,
        network=config.method,
        options=_options(config),
        classes=network.classes,
        bands=3,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        resolution=config.resolution,
        nominal_resolution=config.nominal_resolution,
        core=window.core,
        halo=window.halo,
        blended=window.blended,
        stride=network.stride,
        flip_rate=flips,
        halo_flip_rate=halo_flips,
        threshold=threshold,
        training_data=config.training_data or f"Trained by aftermap on {data}.",
        licence=config.licence,
        metrics={"best_epoch": run.best_epoch, **scores, **task.mix},
    )
    return replace(card, precision="bf16") if flips <= MAX_FLIP_RATE else card


def _halo_flip_rates(
    network: ChangeNet, window: Window, pairs: list[tuple[Tensor, ...]]
) -> dict[int, float]:
    """What the window's halo costs, and smaller ones would, for whoever chooses --halo.

    Nothing where the chips are too small to tell.
    """
    full, step = receptive_field(network), network.stride
    side = min(min(pre.shape[-2:]) for pre, *_ in pairs)
    core = min(window.core, (side - 2 * full) // step * step)
    if core <= 0:
        return {}
    halos = {window.halo, *range(2 * step, full, 2 * step)}
    return {halo: halo_flip_rate(network, pairs, halo, core) for halo in sorted(halos)}
