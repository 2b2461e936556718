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
    """Peak of a scene sixteen times as large, less the peak of the small one; both after a warm-up."""
    small, large = bench.pairs.files(bench.small), bench.pairs.files(bench.large)
    one = isolated(peak, bench.fresh("peak"), small, small, _CACHE)
    many = isolated(peak, bench.fresh("peak"), small, large, _CACHE)
    detail = {"small_mb": one / 1e6, "large_mb": many / 1e6, "gdal_cachemax": _CACHE}
    name = f"memory growth, {bench.small} to {bench.large} px"
    return [
        Figure(name, (many - one) / 1e6, "MB", Target("<=", 50), detail),
        Figure("peak of the large scene", many / 1e6, "MB"),
    ]


def peak(out: Path, small: tuple[Path, Path], scene: tuple[Path, Path], cache: str) -> int:
    """Peak memory of assessing a scene with one worker, after the small one; bytes, all processes."""
    os.environ["GDAL_CACHEMAX"] = cache
    from aftermap.cluster.client import connected

    import aftermap as am

    options = {"method": "difference", "chunk": 1024}
    try:
        with connected("local", 1, MEMORY) as client:
            am.assess(*small, out=out / "warm-up", client=client, **options)
            with Peak() as seen:
                am.assess(*scene, out=out / "measured", client=client, **options)
        return seen.bytes
    finally:
        shutil.rmtree(out, ignore_errors=True)
