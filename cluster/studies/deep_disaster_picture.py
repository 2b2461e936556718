"""Pictures of the study of paper 000: photos most wrongly judged, and where a classifier looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ...models.batches import normalised
from ...models.grad_cam import grad_cam
from ...models.inception_window import InceptionWindow
from ...models.photos.photoset import PhotoSet
from .sheet import Row, draw_sheet

_EACH = 8
"""Photos of a row."""


def draw_worst(
    photos: PhotoSet, scores: Mapping[str, Mapping[str, Sequence[Any]]], side: int = 120
) -> bytes:
    """Photos without damage that score highest, above those with damage that score lowest; PNG.

    Scores are of the test photos of each event; of different events their ranks are compared.
    """
    ranked: list[tuple[float, bool, np.ndarray, str]] = []
    for event, found in scores.items():
        part = photos.town(event).part("test")
        ranks = np.argsort(np.argsort(found["scores"])) / max(len(part) - 1, 1)
        for index, (rank, damaged) in enumerate(zip(ranks.tolist(), found["labels"], strict=True)):
            wrong = 1 - rank if damaged else rank
            ranked.append((wrong, damaged, part.image(index), f"{rank:.2f} {event}"))
    rows: list[Row] = []
    for title, wanted in (
        ("no damage, highest scores", False), ("damage, lowest scores", True),
    ):  # fmt: skip
        some = sorted((r for r in ranked if r[1] is wanted), key=lambda r: -r[0])[:_EACH]
        rows.append((title, [(image.transpose(1, 2, 0), name) for _, _, image, name in some]))
    return draw_sheet(rows, side)


def draw_map(network: InceptionWindow, image: np.ndarray, name: str, side: int = 240) -> bytes:
    """A photo, what of it speaks for damage (Grad-CAM), and both over each other; PNG."""
    pixels = normalised(torch.from_numpy(image[None]), network.mean, network.std)
    heat = grad_cam(network, pixels)[0].numpy()
    grey = np.repeat((255 * heat).astype(np.uint8)[None], 3, axis=0)
    red = np.array([255, 40, 0])[:, None, None]
    over = (image * (1 - 0.6 * heat) + red * (0.6 * heat)).astype(np.uint8)
    pictures = [(image, "photo"), (grey, "Grad-CAM"), (over, "both")]
    return draw_sheet([(name, [(x.transpose(1, 2, 0), what) for x, what in pictures])], side)
