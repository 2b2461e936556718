"""How much more memory a larger scene takes, the whole run included."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bench import MEMORY, Bench
from figure import Figure, Target
from process import Peak, isolated

_CACHE = os.environ.get("GDAL_CACHEMAX", "64")
"""MB of decoded tiles per process; GDAL's own default is a share of the machine's memory."""


def measure(bench: Bench) -> list[Figure]:
    """Peaks of larger scenes less the peak of the small one, each after the small one as a warm-up."""
    sides = sorted({bench.small, bench.middle, bench.large})
    files = {side: bench.pairs.files(side) for side in sides}
    peaks = {
        side: isolated(peak, bench.fresh("peak"), files[bench.small], files[side], _CACHE)
        for side in sides
    }
    small, *_, middle, large = (sum(peaks[side]) / 1e6 for side in (sides[0], *sides[-2:]))
    workers = (peaks[bench.large][1] - peaks[bench.small][1]) / 1e6
    detail = {
        "peak_mb": {side: [round(part / 1e6, 1) for part in peaks[side]] for side in sides},
        "parts": ["the client's process", "its descendants"],
        "gdal_cachemax": _CACHE,
    }
    name = f"memory growth, {bench.small} to {bench.large} px"
    return [
        Figure(name, large - small, "MB", Target("<=", 50), detail),
        Figure("of which the workers", workers, "MB"),
        Figure(f"from {sides[-2]} px on", large - middle, "MB"),
        Figure("peak of the large scene", large, "MB"),
    ]


def peak(
    out: Path, small: tuple[Path, Path], scene: tuple[Path, Path], cache: str
) -> tuple[int, int]:
    """Peak memory of assessing a scene with one worker, after the small one, bytes.

    That of this process, the client's and the scheduler's, and that of all others, the worker's.
    """
    os.environ["GDAL_CACHEMAX"] = cache
    from aftermap.cluster.client import connected

    import aftermap as am

    options = {"method": "difference", "chunk": 1024}
    try:
        with connected("local", 1, MEMORY) as client:
            am.assess(*small, out=out / "warm-up", client=client, **options)
            with Peak() as seen:
                am.assess(*scene, out=out / "measured", client=client, **options)
        return seen.own, seen.others
    finally:
        shutil.rmtree(out, ignore_errors=True)
