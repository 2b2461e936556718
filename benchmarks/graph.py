"""How many bytes travel to the workers, and that the model is not among them."""

from __future__ import annotations

from pathlib import Path

import cloudpickle
from aftermap.cluster.job import Job, JobFile, run_chunk
from aftermap.kernels.apply import apply
from aftermap.kernels.kernel import Kernel
from aftermap.kernels.methods import load_method
from aftermap.scenes.pair import Pair
from aftermap.scenes.plan import Plan
from aftermap.scenes.store import Store
from bench import Bench
from figure import Figure, Target
from pairs import Kind
from weights import METHOD, random_weights

import aftermap as am

_SIZES = ("small", "large")


def measure(bench: Bench) -> list[Figure]:
    """Bytes of a task, of the job that workers read once, and of a lazy graph; two model sizes."""
    files = {size: random_weights(bench.folder, size, 1024, 32, 32) for size in _SIZES}
    models = {size: file.stat().st_size for size, file in files.items()}
    kernels = {size: load_method(METHOD, file, device="cpu") for size, file in files.items()}
    pair = bench.pairs.pair(bench.large)
    _task(bench, kernels["small"], pair)  # the grid keeps what it works out once, and pickles it
    tasks, jobs, graphs = {}, {}, {}
    for size, kernel in kernels.items():
        task, job = _task(bench, kernel, pair)
        tasks[size], jobs[size] = len(task), job.stat().st_size
        graphs[size] = len(_graph(bench, kernel))
    collar = len(_graph(bench, kernels["small"], "collar"))
    larger = (models["large"] - models["small"]) / 1e6
    grown = max(abs(found["large"] - found["small"]) for found in (tasks, jobs, graphs))
    target = Target("<=", 1e6)
    return [
        Figure("graph: lazy, with a large model", graphs["large"], "bytes", target, graphs),
        Figure("graph: lazy, images with a collar", collar, "bytes", target),
        Figure("graph: a task of a run", tasks["large"], "bytes", target, tasks),
        Figure("graph: the job, read once a process", jobs["large"], "bytes", target, jobs),
        Figure(f"growth with {larger:.1f} MB more model", grown, "bytes", Target("<=", 64), models),
    ]


def _task(bench: Bench, kernel: Kernel, pair: Pair) -> tuple[bytes, Path]:
    """One task of a run, pickled, and the job's file."""
    plan = Plan.of(pair.grid.shape, kernel.window, 2048)
    path = bench.folder / "graph.job"
    file = JobFile.write(Job(kernel, pair, plan, Store(path, plan, kernel.layers)), path)
    return cloudpickle.dumps((run_chunk, file, plan.chunk_grid)), path


def _graph(bench: Bench, kernel: Kernel, kind: Kind = "plain") -> bytes:
    """The lazy graph of all layers of a large scene, pickled as it is sent."""
    layers = apply(kernel, am.open_pair(*bench.pairs.files(bench.large, kind)))
    return cloudpickle.dumps(dict(layers.__dask_graph__()))
