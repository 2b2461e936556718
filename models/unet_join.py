"""Joining the two networks of paper 004, trained apart, into the weights of `unet-grid`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch import nn

from ..scenes.errors import Refused, UsageError
from .card import Card
from .checkpoint import load, save
from .unet import GridClassifier, UNetFootprints
from .unet_grid import UNetGrid

METHOD = "unet-grid"


def join(
    footprints: str | os.PathLike[str], cells: str | os.PathLike[str], out: str | os.PathLike[str]
) -> Path:
    """Write `unet-grid.safetensors` with its card into a folder; returns its path.

    `footprints` are weights of `unet-footprints`, whose card's threshold becomes that of buildings,
    `cells` those of `grid-classifier`, whose threshold becomes that of damage. Resolutions are those
    that both are meant for. Raises Refused for weights that do not go together, and for a folder that
    cannot be written.
    """
    buildings, first = _loaded(footprints, "FOOTPRINTS", "unet-footprints")
    damage, second = _loaded(cells, "CELLS", "grid-classifier")
    assert isinstance(buildings, UNetFootprints)
    assert isinstance(damage, GridClassifier)
    for name in ("bands", "mean", "std", "scale"):
        one, other = getattr(first, name), getattr(second, name)
        if one != other:
            raise Refused(
                f"{footprints} and {cells} cannot be joined: {name} is {one} and {other}. Train "
                f"both on images that are normalised alike."
            )
    low = max(first.resolution[0], second.resolution[0])
    high = min(first.resolution[1], second.resolution[1])
    if low > high:
        raise Refused(
            f"{footprints} is meant for pixels of {first.resolution[0]:g} to "
            f"{first.resolution[1]:g} m and {cells} for {second.resolution[0]:g} to "
            f"{second.resolution[1]:g} m. Train both for the same."
        )
    options: dict[str, Any] = {
        "footprints": buildings.backbone,
        "cells": damage.backbone,
        "cell": damage.cell,
        "building_threshold": first.threshold,
    }
    try:
        network = UNetGrid(**options)
    except UsageError as error:
        raise Refused(f"{footprints} and {cells} cannot be joined: {error}") from None
    network.footprints.load_state_dict(buildings.state_dict())
    network.cells.load_state_dict(damage.state_dict())
    window = network.window()
    card = Card(
        method=METHOD,
        network=METHOD,
        options=options,
        classes=network.classes,
        bands=first.bands,
        mean=first.mean,
        std=first.std,
        scale=first.scale,
        resolution=(low, high),
        nominal_resolution=min(max(first.nominal_resolution, low), high),
        core=window.core,
        halo=window.halo,
        blended=window.blended,
        stride=network.stride,
        threshold=second.threshold,
        training_data=f"Footprints: {first.training_data} Damage: {second.training_data}",
        licence=" and ".join(sorted({card.licence for card in (first, second) if card.licence})),
        metrics=_named("footprints", first) | _named("cells", second),
    )
    target = Path(out) / f"{METHOD}.safetensors"
    try:
        save(target, network, card)
    except OSError as error:
        raise Refused(f"{target} cannot be written: {error}. Change --out.") from error
    return target


def _loaded(file: str | os.PathLike[str], argument: str, method: str) -> tuple[nn.Module, Card]:
    try:
        network, card = load(file)
    except Refused as error:
        raise Refused(str(error).replace("--weights", argument)) from error
    if card.method != method:
        raise Refused(
            f"{argument} takes weights of {method}, and {file} holds those of {card.method}. Give "
            f"weights of unet-footprints first, then those of grid-classifier."
        )
    return network, card


def _named(part: str, card: Card) -> dict[str, float]:
    return {f"{part}_{name}": value for name, value in card.metrics.items()}
