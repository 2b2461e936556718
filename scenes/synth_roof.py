"""One building's pixels: its roof and shadow when it stands, its ruin when it does not."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from .synth_world import Building

Box = tuple[slice, slice]
Sun = tuple[float, float]


class Sheet(Protocol):
    """The window of the town that a building is painted on."""

    x: np.ndarray
    y: np.ndarray
    gsd: float
    fine: np.ndarray
    rough: np.ndarray

    def box(self, x: float, y: float, reach: float) -> Box | None: ...
    def local(
        self, box: Box, x: float, y: float, angle: float
    ) -> tuple[np.ndarray, np.ndarray]: ...


def facade(sheet: Sheet, building: Building) -> Facade | None:
    """A building as seen in a window, or None where neither it nor its shadow or ruin reaches."""
    x, y = building.parts[0][:2]
    margin = building.radius + max(12.0, 2.2 * building.height)
    if sheet.box(x, y, margin) is None:
        return None
    return Facade(sheet, building)


class Facade:
    """A building in a window, with the coordinates that its paints share."""

    def __init__(self, sheet: Sheet, building: Building) -> None:
        self.building = building
        x, y = building.parts[0][:2]
        self.cos, self.sin = float(np.cos(building.angle)), float(np.sin(building.angle))
        self.frame = sheet.box(x, y, building.radius + 1)
        self._skin: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def cast(self, sheet: Sheet, shade: np.ndarray, sun: Sun, level: int) -> None:
        """Add the shadow: a rectangle swept along the sun, shorter when part of it fell, none when all did."""
        b = self.building
        if level == 4:
            return
        height = b.height * (0.7 if level == 3 else 1.0)
        sx, sy = sun[0] * height, sun[1] * height
        sa, sb = self.cos * sx + self.sin * sy, self.cos * sy - self.sin * sx
        sa, sb = (s if abs(s) > 1e-3 else 1e-3 for s in (sa, sb))
        length = float(np.hypot(sa, sb))
        for x, y, long, wide in b.parts:
            reach = float(np.hypot(long, wide)) + length / 2 + 1
            box = sheet.box(x + sx / 2, y + sy / 2, reach)
            if box is None:
                continue
            u, v = sheet.local(box, x, y, b.angle)
            u *= np.float32(1 / sa)
            v *= np.float32(1 / sb)
            ra, rb = abs(long / sa), abs(wide / sb)
            first = np.maximum(np.maximum(u - ra, v - rb), 0)
            last = np.minimum(np.minimum(u + ra, v + rb), 1)
            part = shade[box]
            dark = np.clip((last - first) * np.float32(length / sheet.gsd), 0, 1)
            np.maximum(part, dark, out=part)

    def spread(self, sheet: Sheet, density: np.ndarray, burnt: np.ndarray) -> None:
        """Strew debris around a damaged building."""
        b = self.building
        reach, amount = ((3.0, 0.25), (5.0, 0.5), (11.0, 0.88))[b.level - 2]
        if b.cause == "fire":
            reach, amount = reach * 0.45, amount * 0.5
        elif b.cause == "quake":
            reach = min(reach, 1.5 + 0.5 * b.height)
        elif b.cause == "flood":
            amount *= 0.25
        elif b.cause == "blast":
            reach *= 0.8
        for x, y, long, wide in b.parts:
            box = sheet.box(x, y, float(np.hypot(long, wide)) + reach + 1)
            if box is None:
                continue
            u, v = sheet.local(box, x, y, b.angle)
            far = np.maximum(abs(u) - long, abs(v) - wide)
            near = np.clip(1 - far / reach + 0.22 * sheet.rough[box], 0, 1)
            near *= near > 0.03
            part = density[box]
            np.maximum(part, near * near * (3 - 2 * near) * np.float32(amount), out=part)
            if b.cause == "fire" and b.level > 2:
                part = burnt[box]
                np.maximum(part, np.clip(1 - far / 4, 0, 1) * 0.7, out=part)

    def skin(self, sheet: Sheet) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Coverage (h, w), albedo (3, h, w) and slope (2, h, w) towards x and y of the roof."""
        if self.frame is None or self._skin is not None:
            return self._skin
        b, box, dice = self.building, self.frame, self.building.dice
        shape = sheet.fine[box].shape
        cover = np.zeros(shape, np.float32)
        tone = np.ones(shape, np.float32)
        slope = np.zeros((2, *shape), np.float32)
        extra = np.zeros(shape, np.float32)
        for x, y, long, wide in b.parts:
            u, v = sheet.local(box, x, y, b.angle)
            if wide > long:  # the ridge runs along the longer side
                u, v, long, wide = v, -u, wide, long
                ux, uy = -self.sin, self.cos
            else:
                ux, uy = self.cos, self.sin
            du, dv = long - abs(u), wide - abs(v)
            edge = np.minimum(du, dv)
            inside = np.clip(edge / sheet.gsd + 0.5, 0, 1)
            new = inside > cover
            cover = np.maximum(cover, inside)
            pitch = {"flat": 0.0, "metal": 0.45, "single": 0.25}.get(b.roof, 1.0)
            side = np.sign(v) if b.roof != "single" else np.ones_like(v)
            fall_u = np.zeros_like(v)
            if b.roof == "hip":
                end = du < dv
                fall_u = np.where(end, np.sign(u), np.float32(0))
                side = np.where(end, np.float32(0), side)
            slope[0] = np.where(new, pitch * (fall_u * ux - side * uy), slope[0])
            slope[1] = np.where(new, pitch * (fall_u * uy + side * ux), slope[1])
            if b.roof in ("gable", "hip"):
                ridge = abs(v) < 0.35 if b.roof == "gable" else (abs(v) < 0.35) & (du > wide)
                tone = np.where(new & ridge, np.float32(1.10), tone)
                vent = (abs(u - (dice[2] - 0.5) * long) < 0.5) & (
                    abs(v - (dice[3] - 0.5) * wide) < 0.5
                )
                tone = np.where(vent, np.float32(0.6 + 0.8 * dice[4]), tone)
            elif b.roof in ("metal", "single"):
                ribs = abs(u / (1.6 + 2 * dice[2]) % 1.0 - 0.5) < 0.13
                tone = np.where(new & ribs, np.float32(0.93), tone)
                if dice[3] < 0.35:  # replaced sheets
                    sheets = (np.floor(u / 2.6) + np.floor(v / 2.2) * 3 + int(dice[4] * 50)) % 7
                    tone = np.where(new & (sheets < 1), np.float32(0.72 + 0.6 * dice[5]), tone)
            else:
                tone = _flat_roof(tone, u, v, edge, (long, wide), b, (ux, uy), new)
        rust = 0.055 if b.roof in ("metal", "single") else 0.04
        tone *= 1 + np.float32(rust * (0.6 + dice[6])) * sheet.rough[box] + 0.02 * sheet.fine[box]
        albedo = np.array(b.colour, np.float32)[:, None, None] * tone + extra
        self._skin = cover, albedo, slope
        return self._skin

    def roof(
        self,
        sheet: Sheet,
        image: np.ndarray,
        shade: np.ndarray,
        density: np.ndarray,
        burnt: np.ndarray,
        sun: Sun,
        level: int,
    ) -> None:
        """Lay the roof, or what is left of it, over the image."""
        skin = self.skin(sheet)
        if skin is None or self.frame is None:
            return
        cover, albedo, slope = skin
        box, b, dice = self.frame, self.building, self.building.dice
        reach = float(np.hypot(*sun))
        steep = np.float32(0.24 / max(reach, 0.3))
        light = 1 - steep * (slope[0] * np.float32(sun[0]) + slope[1] * np.float32(sun[1]))
        colour = albedo * light
        shade[box] *= 1 - cover  # its own shadow starts inside its footprint
        rubble, char = density[box], burnt[box]
        if level == 1:
            rubble *= 1 - (cover > 0)
            char *= 1 - (cover > 0)
            lay(image, box, colour, cover)
            return
        x, y, long, wide = b.parts[0]
        u, v = sheet.local(box, x, y, b.angle)
        rough = sheet.rough[box]
        inner = cover > 0.5
        if level == 4:
            own = np.clip(0.93 + 0.12 * rough, 0.55, 1.0)
            if dice[7] < 0.22 and b.cause in ("tornado", "flood"):
                # Swept away: the bare slab shows between the pieces.
                own = np.clip(0.40 + 0.35 * rough, 0.05, 0.9)
                lay(image, box, np.array((196, 190, 182), np.float32)[:, None, None], cover * 0.9)
            elif b.cause == "fire":
                wall = np.minimum(long - abs(u), wide - abs(v))
                frame = np.clip(1 - abs(wall - 0.4) / 0.6, 0, 1) * (len(b.parts) == 1)
                lay(image, box, np.array((62, 60, 60), np.float32)[:, None, None], cover)
                own = np.clip(0.5 + 0.3 * rough - 0.6 * frame, 0, 0.9)
                char[:] = np.where(inner, np.float32(0.95) - 0.75 * frame, char)
                lay(
                    image, box, np.array((150, 146, 140), np.float32)[:, None, None],
                    frame * cover * (rough > -0.9) * np.float32(0.8),
                )  # fmt: skip
            else:
                # Pieces of the old roof and walls lie under and between the rest.
                lay(
                    image,
                    box,
                    0.42 * colour + np.float32(52),
                    cover * np.clip(0.7 + 0.6 * rough, 0, 1),
                )
                own = np.clip(0.74 + 0.3 * rough, 0.3, 1.0)
            np.copyto(rubble, own, where=inner)
            return
        if b.cause == "flood":
            # The current broke in, and left its silt on what still stands.
            rubble *= 1 - cover
            muddy = np.float32(0.60 if level == 3 else 0.30) * np.clip(0.8 + 0.5 * rough, 0, 1.2)
            silt = np.array((134, 116, 88), np.float32)[:, None, None]
            colour = colour + muddy * cover * (silt - colour)
        lay(image, box, colour, cover)
        torn = np.float32(0.5) + 0.5 * rough + 0.12 * sheet.fine[box]
        if level == 3:
            direction = dice[8] * 2 * np.pi
            lean = (np.cos(direction) * u / long + np.sin(direction) * v / wide) * 0.9
            gone = np.clip((lean + 0.55 * rough + 0.1 + 0.6 * (dice[9] - 0.4)) * 7, 0, 1) * cover
            holes = np.clip((torn - 0.85) * 5, 0, 1) * cover
            hole_tone, dark = 0.45, 0.65
        else:
            gone = np.zeros_like(cover)
            centre = (dice[8] - 0.5) * 1.5 * long, (dice[9] - 0.5) * 1.5 * wide
            size = 0.55 * (0.8 + 0.6 * dice[10]) * float(np.sqrt(long * wide))
            away = np.hypot(u - np.float32(centre[0]), v - np.float32(centre[1]))
            holes = np.clip(1.1 - away / size + 0.7 * (torn - 0.5), 0, 1) * cover
            holes = np.clip(holes * 2.2, 0, 1)
            hole_tone, dark = 0.5, 0.95
        tan = np.array((150, 122, 96) if dice[11] < 0.5 else (96, 86, 78), np.float32)
        under = tan[:, None, None] * (1 + 0.25 * sheet.fine[box] * np.float32(hole_tone))
        if b.cause == "fire":
            under = np.float32(0.3) * under
        elif level == 2:
            # The covering is gone first; in the middle the attic lies open, in its own shadow.
            under = under * (1 - np.float32(0.6) * np.clip(1.6 * holes - 0.6, 0, 1))
        lay(image, box, under, holes * np.float32(dark))
        if level == 2 and b.cause in ("tornado", "quake") and dice[12] < 0.30:
            # Tarps come within days of a storm: on a damaged roof they are part of the picture.
            at = abs(u - centre[0]) < 0.55 * long
            tarp = np.array((58, 96, 188), np.float32)[:, None, None] * light
            lay(image, box, tarp, at * cover * (v * (dice[13] - 0.5) > 0))
        keep = np.where(inner, np.float32(0), rubble)
        np.copyto(rubble, np.maximum(keep, np.maximum(gone * (0.72 + 0.2 * rough), holes * 0.06)))
        if level == 3:
            # Rooms lie open: floors, with the stumps of the walls between them.
            room = 3.2 + 1.6 * dice[14]
            wall = (abs(u / room % 1 - 0.5) > 0.44) | (abs(v / room % 1 - 0.5) > 0.44)
            floor = np.where(wall, np.float32(150), np.float32(66 + 34 * dice[15]))
            warm = np.array((1.06, 0.97, 0.88), np.float32)[:, None, None]
            lay(image, box, warm * floor, gone * 0.9)
            char[:] = np.where(inner, (b.cause == "fire") * gone, char)
        else:
            char[:] = np.where(inner, (b.cause == "fire") * holes * 0.6, char)


def _flat_roof(
    tone: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    edge: np.ndarray,
    half: tuple[float, float],
    building: Building,
    axis: tuple[float, float],
    new: np.ndarray,
) -> np.ndarray:
    """Parapet, stair head, cooling units and water tanks of a flat roof."""
    dice = building.dice
    tone = np.where(new & (edge < 0.45), np.float32(1.16), tone)
    tone = np.where(new & (edge >= 0.45) & (edge < 1.0), np.float32(0.86), tone)
    count = int(dice[2] * 2 + half[0] * half[1] / 45)
    for n in range(min(count, 6)):
        pu = (dice[(3 + n) % 16] - 0.5) * 1.5 * half[0]
        pv = (dice[(9 + n) % 16] - 0.5) * 1.5 * half[1]
        size = 0.6 + 1.5 * dice[(5 + n) % 16] * (n == 0) + 0.25 * n / 6
        shadow = (abs(u - pu - 0.8) < size) & (abs(v - pv - 0.6) < size)
        unit = (abs(u - pu) < size) & (abs(v - pv) < size)
        tone = np.where(shadow, np.float32(0.66), tone)
        tone = np.where(unit, np.float32(1.12 + 0.2 * dice[(6 + n) % 16]), tone)
    return tone


def lay(image: np.ndarray, box: Box, colour: np.ndarray, alpha: np.ndarray) -> None:
    """Lay a colour ((3,) or (3, h, w)) over part of an image (3, h, w) with opacity `alpha`."""
    part = image[:, box[0], box[1]]
    if colour.ndim == 1:
        colour = colour[:, None, None]
    part += alpha * (colour - part)
