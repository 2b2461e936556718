"""The course of an adversarial training: its batches, its steps, and where it goes on (paper 000)."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from ..scenes.errors import AftermapError, Refused
from .adversarial_recipe import AdversarialConfig, Images, linear_rule
from .batches import normalised
from .deep_disaster import DeepDisaster
from .distillation import Distillation, initial_alpha
from .loop import Tick
from .photo_augment import changed
from .skip_ganomaly import Reconstruction, SkipGANomaly
from .state import Progress, load_state, save_state

HALF = (0.5, 0.5, 0.5)
"""Mean and deviation that bring images of 0-1 to -1 to 1."""

_SAMPLE = 64
"""Images that say which ones a training learns from."""

Tell = Callable[[Tick], None]


class Course:
    """What is taught: the networks that learn, the images in their order, and one step of it all."""

    def __init__(
        self,
        config: AdversarialConfig,
        network: SkipGANomaly | DeepDisaster,
        images: Images,
        chosen: Sequence[int],
        device: torch.device,
    ) -> None:
        if len(chosen) < config.batch:
            raise Refused(
                f"{config.data}: {len(chosen)} images to train on are fewer than a batch of "
                f"{config.batch}. Give more images, or a smaller --batch."
            )
        self.config, self.images, self.chosen, self.device = config, images, chosen, device
        self.pair = network.to(device) if isinstance(network, DeepDisaster) else None
        self.learners = [network] if isinstance(network, SkipGANomaly) else learners(network)
        self.learning = nn.ModuleList(self.learners).to(device)
        self.steps = len(chosen) // config.batch
        if self.pair is not None and config.alpha is None and config.form == "paper":
            with closing(self.batches(0)) as batches:
                first = next(batches)
            self.pair.distillation = replace(self.pair.distillation, alpha=_alpha(self.pair, first))
        self.terms = (
            Distillation(config.form, hints=()) if self.pair is None else self.pair.distillation
        )
        # One optimiser for all: Adam passes over parameters without a gradient, moments and all.
        self.optimizer = torch.optim.Adam(
            self.learning.parameters(), lr=config.lr, betas=config.betas
        )

    @property
    def out(self) -> str:
        """See Resumable."""
        return self.config.out

    def decisive(self) -> dict[str, object]:
        """What decides the weights: the configuration, and the images."""
        counts = {"images": len(self.images), "used": len(self.chosen)}
        return self.config.decisive() | counts | {"sample": self.sample}

    @cached_property
    def sample(self) -> str:
        """SHA-256 of images spread over those that are learnt from: others are another training."""
        digest = hashlib.sha256()
        for place in np.linspace(0, len(self.chosen) - 1, min(len(self.chosen), _SAMPLE)).astype(
            int
        ):
            digest.update(self.images.image(self.chosen[place]).tobytes())
        return digest.hexdigest()

    def batches(self, epoch: int) -> Generator[Tensor]:
        """Normalised images of an epoch; those of the next batch are read meanwhile."""
        config = self.config
        order = np.random.default_rng([config.seed, epoch]).permutation(self.chosen)

        def draw(place: int) -> np.ndarray:
            image = checked(self.images, int(order[place]), config.side)
            return changed(image, (config.seed, epoch, place)) if config.augment else image

        with ThreadPoolExecutor(config.workers, thread_name_prefix="photos") as pool:
            ahead = [pool.submit(draw, place) for place in range(config.batch)]
            for step in range(1, self.steps + 1):
                now = np.stack([future.result() for future in ahead])
                places = range(step * config.batch, (step + 1) * config.batch)
                ahead = [pool.submit(draw, place) for place in places if step < self.steps]
                yield tensor(now, self.device)

    def learn(self) -> None:
        """Put what learns into training mode."""
        (self.pair or self.learning).train()

    def step(self, images: Tensor) -> tuple[float, float]:
        """Teach every network once; returns the losses of the last one."""
        lesson, loss, opposed = None, 0.0, 0.0
        if self.pair is not None and len(self.learners) == 1:
            with torch.no_grad():
                lesson = self.pair.lesson(images)
        for network in self.learners:
            made, loss, opposed = adversarial_step(
                network, self.optimizer, images, self.terms, lesson
            )
            if self.pair is not None and network is not self.pair.student:
                lesson = self.pair.comparable(made)
        return loss, opposed


def learn(course: Course, examine: Callable[[], dict[str, float]], tell: Tell) -> Progress:
    """Train from where the state says, keeping it after each epoch; leaves the chosen weights."""
    config, learning = course.config, course.learning
    run, best = load_state(course, learning, course.optimizer)
    while run.epoch < config.epochs:
        loss, opposed = _epoch(course, run.epoch, tell)
        run.epoch += 1
        scores = examine()
        run.history.append({"epoch": run.epoch, "loss": loss, "discriminator": opposed, **scores})
        area = scores.get("auc")
        if config.selection == "auc" and area is not None and (run.best is None or area > run.best):
            run.best, run.best_epoch = area, run.epoch
            best = {k: v.detach().cpu().clone() for k, v in learning.state_dict().items()}
        save_state(course, learning, course.optimizer, best, run)
        steps = course.steps
        tell(Tick(run.epoch, config.epochs, steps, steps, loss, 0.0, 0.0, area))
    if best:
        learning.load_state_dict(best)
    return run


def _epoch(course: Course, epoch: int, tell: Tell) -> tuple[float, float]:
    """One epoch; returns the mean losses of generator and discriminator."""
    config, steps = course.config, course.steps
    course.learn()
    for group in course.optimizer.param_groups:
        group["lr"] = config.lr * (linear_rule(epoch) if config.schedule == "linear" else 1.0)
    totals, began = np.zeros(2), time.monotonic()
    for step, images in enumerate(course.batches(epoch), start=1):
        losses = course.step(images)
        if not all(map(math.isfinite, losses)):
            raise AftermapError(
                f"The training stopped in epoch {epoch + 1}, step {step} of {steps}: the losses are "
                f"{losses[0]} and {losses[1]}. Lower --lr; {epoch} whole epochs are kept in "
                f"{config.out}."
            )
        totals += losses
        passed = time.monotonic() - began
        rate = step * config.batch * config.side**2 / passed / 1e6
        eta = ((config.epochs - epoch) * steps - step) * passed / step
        if step < steps:
            mean = float(totals[0] / step)
            tell(Tick(epoch + 1, config.epochs, step, steps, mean, rate, eta))
    return float(totals[0] / steps), float(totals[1] / steps)


def adversarial_step(
    network: SkipGANomaly,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    terms: Distillation,
    teacher: Reconstruction | None = None,
) -> tuple[Reconstruction, float, float]:
    """One step of the generator, then one of the discriminator; images (n, 3, side, side), -1 to 1.

    `optimizer` may hold the parameters of both and more: those without a gradient stay as they are.
    Returns what the network made of the images before, cut off, and both losses.
    """
    made = network(images)
    with torch.no_grad():
        _, own = network.discriminator(images)
    loss = terms.generator_loss(images, own, made, teacher)
    optimizer.zero_grad(set_to_none=True)
    loss.backward(inputs=list(network.generator.parameters()))
    optimizer.step()
    # The generator has changed: a graph through it would be of weights that are gone.
    cut = Reconstruction(*(part.detach() for part in made))
    probability, latent = network.discriminator(cut.image)
    seen = cut._replace(probability=probability, latent=latent)
    opposed = terms.discriminator_loss(network.discriminator(images), seen, teacher)
    optimizer.zero_grad(set_to_none=True)
    opposed.backward()
    optimizer.step()
    return cut, float(loss.detach()), float(opposed.detach())


def learners(network: DeepDisaster) -> list[SkipGANomaly]:
    """The networks that have gradients, a teacher before its student."""
    both = (network.teacher, network.student)
    return [n for n in both if n is not None and next(n.parameters()).requires_grad]


@torch.no_grad()
def _alpha(network: DeepDisaster, images: Tensor) -> float:
    """See `initial_alpha`; from a copy, for looking moves the statistics of BatchNorm."""
    if network.scored != "pair":
        return 1.0
    copy = deepcopy(network).train()
    lesson = copy.lesson(images)
    assert lesson is not None
    return initial_alpha(network.distillation.hints, copy.judged(images), lesson)


def checked(images: Images, index: int, side: int) -> np.ndarray:
    """An image; Refused if it is of another size."""
    image = images.image(index)
    if image.shape != (3, side, side) or image.dtype != np.uint8:
        raise Refused(
            f"Image {index} is {image.dtype} {image.shape}, not uint8 (3, {side}, {side}). Read the "
            f"photos at {side} px, or change --side."
        )
    return image


def tensor(images: np.ndarray, device: torch.device) -> Tensor:
    """Images as the networks see them, -1 to 1."""
    return normalised(torch.from_numpy(images).to(device), HALF, HALF)
