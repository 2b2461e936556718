"""Several processes that train one network together, each on its part of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from ..scenes.errors import Refused, UsageError

MEETING = "AFTERMAP_MEETING"
"""Variable with where the processes find each other: a file:// that all of them see. Without it
they meet as torchrun has them meet, which is open to everybody who reaches its port."""

_PATIENCE = timedelta(hours=2)
"""How long the others wait while the first process validates and writes."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a training, and which of them this is. One process is the usual case."""

    count: int = 1
    rank: int = 0
    local: int = 0
    """Place among the processes of this machine: the number of its GPU."""

    @classmethod
    def here(cls) -> Ranks:
        """As the environment says, by the names that torchrun and our job scripts set."""
        try:
            count, rank, local = (
                int(os.environ.get(name, default))
                for name, default in (("WORLD_SIZE", 1), ("RANK", 0), ("LOCAL_RANK", 0))
            )
        except ValueError as error:
            raise UsageError(f"WORLD_SIZE, RANK and LOCAL_RANK must be numbers: {error}.") from None
        if not 0 <= rank < count:
            raise UsageError(
                f"RANK {rank} of WORLD_SIZE {count}: give a RANK from 0 to {count - 1}."
            )
        return cls(count, rank, local)

    @property
    def leads(self) -> bool:
        """Whether this process validates, tells and writes."""
        return self.rank == 0

    def part(self, batch: int) -> range:
        """Places in a batch that this process works on. Raises UsageError for unequal parts."""
        if batch % self.count:
            raise UsageError(
                f"A batch of {batch} crops cannot be shared by {self.count} processes; give a "
                f"multiple of {self.count} with --batch."
            )
        size = batch // self.count
        return range(self.rank * size, (self.rank + 1) * size)

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Join the other processes for the length of a block; nothing happens where there is one."""
        if self.count == 1:
            yield
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)
        try:
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                init_method=os.environ.get(MEETING, "env://"),
                world_size=self.count,
                rank=self.rank,
                timeout=_PATIENCE,
            )
        except (RuntimeError, ValueError) as error:
            raise Refused(
                f"Process {self.rank} of {self.count} could not join the training: {error}. Check "
                f"{MEETING}, or MASTER_ADDR and MASTER_PORT."
            ) from error
        try:
            yield
            dist.barrier()  # whoever left before would take its connections from those at work
        finally:
            dist.destroy_process_group()

    def sharing(self, network: torch.nn.Module) -> torch.nn.Module:
        """The network to call in training: its gradients become the mean over all processes.

        On GPUs normalisation layers take their statistics over the parts of all processes. On CPUs,
        where torch cannot, each takes its own part's, and the first process's are kept.
        """
        if self.count == 1:
            return network
        if next(network.parameters()).is_cuda:
            network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return DistributedDataParallel(network)

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.count > 1:
            dist.barrier()

    def mean(self, value: float, device: torch.device) -> float:
        """The mean of a number over all processes."""
        if self.count == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return float(total) / self.count

    def agreed(self, stop: bool, device: torch.device) -> bool:
        """Whether the first process says so: clocks differ, and all must do the same."""
        return self.mean(float(stop and self.leads), device) > 0
