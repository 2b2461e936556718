"""Measure everything in docs/performance.md: `python benchmarks/run.py [NAME ...] [--quick]`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

# Before torch and GDAL are imported: one thread per process, as the workers have.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GDAL_NUM_THREADS", "1")

import bare
import cog
import distance
import exactness
import gpu
import graph
import growth
import many_scenes
import networks
import overhead
import peer
import region
import speedup
import squares
import tasks
import vectorise
from bench import Bench
from figure import Figure, table
from machine import load, machine

BENCHMARKS = {
    "overhead": overhead,
    "speedup": speedup,
    "distance": distance,
    "bare": bare,
    "networks": networks,
    "squares": squares,
    "gpu": gpu,
    "growth": growth,
    "tasks": tasks,
    "graph": graph,
    "exactness": exactness,
    "vectorise": vectorise,
    "region": region,
    "many scenes": many_scenes,
    "cog": cog,
    "peer": peer,
}
RESULTS = Path(__file__).parent / "results.json"


def main() -> None:
    """Run the benchmarks asked for, print their tables, and write the results beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="smaller scenes: a smoke test")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where results go (default: beside this file)")
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.names) - set(BENCHMARKS))
    if unknown:
        parser.error(
            f"no benchmark is called {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}"
        )
    logging.getLogger("distributed").setLevel(logging.ERROR)
    folder = Path(tempfile.mkdtemp(prefix="aftermap-bench-"))
    try:
        bench = Bench(folder, chosen.quick, chosen.repetitions)
        results = {name: _measure(name, bench) for name in chosen.names or BENCHMARKS}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    out = chosen.out or (None if chosen.quick or chosen.names else RESULTS)
    if out is not None:
        _write(out, results)


def _measure(name: str, bench: Bench) -> dict[str, list[Figure]]:
    print(f"{name} ...", end="", flush=True, file=sys.stderr)
    busy, start = load(), time.perf_counter()
    figures = BENCHMARKS[name].measure(bench)
    taken = round(time.perf_counter() - start, 1)
    print(f" {taken} s", file=sys.stderr)
    print(table(figures), flush=True)
    return {"figures": figures, "seconds": taken, "load_before": busy}


def _write(path: Path, results: dict[str, dict]) -> None:
    content = {
        "machine": machine(),
        "benchmarks": {
            name: result | {"figures": [figure.to_dict() for figure in result["figures"]]}
            for name, result in results.items()
        },
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
