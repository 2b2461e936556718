"""Pixels of the procedural town: ground, roofs, rubble, trees, light and sensor.

Every value is a function of the pixel's place in the world (x, y in metres, y southwards), so that
a scene rendered in pieces equals the scene rendered at once, bit for bit.
"""

from __future__ import annotations

import numpy as np

from .synth_block import Town
from .synth_roof import Box, Facade, facade, lay
from .synth_sensor import Look, veil
from .synth_texture import cloudy, grain, nearest, rubble, slow
from .synth_tree import tree_crown, tree_shadow, woods
from .synth_world import DISTRICTS, Block, Building

HALO = 7
"""Pixels around a window that warping and blurring look at."""

Colour = tuple[float, float, float]


class Canvas:
    """A window of the town: what is the same at both dates."""

    def __init__(
        self, world: Town, x: np.ndarray, y: np.ndarray, gsd: float, detail: float
    ) -> None:
        self.world, self.x, self.y, self.gsd = world, x, y, gsd
        self.shape = (y.size, x.size)
        # One cell of detail per pixel of the finer image, or fine images would look blocky.
        self.fine = nearest(grain(), x, y, detail, 1)
        self.rough = nearest(cloudy(0.9), x, y, 0.5, 2)
        self.blocks: list[Block] = world.near(x[0] - 60, y[0] - 60, x[-1] + 60, y[-1] + 60)
        self.slow_water = slow(world.pond, x, y)
        self.green = slow(world.green, x, y)
        self._streets()
        self.facades: list[tuple[Building, Facade]] = []
        for block in self.blocks:
            for building in block.buildings:
                found = facade(self, building)
                if found is not None:
                    self.facades.append((building, found))

    def _streets(self) -> None:
        """Which block each pixel lies in, and its distance from the kerb."""
        world = self.world
        sums = world.street_parts(self.x, self.y)
        index, edges, middles = [], [], []
        for axis in (0, 1):
            by_x, by_y = sums[axis]
            at = by_y[:, None] + by_x[None, :]
            low = int(at.min() // world.pitch[axis]) - 1
            high = int(at.max() // world.pitch[axis]) + 2
            lines = world.line(axis, np.arange(low, high + 1))
            halves = world.half_width(np.arange(low, high + 1)).astype(np.float32)
            cell = np.floor(at * (1 / world.pitch[axis])).astype(np.int32) - low
            cell -= at < lines[cell]
            cell += at >= lines[cell + 1]
            before = (at - lines[cell]).astype(np.float32)
            after = (lines[cell + 1] - at).astype(np.float32)
            middles.append(np.minimum(before, after))
            edges.append(np.minimum(before - halves[cell], after - halves[cell + 1]))
            index.append((cell, low, high))
        self.kerb = np.minimum(edges[0], edges[1])
        self.middle = np.where(edges[0] < edges[1], middles[0], middles[1])
        # A centre line through a crossing would look odd; there both streets are near.
        self.crossing = np.maximum(edges[0], edges[1]) < 3
        (ku, low_u, high_u), (kv, low_v, high_v) = index
        wide = high_u - low_u
        kinds = [
            (world.district(k, l), k, l)
            for l in range(low_v, high_v)  # noqa: E741
            for k in range(low_u, high_u)
        ]
        self.cell = kv * wide + ku
        share = np.empty(len(kinds), np.float32)
        wood = np.empty(len(kinds), np.float32)
        bare = np.empty((3, len(kinds)), np.float32)
        fields = [(158, 142, 104), (126, 130, 88), (150, 122, 94), (112, 124, 78)]
        for n, (kind, k, l) in enumerate(kinds):  # noqa: E741
            dice = np.random.default_rng([world.seed, 5, k & 0xFFFF, l & 0xFFFF]).random(4)
            grass, dirt, density = DISTRICTS[kind]
            share[n] = grass + 0.16 * (dice[0] - 0.5)
            wood[n] = density * (0.5 + 1.2 * dice[1]) if density > 0 else -9.0
            soil = np.array((168, 150, 122)) * (0.85 + 0.2 * dice[2])
            paved = np.array((128, 126, 123)) * (0.85 + 0.3 * dice[3])
            bare[:, n] = soil if dirt / (1.001 - grass) > dice[0] and kind != "works" else paved
            if kind == "field":
                bare[:, n], share[n] = fields[int(dice[0] * 4)], 0.1
        self.share, self.bare = share[self.cell], bare
        # Without a park in sight there is nothing to paint: a shortcut that changes no pixel.
        self.wood = wood[self.cell] if wood.max() > 0 else None

    def box(self, x: float, y: float, reach: float) -> Box | None:
        """Rows and columns of the pixels within `reach` m of a place; None outside the window."""
        g = self.gsd
        col0 = max(int((x - reach - self.x[0]) // g), 0)
        col1 = min(int((x + reach - self.x[0]) // g) + 2, self.x.size)
        row0 = max(int((y - reach - self.y[0]) // g), 0)
        row1 = min(int((y + reach - self.y[0]) // g) + 2, self.y.size)
        if col0 >= col1 or row0 >= row1:
            return None
        return slice(row0, row1), slice(col0, col1)

    def local(self, box: Box, x: float, y: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates a (along `angle`) and b of a box's pixels around a place, m, float32."""
        dx, dy = self.x[box[1]] - x, self.y[box[0]] - y
        cos, sin = np.cos(angle), np.sin(angle)
        a = ((sin * dy)[:, None] + (cos * dx)[None, :]).astype(np.float32)
        b = ((cos * dy)[:, None] - (sin * dx)[None, :]).astype(np.float32)
        return a, b


def paint(canvas: Canvas, look: Look) -> np.ndarray:
    """Paint the window at one date: (3, h, w) float32, light and optics not yet applied."""
    world = canvas.world
    image = _ground(canvas, look)
    shade = np.zeros(canvas.shape, np.float32)
    density = np.zeros(canvas.shape, np.float32)
    burnt = np.zeros(canvas.shape, np.float32)
    severity = slow(world.severity, canvas.x, canvas.y) if look.after else None
    if severity is not None:
        _struck_ground(canvas, image, density, severity)
    for block in canvas.blocks:
        for x, y, long, wide, angle, colour, texture in block.slabs:
            _slab(canvas, image, (x, y, long, wide, angle), np.array(colour, np.float32), texture)
        if look.busy:
            for lot in block.lots:
                _slab(canvas, image, lot, np.array((158, 140, 116), np.float32), 1.5)
    flood = slow(world.flood, canvas.x, canvas.y) if look.after else None
    if flood is not None and flood.max() > 0:
        _flood(canvas, image, flood, density)
    standing = canvas.facades
    for building, face in standing:
        hit = building.level if look.after else 1
        face.cast(canvas, shade, look.sun, hit)
        if hit > 1:
            face.spread(canvas, density, burnt)
    trees = [t for block in canvas.blocks for t in block.trees]
    if look.after and trees:
        where = np.array(trees)
        hurt = world.severity(where[:, 0], where[:, 1]) + 0.25 * (where[:, 4] - 0.5)
        limit = {"tornado": 0.80, "fire": 0.86, "blast": 0.93}.get(world.disaster, 9.0)
        burning = (world.fire(where[:, 0], where[:, 1]) > 0) & (hurt > 0.86)
        trees = [t for t, h, f in zip(trees, hurt, burning, strict=True) if h < limit and not f]
    strength = np.float32(0.45 + 0.55 * look.leaves)
    for tree in trees:
        tree_shadow(canvas, shade, tree, look, strength)
    for channel, light in enumerate(_light(shade, look)):
        image[channel] *= light
    if look.busy:
        for block in canvas.blocks:
            for n, car in enumerate(block.cars):
                _car(canvas, image, car, look, n)
            if look.after:
                for n, lot in enumerate(block.lots):
                    _new_building(canvas, image, lot, look, n)
    for building, face in standing:
        hit = building.level if look.after else 1
        face.roof(canvas, image, shade, density, burnt, look.sun, hit)
    if look.after:
        _rubble(canvas, image, density, burnt, _light(shade, look))
    for tree in trees:
        tree_crown(canvas, image, tree, look)
    if look.cloud is not None:
        veil(image, look, canvas.x, canvas.y, canvas.rough)
    return image


def _light(shade: np.ndarray, look: Look) -> list[np.ndarray]:
    """Light per channel, as a share of full sun: the sky lights the shade, and is blue."""
    return [1 - shade * np.float32(1 - look.ambient - blue) for blue in (0.0, 0.02, 0.07)]


def _ground(canvas: Canvas, look: Look) -> np.ndarray:
    """Meadow, soil, streets, water and woods, without shadows."""
    world, gsd = canvas.world, np.float32(canvas.gsd)
    image = np.empty((3, *canvas.shape), np.float32)
    fine, rough, green = canvas.fine, canvas.rough, canvas.green
    cover = np.clip(canvas.share * 2.2 - 0.6 + 0.28 * rough + 0.22 * green, 0, 1)
    dryness = np.clip(look.dryness - 0.22 * green + 0.12 * rough, 0, 1)
    texture = 1 + 0.035 * fine + 0.055 * rough
    road = np.clip(0.5 - canvas.kerb / gsd, 0, 1)
    walk = np.clip((1.3 - abs(canvas.kerb - 2.0)) / gsd, 0, 1) * (0.62 if world.style != 2 else 0.2)
    tarmac = (126 + 9 * green + 4 * rough) * (1 + 0.02 * fine)
    line = np.clip((0.22 - canvas.middle) / gsd + 0.2, 0, 1)
    line = np.where(canvas.crossing, np.float32(0), line * np.float32(0.45))
    for channel in range(3):
        bare = canvas.bare[channel][canvas.cell]
        lush, dry = look.lush[channel], look.dry[channel]
        meadow = np.float32(lush) + dryness * np.float32(dry - lush)
        plane = image[channel]
        np.subtract(meadow, bare, out=plane)
        plane *= cover
        plane += bare
        plane *= texture
        plane += walk * (np.float32((172, 168, 160)[channel]) - plane)
        plane += road * (tarmac * np.float32((1.0, 0.995, 0.985)[channel]) - plane)
        plane += line * np.float32(80)
    if canvas.wood is not None:
        thick = canvas.wood + 0.2 * green - 0.55
        woods(canvas, image, look, np.where(canvas.kerb > 4, thick, np.float32(-9)))
    wet = np.clip(canvas.slow_water / gsd * 0.5 + 0.3 * rough + 0.5, 0, 1) * (1 - road)
    if wet.max() > 0:
        for channel, tone in enumerate((66, 80, 76)):
            image[channel] += wet * (np.float32(tone) + 2 * rough - image[channel])
    return image


def _struck_ground(
    canvas: Canvas, image: np.ndarray, density: np.ndarray, severity: np.ndarray
) -> None:
    """Litter over the open ground of the worst zone, and its dust."""
    world = canvas.world
    most = {"tornado": 0.5, "blast": 0.16, "quake": 0.03, "fire": 0.04, "flood": 0.10}
    amount = np.clip((severity - 0.74) * 4, 0, 1) * np.float32(most[world.disaster])
    amount *= np.clip(0.6 + 0.4 * canvas.rough, 0, 1.6)
    density += amount * np.where(canvas.kerb > 0, np.float32(1), np.float32(0.3))
    dust = np.clip((severity - 0.70) * 2.5, 0, 1)
    dust *= np.float32(0.35 if world.disaster in ("tornado", "fire", "flood") else 0.12)
    for channel, tone in enumerate((118, 104, 88)):
        image[channel] += dust * (np.float32(tone) - image[channel])


def _flood(canvas: Canvas, image: np.ndarray, flood: np.ndarray, density: np.ndarray) -> None:
    """Brown water with a ragged shore over all open ground."""
    alpha = np.clip((flood - 0.06) * 9 + 0.35 * canvas.rough * (flood > 0), 0, 0.95)
    alpha *= flood > 0
    for channel, tone in enumerate((134, 116, 88)):
        image[channel] += alpha * (np.float32(tone) + 2.5 * canvas.rough - image[channel])
    density += 0.02 * alpha


def _slab(
    canvas: Canvas,
    image: np.ndarray,
    at: tuple[float, float, float, float, float],
    colour: np.ndarray,
    texture: float,
) -> None:
    x, y, long, wide, angle = at
    box = canvas.box(x, y, float(np.hypot(long, wide)) + 1)
    if box is None:
        return
    a, b = canvas.local(box, x, y, angle)
    inside = np.minimum(long - abs(a), wide - abs(b))
    alpha = np.clip(inside / canvas.gsd + 0.5, 0, 0.95)
    mottle = 1 + np.float32(0.03 * texture) * (canvas.rough[box] + 0.5 * canvas.fine[box])
    lay(image, box, colour[:, None, None] * mottle, alpha)


def _chance(x: float, y: float, key: int) -> int:
    """A 32-bit number that belongs to a place and a key."""
    mixed = (int(x * 10) * 73856093 ^ int(y * 10) * 19349663 ^ key * 83492791) & 0xFFFFFFFF
    mixed = (mixed ^ mixed >> 15) * 2246822519 & 0xFFFFFFFF
    return (mixed ^ mixed >> 13) * 3266489917 & 0xFFFFFFFF


_PAINTS: tuple[Colour, ...] = (
    (232, 232, 232), (200, 202, 204), (60, 60, 64), (40, 40, 44), (150, 52, 46), (70, 86, 124),
    (120, 122, 124), (224, 224, 220), (96, 92, 84), (176, 172, 160),
)  # fmt: skip
_TARPS: tuple[Colour, ...] = ((66, 106, 186), (236, 236, 234), (206, 126, 62), (82, 146, 112))


def _car(
    canvas: Canvas, image: np.ndarray, car: tuple[float, float, float], look: Look, n: int
) -> None:
    """A car, a market stall or nothing, as this date's chance will have it."""
    draw = _chance(car[0], car[1], look.key * 131 + n)
    if draw % 100 >= 55:
        return
    x, y, angle = car
    slip = ((draw >> 8) % 100 - 50) / 40
    tarp = look.after and draw % 100 < 4
    long, wide = (1.9, 1.5) if tarp else (2.3, 0.95)
    x, y = x + slip * np.cos(angle), y + slip * np.sin(angle)
    box = canvas.box(x, y, 4.0)
    if box is None:
        return
    a, b = canvas.local(box, x, y, angle)
    inside = np.minimum(long - abs(a), wide - abs(b))
    sx, sy = look.sun
    ca, cb = np.cos(angle) * sx + np.sin(angle) * sy, np.cos(angle) * sy - np.sin(angle) * sx
    dark = np.minimum(long - abs(a - ca * 1.1), wide - abs(b - cb * 1.1))
    lay(image, box, np.zeros(3, np.float32), np.clip(dark / canvas.gsd + 0.5, 0, 0.5))
    palette = _TARPS if tarp else _PAINTS
    colour = np.array(palette[(draw >> 16) % len(palette)], np.float32)
    tint = colour[:, None, None] * np.where((abs(a - 0.6) < 0.4) & (not tarp), 0.55, 1.0)
    lay(image, box, tint.astype(np.float32), np.clip(inside / canvas.gsd + 0.5, 0, 1))


def _new_building(
    canvas: Canvas,
    image: np.ndarray,
    lot: tuple[float, float, float, float, float],
    look: Look,
    n: int,
) -> None:
    """A new building on a lot that was empty before; it is no damage and not in the truth."""
    x, y, long, wide, angle = lot
    draw = _chance(x, y, n)
    if draw % 100 >= 60:
        return
    box = canvas.box(x, y, float(np.hypot(long, wide)) + 5)
    if box is None:
        return
    a, b = canvas.local(box, x, y, angle)
    inside = np.minimum(long - abs(a), wide - abs(b))
    ca = (np.cos(angle) * look.sun[0] + np.sin(angle) * look.sun[1]) * 3
    cb = (np.cos(angle) * look.sun[1] - np.sin(angle) * look.sun[0]) * 3
    dark = np.minimum(long - abs(a - ca), wide - abs(b - cb))
    lay(image, box, np.zeros(3, np.float32), np.clip(dark / canvas.gsd + 0.5, 0, 0.5))
    base = np.array(((196, 190, 180), (150, 92, 74), (206, 208, 210))[(draw >> 8) % 3], np.float32)
    slope = np.where(b > 0, np.float32(0.86), np.float32(1.08))
    alpha = np.clip(inside / canvas.gsd + 0.5, 0, 1)
    lay(image, box, base[:, None, None] * slope, alpha)


def _rubble(
    canvas: Canvas,
    image: np.ndarray,
    density: np.ndarray,
    burnt: np.ndarray,
    light: list[np.ndarray],
) -> None:
    """Scatter broken pieces where `density` asks for them, charred where `burnt`."""
    if density.max() <= 0 and burnt.max() <= 0:
        return
    world = canvas.world
    wood, concrete, rank = rubble()
    pieces = wood if world.wooden else concrete
    seen = nearest(pieces, canvas.x, canvas.y, 0.3)
    there = np.clip((density - nearest(rank, canvas.x, canvas.y, 0.3)) * 14 + 0.5, 0, 0.96)
    there *= density > 0
    char = burnt * np.clip(0.80 + 0.16 * canvas.rough, 0.3, 1)
    grey = np.float32(world.ash) + 26 * canvas.rough + 11 * canvas.fine
    relief = np.clip(0.94 + 0.13 * canvas.rough + 0.05 * canvas.fine, 0.5, 1.4)
    for channel in range(3):
        tone = seen[channel] * relief
        tone += char * (grey - tone)
        tone *= light[channel]
        plane = image[channel]
        plane += burnt * np.float32(0.35) * (np.float32(60) - plane)
        plane += there * (tone - plane)
