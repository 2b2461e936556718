"""Trees: single crowns with their shadows, and closed woods."""

from __future__ import annotations

import numpy as np

from .synth_roof import Sheet, lay
from .synth_sensor import Look
from .synth_texture import nearest, woodland


def tree_shadow(
    canvas: Sheet, shade: np.ndarray, tree: tuple[float, ...], look: Look, strength: np.float32
) -> None:
    """Add the shadow of a tree: its disc swept along the sun."""
    x, y, radius, _, dice = tree
    height = radius * (1.5 if dice > 0.25 else 2.2)
    dx, dy = look.sun[0] * height, look.sun[1] * height
    box = canvas.box(x + 0.55 * dx, y + 0.55 * dy, radius + 0.5 * max(abs(dx), abs(dy)) + 1)
    if box is None:
        return
    px = (canvas.x[box[1]] - x).astype(np.float32)[None, :]
    py = (canvas.y[box[0]] - y).astype(np.float32)[:, None]
    along = np.clip((px * dx + py * dy) / np.float32(dx * dx + dy * dy), 0.15, 0.95)
    far = (px - along * dx) ** 2 + (py - along * dy) ** 2
    dark = np.clip(1.25 - far / (radius * radius) + 0.35 * canvas.rough[box], 0, 0.9)
    part = shade[box]
    np.maximum(part, np.clip(dark * 1.8, 0, 0.92) * strength, out=part)


def tree_crown(canvas: Sheet, image: np.ndarray, tree: tuple[float, ...], look: Look) -> None:
    """Paint a crown: a lit, ragged dome; twigs when leafless."""
    x, y, radius, own, dice = tree
    box = canvas.box(x, y, radius * 1.3)
    if box is None:
        return
    px = ((canvas.x[box[1]] - x) / radius).astype(np.float32)[None, :]
    py = ((canvas.y[box[0]] - y) / radius).astype(np.float32)[:, None]
    dome = 1 - px * px - py * py + 0.3 * canvas.rough[box] + 0.12 * canvas.fine[box]
    evergreen = dice < 0.25
    alpha = np.clip(dome * np.float32(radius / canvas.gsd * 0.6), 0, 0.97)
    colour = np.array(look.leaf, np.float32)
    if evergreen:
        colour = np.array((58, 74, 54), np.float32)
    elif look.leaves < 0.5:
        alpha *= np.clip(0.30 + 0.45 * canvas.fine[box] + 0.2 * canvas.rough[box], 0, 0.85)
        colour = np.array((100, 92, 82), np.float32)
    lean = float(np.hypot(*look.sun))
    lit = px * np.float32(-look.sun[0] / lean) + py * np.float32(-look.sun[1] / lean)
    light = (0.86 + 0.10 * own) + 0.36 * lit + 0.10 * canvas.fine[box] + 0.07 * canvas.rough[box]
    lay(image, box, colour[:, None, None] * np.clip(light, 0.35, 1.6), alpha)


def woods(canvas: Sheet, image: np.ndarray, look: Look, thick: np.ndarray) -> None:
    """Paint closed woods where `thick` (h, w), about -1 to 1, allows crowns to stand."""
    height, shade = woodland()
    lean = float(np.hypot(*look.sun))
    dx, dy = look.sun[0] / lean, look.sun[1] / lean
    tall = nearest(height, canvas.x, canvas.y, 0.5)
    toward = nearest(height, canvas.x - 1.5 * dx, canvas.y - 1.5 * dy, 0.5)
    sunward = nearest(height, canvas.x - 4.0 * dx, canvas.y - 4.0 * dy, 0.5)
    own = nearest(shade, canvas.x, canvas.y, 0.5)
    full = np.float32(0.5 + 0.5 * look.leaves)
    ragged = 0.6 * canvas.rough + 0.25 * canvas.fine
    alpha = np.clip(thick * 7 + (tall - 0.5) * 3 + ragged, 0, 1) * full * (thick > -0.6)
    dark = np.clip(thick * 7 + (sunward - 0.5) * 3, 0, 1) * (thick > -0.6) * (1 - alpha)
    light = 0.74 + 0.65 * (tall - toward) + 0.10 * own + 0.09 * canvas.fine + 0.09 * canvas.rough
    light = np.clip(light, 0.3, 1.5)
    for channel in range(3):
        plane = image[channel]
        plane *= 1 - dark * np.float32(0.9 - 0.9 * look.ambient)
        plane += alpha * (np.float32(look.leaf[channel]) * light - plane)
