"""A sheet of pictures in rows, each row with a title and each picture with a name."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..gallery.rows import plain

_GAP, _LINE = 6, 20

Row = tuple[str, Sequence[tuple[np.ndarray, str]]]
"""A title, and pictures, uint8 (h, w, 3), with their names."""


def draw_sheet(rows: Sequence[Row], side: int) -> bytes:
    """Draw pictures of `side` px, titles above them and names below; PNG."""
    font = ImageFont.load_default(13)
    columns = max(len(pictures) for _, pictures in rows)
    height = side + 2 * _LINE + _GAP
    sheet = Image.new("RGB", (columns * (side + _GAP) + _GAP, len(rows) * height), "white")
    pen = ImageDraw.Draw(sheet)

    def write(x: int, y: int, text: str, room: int) -> None:
        line = " ".join(plain(text).split())
        while font.getlength(line) > room:
            line = f"{line.removesuffix('…')[:-1]}…"
        pen.text((x, y), line, fill="black", font=font)

    for row, (title, pictures) in enumerate(rows):
        top = row * height
        write(_GAP, top + 3, title, sheet.width - 2 * _GAP)
        for column, (picture, name) in enumerate(pictures):
            left = _GAP + column * (side + _GAP)
            scaled = Image.fromarray(np.ascontiguousarray(picture))
            sheet.paste(scaled.resize((side, side), Image.Resampling.BILINEAR), (left, top + _LINE))
            write(left, top + _LINE + side + 2, name, side)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
