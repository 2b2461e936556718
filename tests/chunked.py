"""A kernel over a whole pair, chunk by chunk, as a run works on it."""

from __future__ import annotations

import numpy as np
from aftermap.kernels.apply import apply_chunk
from aftermap.kernels.kernel import Kernel
from aftermap.scenes.pair import Pair
from aftermap.scenes.plan import Plan


def by_chunks(kernel: Kernel, pair: Pair, chunk: int) -> dict[str, np.ndarray]:
    """Every layer's stored bytes over the pair's grid, worked on in chunks of `chunk` px."""
    shape = pair.grid.shape
    out = {layer.name: np.full(shape, 255, np.uint8) for layer in kernel.layers}
    plan = Plan.of(shape, kernel.window, chunk)
    for piece in plan:
        for name, values in (apply_chunk(kernel, pair, plan, piece) or {}).items():
            out[name][piece.row0 : piece.row1, piece.col0 : piece.col1] = values
    return out
