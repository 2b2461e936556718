"""Where a classifier of squares looks: Grad-CAM, of the supervised networks that paper 000 compares with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .inception_window import InceptionWindow


def grad_cam(network: InceptionWindow, images: Tensor, target: int = 1) -> Tensor:
    """How much each place of squares speaks for a class: fp32 (n, side, side), 0-1.

    `images` are normalised, (n, 3, side, side); `target` 1 is damage, 0 none. Each channel of the
    backbone's last map is weighed by the mean slope of the class's logit over it, the sum cut off
    below 0 (Selvaraju and others, 2017, eq. 1 and 2), brought to the square's size bilinearly, and
    scaled to its highest value. All 0 where no place speaks for the class. The network is used in
    eval mode and left as it was, without gradients.
    """
    training = network.training
    network.eval()
    with torch.enable_grad():
        maps, logits = _seen(network, images)
        (slopes,) = torch.autograd.grad(logits[:, target].sum(), maps)
    network.train(training)
    weights = slopes.mean(dim=(2, 3), keepdim=True)
    found = functional.relu((weights * maps.detach()).sum(dim=1, keepdim=True)).float()
    wide = functional.interpolate(found, images.shape[2:], mode="bilinear", align_corners=False)
    highest = wide.amax(dim=(1, 2, 3), keepdim=True)
    return (wide / highest.clamp(min=torch.finfo(torch.float32).tiny))[:, 0]


def _seen(network: InceptionWindow, images: Tensor) -> tuple[Tensor, Tensor]:
    """The backbone's last maps (n, channels, h, w), and the logits made of them."""
    with torch.no_grad():
        maps = network.encoder.forward_features(images)
    # Only what follows the maps is differentiated.
    maps = maps.detach().requires_grad_()
    return maps, network.head(network.encoder.forward_head(maps))
