"""Training a change network: one plain loop that goes on where it stopped."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..scenes.errors import AftermapError, UsageError
from .augment import FOLDER, PLAIN, Augment, recolour
from .batches import batches, normalised, stacked
from .card import MAX_FLIP_RATE, Card
from .change import ChangeNet, damage_codes, receptive_field
from .checkpoint import SUFFIX, load, save
from .chips import Chip, Chips, FolderChips, SyntheticChips
from .fidelity import bf16_flip_rate, halo_flip_rate
from .losses import IGNORE, bce, dice, iou, levels
from .metrics import DAMAGED, Confusion, XView2Counts, confusion, xview2_counts
from .ranks import Ranks
from .recipes import IMAGENET_MEAN, IMAGENET_STD, TrainConfig
from .registry import build
from .state import NAME, Progress, load_state, save_state

WARM_UP = 0.03
"""Share of the steps over which the cosine schedule rises."""


@dataclass(frozen=True)
class Tick:
    """What a progress function is told after each step, and with a score after each epoch."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    rate: float
    """Megapixels of crops per second."""
    eta: float
    """Seconds until the last epoch ends, validation left out."""
    score: float | None = None


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

    Raises Refused for chips or a state that do not fit, UsageError for a missing extra, and
    AftermapError if the loss stops being a number.
    """
    ranks = Ranks.here()
    device = torch.device(_device(config, ranks))
    ranks.part(config.batch)
    with ranks.joined(device):
        return _train(config, progress or print_progress, fresh, ranks, device)


def _train(
    config: TrainConfig,
    tell: Callable[[Tick], None],
    fresh: bool,
    ranks: Ranks,
    device: torch.device,
) -> Path:
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    if fresh and ranks.leads:
        (out / NAME).unlink(missing_ok=True)
    ranks.wait()
    tell = tell if ranks.leads else _silence
    writer = _tensorboard(out / "log") if config.tensorboard and ranks.leads else None
    torch.manual_seed(config.seed)
    network = _network(config).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.lr, weight_decay=config.weight_decay
    )
    run, best = load_state(config, network, optimizer)
    shared = ranks.sharing(network)
    chips, held, augment = _data(config)
    exam = list(_validation(held, config, augment, network.stride)) if ranks.leads else []
    steps = config.steps or max(1, len(chips) // config.batch)
    target = out / f"{config.method}{SUFFIX}"
    started = time.monotonic()
    begun_at = run.epoch
    while run.epoch < config.epochs:
        done = run.epoch - begun_at
        spent = (time.monotonic() - started) / 60
        late = config.minutes is not None and spent * (done + 1) / max(done, 1) > config.minutes
        if ranks.agreed(bool(done and late), device):
            break
        loss = _epoch(
            config, network, optimizer, chips, augment, steps, run.epoch, tell, ranks, shared
        )
        run.epoch += 1
        if not ranks.leads:
            continue
        scores = evaluate(network, exam, config)
        run.history.append({"epoch": run.epoch, "loss": loss, **scores})
        if run.best is None or scores["score"] > run.best:
            run.best, run.best_epoch = scores["score"], run.epoch
            best = {k: v.detach().cpu().clone() for k, v in network.state_dict().items()}
        save_state(config, network, optimizer, best, run)
        tell(Tick(run.epoch, config.epochs, steps, steps, loss, 0.0, 0.0, scores["score"]))
        if writer is not None:
            for name, value in run.history[-1].items():
                writer.add_scalar(name, value, run.epoch)
            writer.flush()
    if ranks.leads:
        network.load_state_dict(best)
        save(target, network.cpu(), _card(config, network, exam, run))
        load(target, method=config.method, classes=config.classes)  # what was written can be read
    ranks.wait()
    return target


def _silence(_: Tick) -> None:
    """Only the first of several processes tells."""


def _epoch(
    config: TrainConfig,
    network: ChangeNet,
    optimizer: torch.optim.Optimizer,
    chips: Chips,
    augment: Augment,
    steps: int,
    epoch: int,
    tell: Callable[[Tick], None],
    ranks: Ranks,
    shared: torch.nn.Module,
) -> float:
    """One epoch; returns the mean loss. `shared` is the network, as `Ranks.sharing` made it."""
    network.train()
    # An own seed per epoch makes dropout the same after a restart, without a state to keep.
    torch.manual_seed(hash_seed(config.seed, epoch) + ranks.rank)
    device = next(network.parameters()).device
    narrow = _narrow(config, device)
    total = 0.0
    began = time.monotonic()
    part = ranks.part(config.batch)
    supply = batches(
        chips, augment, config.chip, config.batch, steps, config.seed, epoch, config.workers, part
    )
    for step, batch in enumerate(supply):
        rate = learning_rate(config, epoch * steps + step, config.epochs * steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        pre, post = (
            normalised(x.to(device), IMAGENET_MEAN, IMAGENET_STD) for x in (batch.pre, batch.post)
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=narrow):
            logits = shared(pre, post)
        loss = criterion(config, logits.float(), batch.codes.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip)
        value = float(loss.detach())
        if not (math.isfinite(value) and math.isfinite(float(norm))):
            raise AftermapError(
                f"The training stopped in epoch {epoch + 1}, step {step + 1} of {steps}: the loss "
                f"is {value} and the gradient's norm {float(norm)}, at a learning rate of "
                f"{rate:.2g}. Lower --lr; {epoch} whole epochs are kept in {config.out}."
            )
        optimizer.step()
        total += value
        passed = time.monotonic() - began
        pixels = (step + 1) * config.batch * config.chip**2
        left = (config.epochs - epoch) * steps - step - 1
        mean = total / (step + 1)
        eta = left * passed / (step + 1)
        tell(Tick(epoch + 1, config.epochs, step + 1, steps, mean, pixels / passed / 1e6, eta))
    return ranks.mean(total / steps, device)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The learning rate of a step (from 0) of all steps."""
    if config.schedule == "constant":
        return config.lr
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return config.lr * (step + 1) / rise
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def criterion(config: TrainConfig, logits: Tensor, codes: Tensor) -> Tensor:
    """The configured loss of logits (n, c, h, w) against damage codes (n, h, w)."""
    if config.classes == 5:
        weights = None
        if config.class_weights is not None:
            weights = torch.tensor(config.class_weights, device=logits.device)
        overlap = "lovasz" if config.loss == "levels-lovasz" else "dice"
        return levels(logits, codes, weights, overlap)  # type: ignore[arg-type]
    damaged = torch.isin(codes, torch.tensor(DAMAGED, dtype=codes.dtype, device=codes.device))
    losses: dict[str, Callable[..., Tensor]] = {"auto": dice, "dice": dice, "iou": iou, "bce": bce}
    return losses[config.loss](logits[:, 0], damaged, valid=codes != IGNORE)


def evaluate(network: torch.nn.Module, chips: list[Chip], config: TrainConfig) -> dict[str, float]:
    """Validation metrics in fp32, pooled over all pixels that count.

    Five classes: the xView2 score and its parts. One class: IoU (as "score"), F1, precision and
    recall of damaged pixels, as in paper 001, table III.
    """
    network.eval()
    device = next(network.parameters()).device
    graded, binary = XView2Counts(), Confusion()
    for chip in chips:
        pre, post = (x.to(device) for x in _tensors(chip))
        with torch.inference_mode():
            predicted = damage_codes(network(pre, post))[0].cpu().numpy()
        seen = chip.codes != IGNORE
        truth, found = chip.codes[seen], predicted[seen]
        binary += confusion(np.isin(truth, DAMAGED), np.isin(found, DAMAGED))
        if config.classes == 5:
            graded += xview2_counts(truth, truth, found, found)
    damaged = {
        "damaged_iou": binary.iou,
        "damaged_f1": binary.f1,
        "damaged_precision": binary.precision,
        "damaged_recall": binary.recall,
    }
    if config.classes == 1:
        return {"score": binary.iou, **damaged}
    score = graded.score()
    f1 = {f"f1_level_{i}": v for i, v in enumerate(score.pop("damage_f1_per_class"), 1)}
    return {**score, **f1, **damaged}


def print_progress(tick: Tick) -> None:
    """Print a line per epoch, and on a terminal the step, speed and remaining time as well."""
    head = f"epoch {tick.epoch}/{tick.epochs}"
    if tick.score is not None:
        print(f"\r{head}  loss {tick.loss:.4f}  score {tick.score:.4f}          ", file=sys.stderr)
    elif sys.stderr.isatty():
        minutes, seconds = divmod(round(tick.eta), 60)
        print(
            f"\r{head}  step {tick.step}/{tick.steps}  loss {tick.loss:.4f}  "
            f"{tick.rate:.2f} Mpx/s  ETA {minutes}:{seconds:02d} ",
            end="",
            file=sys.stderr,
        )


def hash_seed(seed: int, epoch: int) -> int:
    """A seed for torch from the run's seed and the epoch; neighbours are unrelated."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def _network(config: TrainConfig) -> ChangeNet:
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


def _data(config: TrainConfig) -> tuple[Chips, Chips, Augment]:
    """Chips to train on, chips to validate on, and how the former are changed."""
    if config.data == "synthetic":
        recipe = config.synthetic
        first, cache = recipe.first_seed, Path(config.out) / "scenes"
        parts = [
            SyntheticChips(range(a, a + n), recipe.side, recipe.resolution, cache)
            for a, n in ((first, recipe.scenes), (first + 500_000, recipe.validation))
        ]
        return parts[0], parts[1], Augment()
    chips = FolderChips(config.data, config.classes)
    if config.validation is not None:
        return chips, FolderChips(config.validation, config.classes), FOLDER
    train_part, held = chips.split(0.15, config.classes)
    return train_part, held, FOLDER


def _validation(chips: Chips, config: TrainConfig, augment: Augment, stride: int) -> Iterator[Chip]:
    """Validation chips, cut to whole strides; synthetic ones in a light of their own."""
    light = augment if config.data == "synthetic" else PLAIN
    for index in range(len(chips)):
        chip = chips.chip(index)
        height, width = (side // stride * stride for side in chip.codes.shape)
        pre, post = (np.array(x[:, :height, :width]) for x in (chip.pre, chip.post))
        rng = np.random.default_rng([config.seed, 2**31, index])
        yield Chip(*recolour(pre, post, light, rng), np.array(chip.codes[:height, :width]))


def _tensors(chip: Chip) -> tuple[Tensor, Tensor]:
    batch = stacked([chip])
    pre, post = (normalised(x, IMAGENET_MEAN, IMAGENET_STD) for x in (batch.pre, batch.post))
    return pre, post


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
    data = config.data if config.data == "synthetic" else f"the chips of {Path(config.data).name}"
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


def _device(config: TrainConfig, ranks: Ranks) -> str:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda was asked for, but torch finds no CUDA device.")
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return f"cuda:{ranks.local}" if device == "cuda" and ranks.count > 1 else device


def _narrow(config: TrainConfig, device: torch.device) -> bool:
    """Whether the forward pass runs in bf16."""
    if config.precision != "auto":
        return config.precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    # Without the instructions, bf16 on a processor is emulated and slower than fp32.
    # Older versions of torch cannot tell; they train in fp32.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError(
            'TensorBoard was asked for but is not installed: pip install "aftermap[train]"'
        ) from None
    return SummaryWriter(str(folder))
