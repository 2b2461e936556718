"""The loop that trains any of our networks: one plain loop that goes on where it stopped."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..scenes.errors import AftermapError, Refused, UsageError
from ..scenes.holding import holding
from .batches import Batch, seen
from .ranks import Ranks
from .recipes import LoopConfig
from .state import NAME, Progress, load_state, save_state

WARM_UP = 0.03
"""Share of the steps over which the cosine schedule rises."""

POWER = 0.9
"""Of the poly schedule, whose rate falls as (1 - step / steps) to this power; paper 002, section 3."""

MOMENTUM = 0.9
"""Of stochastic gradient descent; paper 002, section 3."""


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


class Task(Protocol):
    """What is learnt: a network, its batches, its loss and its examination."""

    @property
    def network(self) -> nn.Module:
        """Called with normalised images (n, 3, h, w), the `inputs` of its batches; gives a tensor with
        one row per crop, or per two of them. Several maps of one size become the channels of one tensor."""
        ...

    def groups(self) -> list[dict[str, Any]]:
        """The parameters to learn, for an optimiser, each group with its learning rate."""
        ...

    def steps(self) -> int:
        """Optimiser steps per epoch."""
        ...

    def batches(self, steps: int, epoch: int, ranks: Ranks) -> Iterator[Batch]:
        """The batches of an epoch, or of them what this process works on."""
        ...

    def learn(self) -> None:
        """Put the network into training mode."""
        ...

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The loss of a whole batch from the network's outputs, fp32."""
        ...

    def examine(self) -> dict[str, float]:
        """Validation metrics, "score" among them: the higher, the better."""
        ...


@dataclass(frozen=True)
class Learnt:
    """What comes out of a loop."""

    run: Progress
    best: dict[str, Tensor]
    """The network's tensors at its best score, on the CPU."""


def learn(
    task: Task,
    config: LoopConfig,
    tell: Callable[[Tick], None],
    ranks: Ranks,
    device: torch.device,
) -> Learnt:
    """Train a task's network, or go on with it, and return the state of its best epoch.

    The state is kept in `config.out` after each epoch. Each of several processes works on its part
    of every batch; the first validates, tells and writes.

    Raises Refused for a state that does not fit, AftermapError if the loss stops being a number.
    """
    network = task.network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    groups = task.groups()
    optimizer = _optimizer(config, groups)
    run, best = load_state(config, network, optimizer)
    shared = ranks.sharing(network)
    writer = _tensorboard(Path(config.out) / "log") if config.tensorboard and ranks.leads else None
    steps = task.steps()
    started, begun_at = time.monotonic(), run.epoch
    while not ranks.agreed(run.over(config), device):
        done = run.epoch - begun_at
        spent = (time.monotonic() - started) / 60
        late = config.minutes is not None and spent * (done + 1) / max(done, 1) > config.minutes
        if ranks.agreed(bool(done and late), device):
            break
        loss = _epoch(task, config, shared, optimizer, steps, run.epoch, tell, ranks, device)
        run.epoch += 1
        if not ranks.leads:
            continue
        scores = task.examine()
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
    return Learnt(run, best)


@contextmanager
def begun(config: LoopConfig, ranks: Ranks, device: torch.device, fresh: bool) -> Iterator[None]:
    """Hold the folder of a training, and with `fresh` forget an earlier one; same seed, same weights.

    Raises Refused, in all processes, where there can be no such folder, and while another training works
    in it.
    """
    out = Path(config.out)
    with ExitStack() as held:
        refused = None
        if ranks.leads:
            try:
                held.enter_context(holding(out, "training"))
            except Refused as error:
                refused = error
        if ranks.agreed(refused is not None, device):  # nobody waits for one that has left
            raise refused or Refused(f"The first process was refused the folder {out}.")
        if fresh and ranks.leads:
            (out / NAME).unlink(missing_ok=True)
        ranks.wait()
        torch.manual_seed(config.seed)
        yield


def _epoch(
    task: Task,
    config: LoopConfig,
    shared: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: int,
    epoch: int,
    tell: Callable[[Tick], None],
    ranks: Ranks,
    device: torch.device,
) -> float:
    """One epoch; returns the mean loss. `shared` is the network, as `Ranks.sharing` made it."""
    task.learn()
    # An own seed per epoch makes dropout the same after a restart, without a state to keep.
    torch.manual_seed(hash_seed(config.seed, epoch) + ranks.rank)
    narrow = _narrow(config, device)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    total, began = 0.0, time.monotonic()
    for step, batch in enumerate(task.batches(steps, epoch, ranks)):
        factor = schedule(config, epoch * steps + step, config.epochs * steps)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        optimizer.zero_grad(set_to_none=True)
        value = backward(task, shared, batch, config.accumulate, narrow)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, config.clip))
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise AftermapError(
                f"The training stopped in epoch {epoch + 1}, step {step + 1} of {steps}: the loss "
                f"is {value} and the gradient's norm {norm}, at a learning rate of "
                f"{config.lr * factor:.2g}, on the chips {_listed(batch.names)}. Lower --lr or "
                f"look at these chips; {epoch} whole epochs are kept in {config.out}."
            )
        optimizer.step()
        total += value
        passed = time.monotonic() - began
        pixels = (step + 1) * config.batch * config.chip**2
        left = (config.epochs - epoch) * steps - step - 1
        eta = left * passed / (step + 1)
        mean = total / (step + 1)
        tell(Tick(epoch + 1, config.epochs, step + 1, steps, mean, pixels / passed / 1e6, eta))
    return ranks.mean(total / steps, device)


def backward(
    task: Task,
    shared: nn.Module,
    batch: Batch,
    parts: int = 1,
    narrow: bool = False,
) -> float:
    """Add the gradient of a whole batch's loss to the parameters; returns the loss.

    Dice and IoU are no sums over crops, so the mean of the losses of parts would be another loss.
    With `parts`, all outputs are therefore found first, without a graph; the loss's slope at each
    output is then carried back part by part. That is the gradient of the whole batch, BatchNorm's
    statistics apart, in the memory of one part, for one more forward pass.
    """
    device = next(shared.parameters()).device
    if parts == 1:
        outputs = _forward(shared, batch, device, narrow)
        loss = task.loss(outputs, batch)
        loss.backward()
        return float(loss.detach())
    pieces = batch.split(parts)
    states: list[list[Tensor]] = []
    found: list[Tensor] = []
    with torch.no_grad(), _still(shared):
        for piece in pieces:
            states.append(_random_state(device))
            found.append(_forward(shared, piece, device, narrow))
    outputs = torch.cat(found).requires_grad_()
    loss = task.loss(outputs, batch)
    (slope,) = torch.autograd.grad(loss, outputs)
    slopes = slope.split([len(part) for part in found])
    for piece, state, part_slope in zip(pieces, states, slopes, strict=True):
        _set_random_state(device, state)  # the same dropout as at first
        with nullcontext() if piece is pieces[-1] else _alone(shared):
            _forward(shared, piece, device, narrow).backward(part_slope)
    return float(loss.detach())


def _optimizer(config: LoopConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=MOMENTUM, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)


def schedule(config: LoopConfig, step: int, steps: int) -> float:
    """What the learning rate of a step (from 0) of all steps is multiplied by, 0-1."""
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "poly":
        return float((1 - step / steps) ** POWER)
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


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


def batch_norms(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """All layers of BatchNorm in a network."""
    return [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def silence(_: Tick) -> None:
    """Tell nothing."""


def hash_seed(seed: int, epoch: int) -> int:
    """A seed for torch from the run's seed and the epoch; neighbours are unrelated."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def device_of(config: LoopConfig, ranks: Ranks) -> torch.device:
    """The device to train on; UsageError if a GPU was asked for and there is none."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda was asked for, but torch finds no CUDA device.")
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(f"cuda:{ranks.local}" if device == "cuda" and ranks.count > 1 else device)


def _forward(shared: nn.Module, batch: Batch, device: torch.device, narrow: bool) -> Tensor:
    images = seen(batch, device)
    with torch.autocast(device.type, torch.bfloat16, enabled=narrow):
        outputs = shared(*images)
    if isinstance(outputs, tuple):
        outputs = torch.cat(outputs, dim=1)
    return outputs.float()


@contextmanager
def _still(network: nn.Module) -> Iterator[None]:
    """Keep the running statistics of BatchNorm as they are: each part counts once, not twice."""
    norms = batch_norms(network)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _alone(shared: nn.Module) -> Any:
    """Processes exchange gradients once per batch, after its last part."""
    return shared.no_sync() if isinstance(shared, DistributedDataParallel) else nullcontext()


def _random_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _set_random_state(device: torch.device, states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _narrow(config: LoopConfig, device: torch.device) -> bool:
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
