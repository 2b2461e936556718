"""What only a GPU can show: the same results, bounded memory, batches that give way, workers per GPU."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from aftermap.cluster.client import connected, resolved
from aftermap.kernels.apply import run_block
from aftermap.kernels.gpu import Lane, lane
from aftermap.kernels.methods import load_method
from aftermap.kernels.network import NetworkKernel
from aftermap.scenes.plan import Window
from aftermap.scenes.synth import Synth, write

import aftermap as am

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    found = write(tmp_path_factory.mktemp("scene"), Synth(size=1500, seed=3))
    return found.pre, found.post


@pytest.fixture(scope="module")
def block(scene: tuple[Path, Path]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three by two windows of 448 px with a halo of 32 px, and a hole."""
    pixels = am.open_pair(*scene).isel(y=slice(0, 3 * 448 + 64), x=slice(0, 2 * 448 + 64)).load()
    valid = pixels["valid"].values.copy()
    valid[300:360, 100:500] = False
    return pixels["pre"].values, pixels["post"].values, valid


def kernel(device: str, precision: str, **options: object) -> NetworkKernel:
    made = load_method("fc-siam-diff", device=device, precision=precision, **options)
    return replace(made, window=Window(448, 32))


def test_fp32_on_a_gpu_equals_fp32_on_a_cpu(block: tuple[np.ndarray, ...]) -> None:
    cpu, gpu = (run_block(kernel(device, "fp32"), *block) for device in ("cpu", "cuda"))
    assert (cpu["damage"] != gpu["damage"]).mean() < 1e-5
    for name in ("damage_probability", "building_probability", "p_none", "p_destroyed"):
        assert np.abs(cpu[name].astype(int) - gpu[name].astype(int)).max() <= 1, name


def test_bf16_flips_few_classes(block: tuple[np.ndarray, ...]) -> None:
    exact, fast = (run_block(kernel("cuda", precision), *block) for precision in ("fp32", "bf16"))
    assert (exact["p_none"] != fast["p_none"]).mean() > 0
    assert (exact["damage"] != fast["damage"]).mean() <= 1e-3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_threads_do_not_meet(block: tuple[np.ndarray, ...], precision: str) -> None:
    made = kernel("cuda", precision)
    wanted = run_block(made, *block)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: run_block(made, *block), range(24)))
    for one in found:
        for name, values in wanted.items():
            np.testing.assert_array_equal(values, one[name], err_msg=name)


def test_threads_that_come_at_once_share_one_lane() -> None:
    together = threading.Barrier(16)

    def ask(_: int) -> Lane:
        together.wait(30)
        return lane()

    with ThreadPoolExecutor(16) as pool:
        assert len({id(found) for found in list(pool.map(ask, range(16)))}) == 1


def test_a_batch_that_does_not_fit_gives_way(
    block: tuple[np.ndarray, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process may have 60 % of what the batch takes, so that the device really refuses it."""
    small = kernel("cuda", "bf16")
    wanted = run_block(small, *block)
    monkeypatch.setattr(NetworkKernel, "batch", 6)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    run_block(small, *block)
    whole = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(whole * 0.6 / total)
    tried: list[int] = []
    once = NetworkKernel.__call__

    def counted(self: NetworkKernel, pre: np.ndarray, *more: np.ndarray) -> object:
        tried.append(len(pre))
        return once(self, pre, *more)

    monkeypatch.setattr(NetworkKernel, "__call__", counted)
    try:
        found = run_block(small, *block)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert tried[0] == 6
    assert min(tried) < 6
    # On a GPU another batch rounds otherwise: this is why the method's own is one window.
    assert (found["damage"] != wanted["damage"]).mean() < 1e-3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_plan_foresees_the_peak(block: tuple[np.ndarray, ...], precision: str) -> None:
    made = load_method("fc-siam-diff", device="cuda", precision=precision)
    size, n = made.window.size, made.batch
    images = np.zeros((n, 3, size, size), np.uint8)
    made(images, images, np.ones((n, size, size), bool))
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    made(images, images, np.ones((n, size, size), bool))
    free, total = torch.cuda.mem_get_info()
    assert torch.cuda.max_memory_reserved() > 0.2 * made.device_bytes
    assert total - free <= made.device_bytes  # as the device counts it, with the context


def test_layouts_and_clusters_give_the_same_bytes(scene: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("dask_cuda")
    assert resolved("auto") == ("cuda" if torch.cuda.device_count() > 1 else "local")
    runs = []
    with connected("cuda") as client:
        facts = client.run(lambda: (torch.cuda.is_available(), torch.get_num_threads()))
        assert all(gpu for gpu, _ in facts.values())
        for chunk in (1024, 2048):
            out = tmp_path / f"cuda-{chunk}"
            runs.append(am.assess(*scene, out=out, client=client, device="cuda", chunk=chunk))
    with connected("local", workers=3) as client:  # three processes share the GPU
        runs.append(am.assess(*scene, out=tmp_path / "local", client=client, device="cuda"))
    with connected("threads", workers=3) as client:
        out = tmp_path / "threads"
        runs.append(am.assess(*scene, out=out, client=client, device="cuda", chunk=1024))
    for name in ("damage.tif", "p_minor.tif", "buildings.gpkg", "buildings.parquet", "summary.csv"):
        contents = {(run.path / name).read_bytes() for run in runs}
        assert len(contents) == 1, name
    assert runs[0].record["method"]["device"] == "cuda"


def test_torch_takes_its_memory_from_the_pool_of_rmm(
    scene: tuple[Path, Path], tmp_path: Path
) -> None:
    pytest.importorskip("dask_cuda")
    pytest.importorskip("rmm")
    with connected("cuda") as client:
        am.assess(*scene, out=tmp_path / "run", client=client, device="cuda")
        found = client.run(_pool)
    assert set(found.values()) == {("PoolMemoryResource", True)}


def _pool() -> tuple[str, bool]:
    """The kind of RMM's resource, and whether a tensor of torch makes its pool fuller."""
    import rmm

    resource = rmm.mr.get_current_device_resource()
    counted = rmm.mr.StatisticsResourceAdaptor(resource)
    rmm.mr.set_current_device_resource(counted)
    held = torch.zeros(1 << 20, dtype=torch.uint8, device="cuda")
    seen = counted.allocation_counts.current_bytes >= held.numel()
    rmm.mr.set_current_device_resource(resource)
    return type(resource).__name__, seen
