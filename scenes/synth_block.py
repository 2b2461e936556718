"""Filling one block of the procedural town with lots, buildings, trees, drives and cars."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import numpy as np

from .synth_world import ROOFS, Block, Building, World

Colour = tuple[float, float, float]
CONCRETE: Colour = (176, 172, 164)
GRAVEL: Colour = (160, 150, 134)
TARMAC: Colour = (112, 112, 114)
DUST: Colour = (178, 160, 132)
POOL: Colour = (92, 168, 190)


class _Builder:
    """One block under construction, in street coordinates (u, v)."""

    def __init__(self, world: World, k: int, l: int) -> None:  # noqa: E741
        self.world = world
        self.rng = np.random.default_rng([world.seed, 4, k & 0xFFFFFF, l & 0xFFFFFF])
        self.block = Block()
        self.first_id = ((k + 0x8000) << 26) | ((l + 0x8000) << 10)
        edges = np.array([k, k + 1]), np.array([l, l + 1])
        inset = [world.half_width(edge) + 3.0 for edge in edges]
        lines = [world.line(axis, edge) for axis, edge in enumerate(edges)]
        self.u0, self.u1 = float(lines[0][0] + inset[0][0]), float(lines[0][1] - inset[0][1])
        self.v0, self.v1 = float(lines[1][0] + inset[1][0]), float(lines[1][1] - inset[1][1])
        self.plans: list[tuple[Building, float]] = []
        """Intact buildings and how fragile they are; they are struck all at once, in `finish`."""
        middle = world.place(float(lines[0].mean()), float(lines[1].mean()))
        reach = float(np.ptp(lines[0]) + np.ptp(lines[1])) / 2
        near = np.linspace(-reach, reach, 25)
        water = world.pond(middle[0] + near[None, :], middle[1] + near[:, None])
        self.dry = bool(water.max() < -60)

    def wet(self, x: float, y: float, margin: float) -> bool:
        """Whether a place lies in open water or within about `margin` metres of it."""
        return not self.dry and float(self.world.pond(np.array(x), np.array(y))) > -margin

    def building(
        self,
        kind: str,
        roof: str,
        u: float,
        v: float,
        length: float,
        width: float,
        height: float,
        tone: str,
        turned: float = 0.0,
        wing: bool = False,
        fragile: float = 0.0,
    ) -> bool:
        """Put a building of length x width (m) at (u, v); False where there is water."""
        rng, world = self.rng, self.world
        x, y, angle = world.place(u, v)
        dice = rng.random(16)
        if self.wet(x, y, 9 + length / 2):
            return False
        angle += turned
        if width > length:
            length, width, angle = width, length, angle + np.pi / 2
        parts = [(x, y, length / 2, width / 2)]
        if wing:  # an L: a second wing across one end, sticking out to one side
            side = 1 if dice[15] < 0.5 else -1
            wide, deep = length * (0.34 + 0.14 * dice[14]), width * (0.35 + 0.3 * dice[13])
            a = (length - wide) / 2 * (1 if dice[12] < 0.5 else -1)
            b = side * (width + deep) / 2 - side * 0.5
            cos, sin = np.cos(angle), np.sin(angle)
            parts.append((x + cos * a - sin * b, y + sin * a + cos * b, wide / 2, deep / 2 + 0.5))
        palette = ROOFS[tone]
        base = np.array(palette[int(rng.integers(len(palette)))], float)
        colour = tuple(float(c) for c in base * rng.normal(1, 0.07) + rng.normal(0, 4, 3))
        intact = Building(
            self.first_id + len(self.plans),
            kind,
            roof,
            tuple((float(p), float(q), float(r), float(t)) for p, q, r, t in parts),
            float(angle),
            float(height),
            (colour[0], colour[1], colour[2]),
            1,
            world.disaster,
            tuple(dice.tolist()),
        )
        self.plans.append((intact, fragile))
        return True

    def finish(self) -> Block:
        """Let the disaster strike, and hand the block over."""
        if not self.plans:
            return self.block
        at = np.array([plan.parts[0][:2] for plan, _ in self.plans])
        x, y = at[:, 0], at[:, 1]
        severity = self.world.severity(x, y)
        depth, fire = self.world.flood(x, y), self.world.fire(x, y)
        for n, (plan, fragile) in enumerate(self.plans):
            level, cause = self.world.damage(
                float(severity[n]) + fragile, float(depth[n]), float(fire[n]), plan.dice
            )
            self.block.buildings.append(replace(plan, level=level, cause=cause))
        return self.block

    def between(self, low: float, high: float) -> float:
        """A uniform number; `low` where a narrow block leaves no room."""
        return float(self.rng.uniform(low, max(low, high)))

    def slab(
        self, u: float, v: float, du: float, dv: float, colour: Colour, texture: float = 1.0
    ) -> None:
        """Lay a flat rectangle of du x dv metres on the ground."""
        x, y, angle = self.world.place(u, v)
        if self.wet(x, y, 4):
            return
        self.block.slabs.append((x, y, du / 2, dv / 2, angle, colour, texture))

    def tree(self, u: float, v: float, small: float = 1.9, big: float = 5.2) -> None:
        """Plant a tree of random size."""
        x, y, _ = self.world.place(u, v)
        if not self.wet(x, y, 1):
            rng = self.rng
            self.block.trees.append(
                (x, y, rng.uniform(small, big), rng.normal(), rng.random()),
            )

    def car(self, u: float, v: float, turned: float = 0.0) -> None:
        """Mark a place where a car may stand."""
        x, y, angle = self.world.place(u, v)
        self.block.cars.append((x, y, angle + turned))

    def house_roof(self) -> tuple[str, str]:
        """Roof kind and palette of a detached house in this town."""
        draw, rng = self.rng.random(), self.rng
        if draw < self.world.metal:
            return ("metal" if rng.random() < 0.8 else "single"), "metal"
        tone = "tile" if rng.random() < self.world.tiled else "shingle"
        return ("hip" if rng.random() < 0.35 else "gable"), tone


def _streets(b: _Builder) -> None:
    """Cars along the kerbs of the block's upper and left street."""
    for _ in range(int(b.rng.poisson(3))):
        b.car(b.rng.uniform(b.u0, b.u1), b.v0 - 4.6)
    for _ in range(int(b.rng.poisson(1.5))):
        b.car(b.u0 - 4.6, b.rng.uniform(b.v0, b.v1), np.pi / 2)


def _suburb(b: _Builder) -> None:
    """Two rows of detached houses back to back, with drives, sheds, pools and trees."""
    rng = b.rng
    rural = rng.random() < 0.2
    leafy = rng.gamma(2.0, 1.2)
    setback = rng.uniform(5, 10)
    depth = (b.v1 - b.v0) / 2
    drive = CONCRETE if rng.random() < 0.6 else GRAVEL
    rows = ((b.v0, 1.0), (b.v1, -1.0))
    for front, inward in rows if depth > setback + 14 else rows[:1]:  # narrow: one row only
        u = b.u0 + rng.uniform(0, 3)
        while True:
            lot = rng.uniform(17, 26) * (1.5 if rural else 1.0)
            if u + lot > b.u1:
                break
            mid = u + lot / 2
            u += lot
            house_l, house_w = b.between(10, min(lot - 4, 18)), rng.uniform(8, 12.5)
            if rng.random() < 0.25 and depth > 30:
                house_l, house_w = house_w, house_l
            centre = front + inward * (setback + house_w / 2 + rng.normal(0, 0.8))
            for _ in range(int(rng.poisson(leafy))):
                b.tree(
                    mid + rng.uniform(-lot, lot) / 2,
                    front + inward * b.between(20, depth),
                    1.6,
                    6.2,
                )
            if rng.random() < 0.3:  # worn ground, a vegetable patch, a terrace
                b.slab(
                    mid + rng.uniform(-5, 5), front + inward * b.between(20, depth - 4),
                    rng.uniform(3, 9), rng.uniform(3, 7), DUST if rng.random() < 0.6 else CONCRETE,
                    3.0,
                )  # fmt: skip
            if rng.random() < 0.4:
                b.tree(mid + rng.uniform(-lot, lot) / 2, front + inward * rng.uniform(0, setback))
            if rng.random() < 0.09:
                x, y, angle = b.world.place(mid, front + inward * 16)
                b.block.lots.append((x, y, 6.5, 5.0, angle))
                continue
            side = mid + (lot / 2 - 2.5) * (1 if rng.random() < 0.5 else -1)
            if rng.random() < 0.8:
                reach = setback + 3 + rng.uniform(0, 4)
                b.slab(side, front + inward * (reach / 2 - 2), 3.2, reach + 4, drive)
                if rng.random() < 0.6:
                    b.car(side, front + inward * rng.uniform(2, setback), np.pi / 2)
            if rng.random() < 0.07:
                b.slab(mid, front + inward * (setback + house_w + 7), 8, 4.5, POOL, 0.2)
            roof, tone = b.house_roof()
            wing = rng.random() < 0.3 and setback + house_w * 1.7 < depth - 6
            b.building(
                "house", roof, mid, centre, house_l, house_w, rng.uniform(3.2, 6.5), tone,
                rng.normal(0, 0.015), wing, rng.normal(0, 0.02),
            )  # fmt: skip
            if rng.random() < 0.3 and depth > 34:
                back = front + inward * (depth - rng.uniform(4, 6))
                b.building(
                    "shed", "gable" if rng.random() < 0.5 else "metal", mid + rng.uniform(-5, 5),
                    back, rng.uniform(3.5, 7), rng.uniform(3, 5), 2.6, "metal",
                    rng.normal(0, 0.05),
                )  # fmt: skip


def _old(b: _Builder) -> None:
    """Sub-blocks of houses side by side, cut by alleys, with small courtyards.

    Two metres are left between walls, so that a map can tell one house from the next.
    """
    rng, (across, down) = b.rng, (4, 2)
    du, dv = (b.u1 - b.u0 + 6) / across, (b.v1 - b.v0 + 6) / down
    flat = rng.uniform(0.35, 0.9)
    for i in range(across):
        for j in range(down):
            left, top = b.u0 + i * du, b.v0 + j * dv
            depth = (dv - 6) / 2
            b.slab(left - 3, top + dv / 2 - 3, 4.5, dv, TARMAC, 1.5)
            b.slab(left + du / 2 - 3, top - 3, du, 4.5, TARMAC, 1.5)
            for row in (0, 1):
                u = left
                while u + 7 < left + du - 5:
                    lot = min(rng.uniform(7, 14), left + du - 6 - u)
                    deep = depth * rng.uniform(0.62, 0.97)
                    v = top + deep / 2 if row == 0 else top + dv - 6 - deep / 2
                    if rng.random() < 0.93 and lot > 6.5:
                        roof, tone = ("flat", "flat") if rng.random() < flat else ("gable", "tile")
                        if rng.random() < 0.12:
                            roof, tone = "metal", "metal"
                        b.building(
                            "old", roof, u + lot / 2, v, lot - 2.0, deep, rng.uniform(4, 13), tone,
                            rng.normal(0, 0.01), False, rng.normal(0.0, 0.03),
                        )  # fmt: skip
                    elif rng.random() < 0.6:
                        b.tree(u + lot / 2, v, 1.5, 3.5)
                    u += lot


def _flats(b: _Builder) -> None:
    """Apartment blocks on common ground with parking places between them."""
    rng = b.rng
    long, wide = rng.uniform(26, 52), rng.uniform(13, 18)
    if rng.random() < 0.4:
        long, wide = rng.uniform(19, 24), rng.uniform(17, 22)
    gap_u, gap_v = rng.uniform(12, 20), rng.uniform(14, 22)
    upright = rng.random() < 0.4
    du, dv = (wide, long) if upright else (long, wide)
    height = rng.uniform(9, 26)
    hipped = rng.random() < 0.3
    v = b.v0 + 6 + dv / 2
    while v + dv / 2 < b.v1 - 3:
        u = b.u0 + 6 + du / 2
        while u + du / 2 < b.u1 - 3:
            roof, tone = ("hip", "tile") if hipped else ("flat", "flat")
            if rng.random() < 0.92:
                b.building(
                    "slab", roof, u, v, du, dv, height * rng.uniform(0.85, 1.15), tone, 0.0,
                    rng.random() < 0.15 and min(gap_u, gap_v) > 17, rng.normal(0.0, 0.03),
                )  # fmt: skip
            else:
                x, y, angle = b.world.place(u, v)
                b.block.lots.append((x, y, du / 2.4, dv / 2.4, angle))
            lane = v + dv / 2 + gap_v / 2
            if lane < b.v1 - 3:
                b.slab(u, lane, du + gap_u * 0.6, min(gap_v - 6, 12), TARMAC)
                for _ in range(int(rng.poisson(du / 7))):
                    b.car(u + rng.uniform(-du, du) / 2, lane + rng.choice([-3, 3]), np.pi / 2)
            for _ in range(int(rng.poisson(2))):
                b.tree(u + du / 2 + gap_u / 2, v + rng.uniform(-dv, dv) / 2, 1.8, 3.8)
            u += du + gap_u
        v += dv + gap_v


def _works(b: _Builder) -> None:
    """Large halls on paved yards."""
    rng = b.rng
    u = b.u0 + 6
    while u < b.u1 - 30:
        du = min(rng.uniform(26, 64), b.u1 - u - 6)
        dv = b.between(16, min(46, b.v1 - b.v0 - 14))
        v = b.v0 + 7 + dv / 2 if rng.random() < 0.5 else b.v1 - 7 - dv / 2
        roof, tone = ("metal", "metal") if rng.random() < 0.65 else ("flat", "flat")
        b.building("hall", roof, u + du / 2, v, du, dv, rng.uniform(6, 11), tone)
        free = b.v1 - 6 if v < (b.v0 + b.v1) / 2 else b.v0 + 6
        for n in range(int(du / 3.2)):
            if rng.random() < 0.45:
                b.car(u + n * 3.2 + 2, free, np.pi / 2)
        u += du + rng.uniform(8, 24)


def _shacks(b: _Builder) -> None:
    """Dense small dwellings under metal sheets, each a little askew."""
    rng = b.rng
    du, dv = (b.u1 - b.u0 + 6) / 3, (b.v1 - b.v0 + 6) / 2
    for i in range(3):
        for j in range(2):
            step = rng.uniform(9.0, 11.5)
            b.slab(b.u0 + i * du - 3, b.v0 + (j + 0.5) * dv - 3, 3, dv, DUST, 2)
            b.slab(b.u0 + (i + 0.5) * du - 3, b.v0 + j * dv - 3, du, 3, DUST, 2)
            for n in range(int((du - 6) / step)):
                for m in range(int((dv - 6) / step)):
                    u = b.u0 + i * du + (n + 0.5) * step + rng.normal(0, 0.4)
                    v = b.v0 + j * dv + (m + 0.5) * step + rng.normal(0, 0.4)
                    if rng.random() < 0.86:
                        length, width = rng.uniform(5, step - 2), rng.uniform(4, step - 3.2)
                        flat = rng.random() < 0.15
                        roof = "flat" if flat else "single" if rng.random() < 0.4 else "metal"
                        b.building(
                            "shack", roof, u, v, length, width, rng.uniform(2.4, 4),
                            "flat" if flat else "metal", rng.normal(0, 0.06), False,
                            rng.normal(0.01, 0.03),
                        )  # fmt: skip
                    else:
                        b.tree(u, v, 1.5, 4.5)


def _park(b: _Builder) -> None:
    """Meadow and wood (the wood is painted from its density), a path, single trees."""
    rng = b.rng
    u, v = rng.uniform(b.u0 + 10, b.u1 - 10), rng.uniform(b.v0 + 10, b.v1 - 10)
    b.slab(u, (b.v0 + b.v1) / 2, 2.4, b.v1 - b.v0, GRAVEL)
    b.slab((b.u0 + b.u1) / 2, v, b.u1 - b.u0, 2.4, GRAVEL)
    for _ in range(int(rng.poisson(14))):
        b.tree(rng.uniform(b.u0, b.u1), rng.uniform(b.v0, b.v1), 2.0, 6.0)


def _field(b: _Builder) -> None:
    """A field (its soil is painted as ground) with a hedge and now and then a farm building."""
    rng = b.rng
    for n in range(int((b.u1 - b.u0) / 7)):
        if rng.random() < 0.5:
            b.tree(b.u0 + 7 * n, b.v0 + rng.normal(0, 1), 1.8, 4.0)
    if rng.random() < 0.5 and b.v1 - b.v0 > 40:
        u, v = rng.uniform(b.u0 + 25, b.u1 - 25), rng.uniform(b.v0 + 18, b.v1 - 18)
        b.building("hall", "metal", u, v, rng.uniform(16, 30), rng.uniform(9, 14), 5.0, "metal")


FILLERS = {
    "suburb": _suburb,
    "old": _old,
    "flats": _flats,
    "works": _works,
    "shacks": _shacks,
    "park": _park,
    "field": _field,
}


class Town(World):
    """A world with its blocks; the last few hundred that were built are kept."""

    def __init__(self, seed: int, extent: tuple[float, float]) -> None:
        super().__init__(seed, extent)
        self._kept: OrderedDict[tuple[int, int], Block] = OrderedDict()

    def block(self, k: int, l: int) -> Block:  # noqa: E741
        """The block at column k and row l of the street grid."""
        if (k, l) in self._kept:
            self._kept.move_to_end((k, l))
            return self._kept[k, l]
        builder = _Builder(self, k, l)
        if builder.u1 - builder.u0 > 30 and builder.v1 - builder.v0 > 30:
            FILLERS[self.district(k, l)](builder)
            _streets(builder)
        self._kept[k, l] = builder.finish()
        if len(self._kept) > 256:
            self._kept.popitem(last=False)
        return self._kept[k, l]

    def near(self, x0: float, y0: float, x1: float, y1: float) -> list[Block]:
        """The blocks whose objects may touch a window, in drawing order."""
        return [self.block(k, l) for k, l in self.blocks(x0, y0, x1, y1)]  # noqa: E741
