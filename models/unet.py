"""The networks of paper 004: a U-Net that finds footprints, and a classifier of grid cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..scenes.errors import UsageError
from ..scenes.plan import Window
from .damage_net import SceneNet, without_halo
from .losses import IGNORE
from .metrics import DAMAGED
from .zoo import begin_encoder, segmentation_models, timm

STRIDE = 32
"""Both encoders halve their image five times."""

BACKBONES = (
    *(f"resnet{layers}" for layers in (18, 34, 50, 101, 152)),
    *(f"efficientnet-b{size}" for size in range(8)),
)
"""Encoders that are offered."""

CELL = 128
"""Side of a grid cell, px: the size of paper 004's crops."""

CLASSIFIERS = ("fc.", "classifier.")
"""How the names of timm's tensors begin that classify images into its own classes."""


class UNetFootprints(SceneNet):
    """A U-Net that finds buildings in the image before.

    `forward(image)`: float (n, 3, h, w), already normalised, h and w divisible by 32; returns the
    logits of buildings (n, 1, h, w). The network is that of segmentation_models_pytorch, of the extra
    [zoo]: five stages, decoder widths 256 to 16. Paper 004, with EfficientNet-B5 as there.

    EfficientNet weighs its channels by their means over the whole image, so no halo makes tiles equal
    the whole image; windows fade into each other instead.
    """

    inputs = ("pre",)

    def __init__(self, encoder: str = "efficientnet-b5") -> None:
        """`encoder` is one of `BACKBONES`. Raises UsageError for another one, and without [zoo]."""
        super().__init__()
        _check_backbone(encoder)
        self.backbone = encoder
        self.unet = segmentation_models().Unet(encoder, encoder_weights=None, classes=1)
        # Its last layers classify images and take no part here: processes that train together would
        # wait for their gradients.
        for name in ("_conv_head", "_bn1"):
            if hasattr(self.unet.encoder, name):
                getattr(self.unet.encoder, name).requires_grad_(False)

    @property
    def stride(self) -> int:
        """What heights and widths must be divisible by, px."""
        return STRIDE

    @property
    def encoders(self) -> Sequence[nn.Module]:
        """The one encoder."""
        return (self.unet.encoder,)

    def window(self, core: int | None = None, halo: int | None = None) -> Window:
        """Squares of 320 px, that fade into each other over 64 px; two cells a core."""
        return Window(core or 2 * CELL, 160 if halo is None else halo, blended=True)

    def forward(self, image: Tensor) -> Tensor:
        _check_image(image, STRIDE)
        return self.unet(image)

    def probabilities(self, image: Tensor, halo: int = 0) -> Tensor:
        """Of buildings; see SceneNet."""
        return without_halo(self(image), halo).float().sigmoid()

    def codes(self, probabilities: Tensor, threshold: float = 0.5) -> Tensor:
        """1 where a building is more probable than `threshold`, else 0; of damage it says nothing."""
        return (probabilities[:, 0] > threshold).to(torch.uint8)

    def truth(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Buildings have the codes 1 to 5; 255 is not known. See SceneNet."""
        known = codes != IGNORE
        return (codes > 0) & known, known

    def labels(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """The truth of each pixel, (n, 1, h, w); see SceneNet."""
        building, known = self.truth(codes)
        return building[:, None].float(), known[:, None]

    def load_encoder(self, tensors: Mapping[str, Tensor]) -> None:
        """See SceneNet. An EfficientNet is TensorFlow's, which timm calls tf_efficientnet_b5; those
        without tf_ have the same tensors, but were trained with other padding."""
        encoder = self.unet.encoder
        names: dict[str, str] = {}
        if self.backbone.startswith("efficientnet"):
            names = dict(zip(_timm_names(self.backbone), encoder.state_dict(), strict=True))
        renamed = {names.get(k, k): v for k, v in tensors.items()}
        begin_encoder(encoder, renamed, _timm_name(self.backbone), CLASSIFIERS)


class GridClassifier(SceneNet):
    """Says of a cell of the image after how much of its building area is damaged.

    `forward(image)`: float (n, 3, h, w), already normalised, each one cell; returns logits (n, 1). An
    encoder of timm, of the extra [zoo], the mean over all positions, and one linear layer. Paper 004,
    with ResNet-34 as there, which calls it a U-Net: cells have one probability each, so there is nothing
    for a decoder to do.
    """

    inputs = ("post",)

    def __init__(self, encoder: str = "resnet34", cell: int = CELL) -> None:
        """`encoder` is one of `BACKBONES`, `cell` the side of a grid cell, px.

        Raises UsageError for others, and without [zoo].
        """
        super().__init__()
        _check_backbone(encoder)
        if cell < STRIDE or cell % STRIDE:
            raise UsageError(
                f"Cells have a side of a multiple of {STRIDE} px; got {cell}. Change --chip."
            )
        self.backbone = encoder
        self.cell = cell
        self.encoder = timm().create_model(_timm_name(encoder), pretrained=False, num_classes=0)
        self.head = nn.Linear(self.encoder.num_features, 1)

    @property
    def stride(self) -> int:
        """The side of a cell, px: rasters are divided into whole ones."""
        return self.cell

    @property
    def encoders(self) -> Sequence[nn.Module]:
        """The one encoder."""
        return (self.encoder,)

    def window(self, core: int | None = None, halo: int | None = None) -> Window:
        """One cell, seen alone."""
        return Window(core or self.cell, halo or 0)

    def forward(self, image: Tensor) -> Tensor:
        _check_image(image)
        return self.head(self.encoder(image))

    def probabilities(self, image: Tensor, halo: int = 0) -> Tensor:
        """Of damage, the same all over each cell of a grid from the upper left; see SceneNet.

        Height and width are whole cells.
        """
        _check_image(image, self.cell)
        cells = self.cells(image).float().sigmoid()
        found = cells.repeat_interleave(self.cell, 2).repeat_interleave(self.cell, 3)
        return without_halo(found, halo)

    def cells(self, image: Tensor) -> Tensor:
        """Logits of all cells of an image (n, 3, h, w), as many as fit: (n, 1, rows, columns)."""
        n, bands, height, width = image.shape
        rows, columns = height // self.cell, width // self.cell
        if not rows * columns:
            raise UsageError(f"{height}×{width} px hold no cell of {self.cell} px.")
        image = image[..., : rows * self.cell, : columns * self.cell]
        split = image.reshape(n, bands, rows, self.cell, columns, self.cell)
        each = split.permute(0, 2, 4, 1, 3, 5).reshape(-1, bands, self.cell, self.cell)
        return self(each).reshape(n, rows, columns, 1).permute(0, 3, 1, 2)

    def truth(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Damage has the codes 2 to 5; it is asked of the pixels of buildings only. See SceneNet."""
        values = torch.tensor(DAMAGED, dtype=codes.dtype, device=codes.device)
        return torch.isin(codes, values), (codes > 0) & (codes != IGNORE)

    def labels(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """The damaged share of the building pixels of each cell, (n, 1); unknown without any."""
        damaged, buildings = (x.flatten(1).sum(dim=1, keepdim=True) for x in self.truth(codes))
        return damaged / buildings.clamp(min=1), buildings > 0

    def load_encoder(self, tensors: Mapping[str, Tensor]) -> None:
        """See SceneNet."""
        begin_encoder(self.encoder, tensors, _timm_name(self.backbone), CLASSIFIERS)


def _timm_names(backbone: str) -> list[str]:
    """timm's names of an encoder's tensors, in the order of its layers."""
    with torch.device("meta"):
        model = timm().create_model(_timm_name(backbone), pretrained=False, num_classes=0)
    return list(model.state_dict())


def _timm_name(backbone: str) -> str:
    if backbone.startswith("efficientnet"):
        return f"tf_{backbone.replace('-', '_')}"
    return backbone


def _check_backbone(encoder: str) -> None:
    if encoder not in BACKBONES:
        raise UsageError(
            f"Unknown encoder {encoder!r}. Valid names: {', '.join(BACKBONES)}. Change --backbone."
        )


def _check_image(image: Tensor, multiple: int = 1) -> None:
    if image.ndim != 4 or image.shape[1] != 3:
        raise UsageError(f"The network takes a tensor (n, 3, h, w); got {tuple(image.shape)}.")
    if image.shape[-2] % multiple or image.shape[-1] % multiple:
        raise UsageError(
            f"Height and width must be divisible by {multiple}; got "
            f"{image.shape[-2]}×{image.shape[-1]} px."
        )
