"""The network of paper 003: a backbone's features of a square, and whether it shows damage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..scenes.errors import UsageError
from ..scenes.plan import Window
from .score_net import ScoreNet
from .zoo import begin_encoder, timm

SIDE = 299
"""Of the squares that Inception-v3 takes, px."""

OVERLAP = 90
"""Pixels that neighbouring squares of a raster have in common; paper 003, section 4.4."""

CLASSES = ("undamaged", "damaged")
"""What the two logits are of, in order."""

_TRAINING_ONLY = "AuxLogits."
"""How the names of Inception's tensors begin that classify at half its depth, while it is trained."""


class InceptionWindow(ScoreNet):
    """Says of a square of the image after whether it shows damage.

    `forward(image)`: float (n, 3, side, side), already normalised with the backbone's `mean` and `std`;
    returns the logits (n, 2) of no damage and of damage. A backbone of timm, of the extra [zoo], whose
    pooled features go through one linear layer, which is all that paper 003 trains: 4,098 parameters
    on the 2,048 features of Inception-v3.

    The paper's backbone is TensorFlow's graph of 2015-12-05. timm's inception_v3 has the same layers,
    but other weights.
    """

    def __init__(self, encoder: str = "inception_v3", side: int = SIDE) -> None:
        """`encoder` is a model of timm, `side` the height and width of the squares, px.

        Raises UsageError for a model that timm does not have, for another side where the model has
        its own, and without [zoo].
        """
        super().__init__()
        if not timm().is_model(encoder):
            raise UsageError(
                f"timm has no model {encoder!r}. Give --backbone one of "
                f"{', '.join(timm().list_models()[:3])}, … (timm.list_models() names all)."
            )
        self.backbone = encoder
        self.encoder = timm().create_model(encoder, pretrained=False, num_classes=0)
        self._side = side
        self._check_side()
        features = getattr(self.encoder, "head_hidden_size", None) or self.encoder.num_features
        self.head = nn.Linear(features, len(CLASSES))

    @property
    def side(self) -> int:
        """Height and width of the squares, px."""
        return self._side

    @property
    def mean(self) -> tuple[float, ...]:
        """Per band, of values 0-1, that the backbone's weights were trained with."""
        return tuple(self.encoder.pretrained_cfg["mean"])

    @property
    def std(self) -> tuple[float, ...]:
        """Per band, of values 0-1, that the backbone's weights were trained with."""
        return tuple(self.encoder.pretrained_cfg["std"])

    @property
    def encoders(self) -> Sequence[nn.Module]:
        """The one encoder."""
        return (self.encoder,)

    def window(self, overlap: int | None = None) -> Window:
        """Squares of a raster, each of which gets a score; they overlap by so many pixels.

        None is the paper's 90 of 299 px, or as much of another side.
        """
        share = round(self._side * OVERLAP / SIDE)
        return Window.scanning(self._side, share if overlap is None else overlap)

    def features(self, image: Tensor) -> Tensor:
        """What the backbone makes of squares, its "bottleneck": (n, d)."""
        if image.ndim != 4 or image.shape[1:] != (3, self._side, self._side):
            raise UsageError(
                f"The network takes a tensor (n, 3, {self._side}, {self._side}); got "
                f"{tuple(image.shape)}."
            )
        return self.encoder(image)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image))

    def scores(self, image: Tensor) -> Tensor:
        """The probability of damage; see ScoreNet."""
        return self(image).float().softmax(dim=1)[:, 1]

    def load_encoder(self, tensors: Mapping[str, Tensor]) -> None:
        """Begin the backbone with the tensors of a timm checkpoint.

        timm's own classifiers are left out; nothing else may be left over or missing. Raises
        UsageError where the tensors do not fit.
        """
        names = self.encoder.pretrained_cfg["classifier"]
        names = [names] if isinstance(names, str) else list(names)
        passed = (_TRAINING_ONLY, *(f"{name}." for name in names))
        begin_encoder(self.encoder, tensors, self.backbone, passed)

    def set_head(self, weight: Tensor, bias: Tensor) -> None:
        """Take over a linear layer (2, d) and (2,) that was fitted elsewhere, such as in `heads`.

        Raises UsageError for other shapes and for values that are not finite.
        """
        if weight.shape != self.head.weight.shape or bias.shape != self.head.bias.shape:
            raise UsageError(
                f"The head of {self.backbone} takes weights {tuple(self.head.weight.shape)} and "
                f"{tuple(self.head.bias.shape)}; got {tuple(weight.shape)} and {tuple(bias.shape)}."
            )
        if not (weight.isfinite().all() and bias.isfinite().all()):
            raise UsageError("The head's weights are not all finite.")
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.copy_(bias)

    def _check_side(self) -> None:
        settings = self.encoder.pretrained_cfg
        own = settings["input_size"][-1]
        if self._side < 1 or (settings.get("fixed_input_size") and self._side != own):
            raise UsageError(
                f"{self.backbone} takes squares of {own} px, not of {self._side}. Change side."
            )
