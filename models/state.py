"""The state of a training run on disk: one safetensors file, replaced whole after each epoch."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ..scenes.atomic import write_atomically
from ..scenes.errors import Refused
from .recipes import LoopConfig

NAME = "state.safetensors"
_KEY = "aftermap"


class Resumable(Protocol):
    """What a state needs to know of the training that it is of."""

    @property
    def out(self) -> str:
        """The folder of the state."""
        ...

    def decisive(self) -> dict[str, Any]:
        """What decides the weights, as plain JSON values: a resumed run must agree on these."""
        ...


@dataclass
class Progress:
    """How far a run has come."""

    epoch: int = 0
    """Epochs completed."""
    best: float | None = None
    """Best validation score so far."""
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    """Per epoch: loss and validation metrics."""

    def over(self, config: LoopConfig) -> bool:
        """Whether all epochs are done, or too many without a better score."""
        stale = self.epoch - self.best_epoch
        return self.epoch >= config.epochs or (
            config.patience is not None and stale >= config.patience
        )


def save_state(
    config: Resumable,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
    progress: Progress,
) -> None:
    """Write weights, optimiser moments and best weights to `out`, in one rename.

    Random numbers need no state: each epoch seeds its own.
    """
    tensors = {f"net.{key}": value for key, value in network.state_dict().items()}
    tensors |= {f"best.{key}": value for key, value in best.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"opt.{index}.{key}": value for key, value in moments.items()}
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    note = {"config": config.decisive(), "progress": vars(progress)}
    # One file, its JSON in the header: no kill can leave two files of different epochs.
    content = safetensors.torch.save(plain, metadata={_KEY: json.dumps(note)})
    write_atomically(Path(config.out) / NAME, content)


def load_state(
    config: Resumable, network: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[Progress, dict[str, Tensor]]:
    """Take up a run where it stopped: fills network and optimiser, returns progress and best.

    Without a state file a run begins. Raises Refused if the state is of another configuration,
    naming what changed, or cannot be read.
    """
    path = Path(config.out) / NAME
    if not path.exists():
        return Progress(), {}
    found, told, tensors = _read(path)
    wanted = json.loads(json.dumps(config.decisive()))
    changed = [
        f"{key} was {found.get(key)}, now {wanted.get(key)}"
        for key in sorted({*found, *wanted})
        if found.get(key) != wanted.get(key)
    ]
    if changed:
        raise Refused(
            f"{path} is the state of another training: {'; '.join(changed)}. Give another --out, "
            f"or --fresh to start over."
        )
    network.load_state_dict(_part(tensors, "net."))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _part(tensors, "opt.").items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return Progress(**told), _part(tensors, "best.")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]:
    """Configuration, progress and tensors of a state file."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            note: dict[str, Any] = json.loads((file.metadata() or {})[_KEY])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return note["config"], note["progress"], tensors
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise Refused(
            f"{path} cannot be read as the state of a training run: {error}. Give another --out, "
            f"or --fresh to start over."
        ) from None


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def history(out: str | Path) -> list[dict[str, float]]:
    """What a training's state in a folder says of its epochs: loss and validation metrics of each."""
    _, told, _ = _read(Path(out) / NAME)
    return list(told["history"])
