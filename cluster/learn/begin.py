"""The network that a learning begins with."""

from __future__ import annotations

import torch
from sqlalchemy.orm import Session

from ...models.checkpoint import load
from ...models.inception_window import InceptionWindow
from ...models.window_training import with_encoder
from ...scenes.errors import Refused
from ..catalog.catalog import Catalog
from ..catalog.lineage import weights_of
from ..catalog.tables import Model
from .config import LearnConfig

SMALL = "resnet10t"
"""The backbone without weights of one: at random it tells more of synthetic towns than others of timm's
small ones, see docs/active-learning.md, and it is quick."""

LARGE = "inception_v3"
"""The backbone that weights are taken to be of where none is named: paper 003's."""


def begun(
    catalog: Catalog, config: LearnConfig, side: int, in_use: Model | None
) -> tuple[InceptionWindow, Model | None]:
    """A network of squares of `side` px, in eval mode, and the model whose backbone it has.

    The backbone is that of the model in use where the configuration names none. Random weights are the
    same each time. Raises UsageError for an unknown backbone, Refused for weights that do not fit.
    """
    if config.backbone is None and config.encoder is None and in_use is not None:
        other = network_of(catalog, in_use)
        network = _built(other.backbone, side)
        network.encoder.load_state_dict(other.encoder.state_dict())
        return network.eval(), in_use
    network = _built(config.backbone or (SMALL if config.encoder is None else LARGE), side)
    return with_encoder(network, config.encoder), None


def network_of(catalog: Catalog, model: Model) -> InceptionWindow:
    """The network of a catalogued model, on the CPU; Refused where it has no layer to be learnt."""
    network, card = load(weights_of(catalog, model))
    if not isinstance(network, InceptionWindow):
        raise Refused(
            f"Model {model.id} is {card.network}, which is not learnt from tags. Give --backbone."
        )
    return network


def is_tuned(session: Session, model: Model | None) -> bool:
    """Whether the backbone of a model was tuned on tags, in it or in one that it is from."""
    while model is not None:
        if model.metrics.get("layers") == "all":
            return True
        model = None if model.parent_id is None else session.get(Model, model.parent_id)
    return False


def _built(backbone: str, side: int) -> InceptionWindow:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return InceptionWindow(backbone, side)
