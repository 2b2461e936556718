"""The procedural town: where its streets run, what stands where, and what the disaster did to it.

Lengths are metres; x runs east and y runs *south* from the scene's upper left corner, as pixels do.
The town is an endless plane of blocks between streets. A block's content follows from the seed and
the block's place alone, so any window can be made without the rest of the scene.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from .synth_texture import at_points, cloudy, smooth

KINDS = ("house", "cottage", "old", "slab", "hall", "shack", "shed")
DISASTERS = ("tornado", "quake", "fire", "flood", "blast")
DAMAGED_SHARE = 0.40
"""Part of the scene's area in which buildings are hit."""

ROOFS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "shingle": (
        (118, 115, 112), (138, 133, 128), (92, 90, 89), (124, 102, 86), (138, 88, 74),
        (164, 146, 122), (196, 194, 188), (78, 77, 78), (108, 116, 128), (150, 142, 130),
    ),
    "tile": (
        (164, 112, 90), (178, 124, 100), (148, 96, 78), (170, 134, 110), (186, 146, 120),
        (138, 100, 84),
    ),
    "flat": (
        (178, 173, 163), (192, 187, 177), (152, 149, 143), (208, 204, 195), (164, 154, 138),
        (98, 96, 95), (168, 128, 106), (222, 220, 214), (136, 132, 126),
    ),
    "metal": (
        (188, 192, 196), (154, 166, 178), (124, 142, 168), (144, 88, 68), (104, 130, 112),
        (216, 217, 216), (168, 146, 124), (164, 160, 154),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Building:
    """A building that stands before the disaster: one to three turned rectangles under one roof."""

    building_id: int
    kind: str
    roof: str
    """gable, hip, flat, metal, or single (one slope)."""
    parts: tuple[tuple[float, float, float, float], ...]
    """Centre x, centre y, half length, half width of each rectangle, m; length along `angle`."""
    angle: float
    height: float
    colour: tuple[float, float, float]
    level: int
    """Damage code 1-4."""
    cause: str
    """Which of DISASTERS hit it; matters from level 2 up."""
    dice: tuple[float, ...]
    """Sixteen uniform numbers that settle the details of its looks."""

    @property
    def radius(self) -> float:
        """Distance from the first part's centre that holds all corners, m."""
        x, y = self.parts[0][:2]
        return max(
            float(np.hypot(px - x, py - y) + np.hypot(long, wide))
            for px, py, long, wide in self.parts
        )

    def corners(self) -> list[np.ndarray]:
        """The four corners of each part: (4, 2) x and y in m."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        out = []
        for x, y, long, wide in self.parts:
            a = np.array((-long, long, long, -long))
            b = np.array((-wide, -wide, wide, wide))
            out.append(np.stack((x + cos * a - sin * b, y + sin * a + cos * b), 1))
        return out


@dataclass(slots=True)
class Block:
    """What stands between four streets."""

    buildings: list[Building] = field(default_factory=list)
    trees: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    """x, y, crown radius, shade, and a uniform number (evergreen below 0.25)."""
    slabs: list[tuple[float, float, float, float, float, tuple[float, float, float], float]] = (
        field(default_factory=list)
    )
    """Flat things on the ground: x, y, half length, half width, angle, colour, texture."""
    cars: list[tuple[float, float, float]] = field(default_factory=list)
    """Places for cars: x, y, angle."""
    lots: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    """Empty lots where something new may stand after: x, y, half length, half width, angle."""


DISTRICTS: dict[str, tuple[float, float, float]] = {
    "suburb": (0.86, 0.14, 0.0),
    "old": (0.10, 0.55, 0.0),
    "flats": (0.45, 0.25, 0.0),
    "works": (0.06, 0.30, 0.0),
    "shacks": (0.18, 0.80, 0.0),
    "park": (0.92, 0.08, 0.55),
    "field": (0.70, 0.30, 0.0),
}
"""Kinds of blocks: share of grass, share of bare soil (the rest is paved), density of woods."""
STYLES: tuple[dict[str, float], ...] = (
    {"suburb": 0.76, "flats": 0.07, "works": 0.06, "park": 0.07, "field": 0.02},
    {"old": 0.40, "flats": 0.32, "suburb": 0.12, "works": 0.06, "park": 0.06, "field": 0.01},
    {"shacks": 0.40, "suburb": 0.28, "old": 0.14, "works": 0.05, "park": 0.06, "field": 0.02},
    {"suburb": 0.36, "old": 0.20, "flats": 0.22, "works": 0.08, "park": 0.06, "field": 0.02},
)


class World:
    """The town of one seed, with the disaster scaled to a scene of `extent` metres (x, y)."""

    def __init__(self, seed: int, extent: tuple[float, float]) -> None:
        rng = np.random.default_rng([seed, 1])
        self.seed = seed
        self.style = int(rng.integers(4)) if seed else 3  # seed 0 shows something of everything
        turn = rng.uniform(-0.6, 0.6) if rng.random() < 0.7 else rng.uniform(-0.05, 0.05)
        self.cos, self.sin = float(np.cos(turn)), float(np.sin(turn))
        bend = (0.35, 1.0, 1.0, 0.6)[self.style]
        self.waves = [
            (bend * rng.uniform(8, 30), 2 * np.pi / rng.uniform(900, 1600), rng.uniform(0, 6.28))
            for _ in range(4)
        ]
        self.pitch = (float(rng.uniform(170, 240)), float(rng.uniform(76, 106)))
        self.road = float(rng.uniform(3.6, 5.0))
        self.tiled = float(rng.choice([0.0, 0.15, 0.5, 0.9])) if self.style else 0.03
        self.metal = float(rng.uniform(0.0, 0.35)) if self.style != 2 else 0.7
        disaster = DISASTERS[int(rng.integers(5))] if seed else "quake"
        self.disaster = disaster
        self.track = float(rng.uniform(0, np.pi))
        self.wooden = self.style == 0 or (disaster == "tornado" and rng.random() < 0.7)
        self.extent = extent
        self.ash = float(rng.uniform(62, 128))
        """Grey level of what fire leaves."""
        self.river = (
            rng.uniform(0, np.pi), rng.uniform(0.1, 0.9), rng.uniform(5, 26), rng.uniform(40, 110)
        ) if rng.random() < 0.45 else None  # fmt: skip
        """Direction, place as a share of the scene, half width and swing (m) of a river."""
        self.park_key = int(rng.integers(1000))
        self.key = int(rng.integers(1000))
        # Ranks of the hazard over the scene turn it into a share of the area, whatever the seed.
        gx = (np.arange(64) + 0.5)[None, :] / 64 * extent[0]
        gy = (np.arange(64) + 0.5)[:, None] / 64 * extent[1]
        self._ranks = np.sort(self.hazard(gx, gy).ravel())

    # --- the disaster -------------------------------------------------------------------------

    def hazard(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """How hard the disaster struck at points, in no unit."""
        if self.disaster == "blast":
            cx, cy = (0.2 + 0.6 * ((self.key * k) % 97) / 97 for k in (3, 7))
            far = np.hypot(x - cx * self.extent[0], y - cy * self.extent[1])
            return -far + 45 * at_points(smooth(), x, y, 25.0, self.key)
        cos, sin = np.cos(self.track), np.sin(self.track)
        stretch, cell = {
            "tornado": (4.0, 30.0),
            "quake": (1.4, 36.0),
            "fire": (1.2, 30.0),
            "flood": (2.0, 40.0),
        }[self.disaster]
        along, across = (cos * x + sin * y) / stretch, cos * y - sin * x
        broad = at_points(smooth(), along, across, cell, self.key)
        fine = at_points(smooth(), along, across, cell / 4, self.key + 9)
        return broad + 0.25 * fine

    def severity(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Rank of the hazard in the scene, 0-1; above 1 - DAMAGED_SHARE buildings are hit."""
        return np.interp(self.hazard(x, y), self._ranks, np.linspace(0, 1, self._ranks.size))

    def fire(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Above 0: where what was hit also burnt."""
        if self.disaster == "flood":
            return np.full(np.broadcast_shapes(np.shape(x), np.shape(y)), -1.0)
        cut = {"fire": -1.0, "tornado": 2.2}.get(self.disaster, 1.25)
        return at_points(smooth(), x, y, 22.0, self.key + 31) - cut

    def flood(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Depth of standing brown water, 0-1, 0 outside."""
        where = at_points(smooth(), x, y, 34.0, self.key + 47)
        lie = 0.10 * at_points(smooth(), x, y, 6.0, self.key + 53)
        if self.disaster == "flood":
            return np.clip((self.severity(x, y) - 1 + DAMAGED_SHARE) * 6 + 0.5 * lie, 0, 1)
        if self.disaster in ("quake", "blast"):
            return np.clip((where - 1.35 + lie) * 3, 0, 1)
        return np.zeros(np.shape(where))

    def damage(
        self, severity: float, depth: float, fire: float, dice: tuple[float, ...]
    ) -> tuple[int, str]:
        """Damage level 1-4 of a building, and its cause, from the fields at its place."""
        if depth > 0.05:
            level = 3 if depth > 0.25 else 2
            return (4 if depth > 0.6 and dice[0] < 0.18 else level), "flood"
        rank = (severity - 1 + DAMAGED_SHARE) / DAMAGED_SHARE + (dice[0] - 0.5) * 0.55
        if rank < 0.02:
            return (2 if dice[1] < 0.012 else 1), self.disaster
        if fire > 0:
            cause, cuts = "fire", (0.15, 0.28)
        else:
            cause = "quake" if self.disaster == "fire" else self.disaster
            cuts = (0.36, 0.66)
        if dice[1] < 0.10:
            return 1, cause
        return (2 if rank < cuts[0] else 3 if rank < cuts[1] else 4), cause

    # --- streets ------------------------------------------------------------------------------

    def street_parts(
        self, x: np.ndarray, y: np.ndarray
    ) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Street coordinates as sums: u = first[0](x) + first[1](y), v likewise.

        Sums of functions of one variable bend the streets and cost almost nothing per pixel.
        """
        (a, f, p), (b, g, q), (c, h, r), (d, k, s) = self.waves
        along_y = a * np.sin(f * y + p) + 0.4 * b * np.sin(2.3 * g * y + q)
        along_x = c * np.sin(h * x + r) + 0.4 * d * np.sin(2.3 * k * x + s)
        return (self.cos * x, self.sin * y + along_y), (-self.sin * x + along_x, self.cos * y)

    def place(self, u: float, v: float) -> tuple[float, float, float]:
        """World x and y of street coordinates, and the direction of the street along u there."""
        (a, f, p), (b, g, q), (c, h, r), (d, k, s) = self.waves
        cos, sin, x, y = self.cos, self.sin, 0.0, 0.0
        for _ in range(40):  # a contraction: the bends are gentle
            du = u - a * math.sin(f * y + p) - 0.4 * b * math.sin(2.3 * g * y + q)
            dv = v - c * math.sin(h * x + r) - 0.4 * d * math.sin(2.3 * k * x + s)
            nx, ny = cos * du - sin * dv, sin * du + cos * dv
            done = abs(nx - x) + abs(ny - y) < 1e-4
            x, y = nx, ny
            if done:
                break
        slope = c * h * math.cos(h * x + r) + 0.92 * d * k * math.cos(2.3 * k * x + s)
        return x, y, math.atan2(sin - slope, cos)

    def line(self, axis: int, index: np.ndarray) -> np.ndarray:
        """Street coordinate of the street lines with these indices; axis 0 is u, 1 is v."""
        mixed = (index * 2654435761 + self.seed * 97 + axis * 40503) & 0xFFFFFFFF
        jitter = ((mixed ^ (mixed >> 15)) * 2246822519 >> 9 & 0xFFFF) / 65536.0 - 0.5
        return self.pitch[axis] * (index + 0.3 * jitter)

    def half_width(self, index: np.ndarray) -> np.ndarray:
        """Half width of the carriageway of street lines, m: each fourth is a main street."""
        return np.where(index % 4 == 0, self.road * 1.9, self.road)

    def district(self, k: int, l: int) -> str:  # noqa: E741
        """The kind of the block at column k and row l of the street grid."""
        rng = np.random.default_rng([self.seed, 2, (k // 2) & 0xFFFF, (l // 3) & 0xFFFF])
        own = np.random.default_rng([self.seed, 3, k & 0xFFFF, l & 0xFFFF])
        weights = STYLES[self.style]
        shares = np.array(list(weights.values()))
        pick = own if own.random() < 0.3 else rng
        return str(pick.choice(list(weights), p=shares / shares.sum()))

    # --- land and blocks ----------------------------------------------------------------------

    def blocks(self, x0: float, y0: float, x1: float, y1: float) -> list[tuple[int, int]]:
        """Indices of the blocks whose objects may touch a window, in drawing order."""
        (ux, uy), (vx, vy) = self.street_parts(np.linspace(x0, x1, 9), np.linspace(y0, y1, 9))
        found = []
        for axis, (p, q) in enumerate(((ux, uy), (vx, vy))):
            low = p.min() + q.min() - 0.7 * self.pitch[axis] - 25
            high = p.max() + q.max() + 0.7 * self.pitch[axis] + 25
            found.append(
                range(int(low // self.pitch[axis]), int(high // self.pitch[axis]) + 1),
            )
        return [(k, l) for l in found[1] for k in found[0]]  # noqa: E741

    def pond(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Above 0: open water (ponds, a river), in about metres from the shore."""
        basin = at_points(smooth(), x, y, 42.0, self.park_key)
        water = (basin - 2.3) * 60
        if self.river is None:
            return water
        turn, share, half, swing = self.river
        cos, sin = np.cos(turn), np.sin(turn)
        along, across = cos * x + sin * y, cos * y - sin * x
        middle = share * (cos * self.extent[1] - sin * self.extent[0] * 0.5)
        bend = swing * (np.sin(along / 190 + self.key) + 0.4 * np.sin(along / 77))
        return np.maximum(water, half - abs(across - middle - bend))

    def green(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """How rich the vegetation is, mean 0, std 1."""
        return at_points(cloudy(1.4), x, y, 16.0, self.park_key + 7)
