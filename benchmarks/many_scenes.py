"""What a scene of a region costs besides its pixels: time of the client, memory, files."""

from __future__ import annotations

import csv
import shutil
import time
from pathlib import Path

import numpy as np
import psutil
import rasterio
from affine import Affine
from bench import MEMORY, Bench
from figure import Figure
from process import Peak, cpu_seconds, isolated

SIDE = 512
"""Height and width of a scene, px: so small that its pixels hardly count."""
GSD = 0.5
FEW, MANY, QUICK = 20, 100, 8
"""Scenes of two regions, and how many of them the first has under --quick."""


def measure(bench: Bench) -> list[Figure]:
    """Cost of each scene, from regions of few and of many; each in a process of its own."""
    few, many = (QUICK, 2 * QUICK) if bench.quick else (FEW, MANY)
    small, large = (isolated(run, bench.fresh("scenes"), count) for count in (few, many))
    more = many - few
    per = {name: (large[name] - small[name]) / more for name in large}
    return [
        Figure(f"a scene more, {few} to {many} scenes: wall", per["wall"], "s"),
        Figure("client's process", per["client"], "CPU s"),
        Figure("all processes", per["all"], "CPU s"),
        Figure("growth of the client's process", per["rss"] / 1e3, "kB"),
        Figure("peak of the client while it merges", per["merge peak"] / 1e3, "kB"),
        Figure("merge and report", per["merge"], "s"),
        Figure("files", per["files"], ""),
    ]


def run(folder: Path, count: int) -> dict[str, float]:
    """Assess a region of `count` scenes with two workers; what it took, start of workers apart."""
    from aftermap.cluster.client import connected
    from aftermap.cluster.regions.file import read_region_file
    from aftermap.cluster.regions.region import run_region

    region = read_region_file(_written(folder, count))
    me = psutil.Process()
    with connected("local", 2, MEMORY) as client:
        client.wait_for_workers(2)
        seconds, own, start = cpu_seconds(), sum(me.cpu_times()[:2]), time.perf_counter()
        run_region(region, client=client)
        wall = time.perf_counter() - start
        found = {
            "wall": wall,
            "client": sum(me.cpu_times()[:2]) - own,
            "all": cpu_seconds() - seconds,
            "rss": float(me.memory_info().rss),
        }
        start = time.perf_counter()
        with Peak(0.2) as seen:
            run_region(region, client=client, finish_only=True)
        found["merge"] = time.perf_counter() - start
        found["merge peak"] = float(seen.own)
    found["files"] = float(sum(path.is_file() for path in (folder / "out").rglob("*")))
    shutil.rmtree(folder)
    return found


def _written(folder: Path, count: int) -> Path:
    """A row of pairs side by side, each with a changed square, and the region file over them."""
    folder.mkdir()
    ground = np.random.default_rng(0).integers(40, 160, (3, SIDE // 8, SIDE // 8), np.uint8)
    before = ground.repeat(8, axis=1).repeat(8, axis=2)
    after = before.copy()
    after[:, 200:240, 200:240] = 255 - after[:, 200:240, 200:240]
    with (folder / "pairs.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["scene_id", "pre", "post"])
        for number in range(count):
            place = Affine(GSD, 0, 300_000 + number * SIDE * GSD, 0, -GSD, 4_160_000)
            names = [f"{number:05}-{when}.tif" for when in ("pre", "post")]
            for name, pixels in zip(names, (before, after), strict=True):
                with rasterio.open(
                    folder / name, "w", driver="GTiff", width=SIDE, height=SIDE, count=3,
                    dtype="uint8", crs="EPSG:32637", transform=place, tiled=True,
                ) as target:  # fmt: skip
                    target.write(pixels)
            rows.writerow([f"{number:05}", *names])
    path = folder / "region.toml"
    path.write_text(
        '[region]\nname = "scenes"\nout = "out"\n'
        '[images]\nkind = "list"\npath = "pairs.csv"\n'
        '[assess]\nmethod = "difference"\n[cluster]\nscenes_at_once = 2\n'
    )
    return path
