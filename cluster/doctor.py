"""What this machine has, and how to get what it lacks."""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import PackageNotFoundError, version

import psutil
import rasterio
import torch

from ..kernels.loaded import has_bf16
from ..kernels.methods import BASELINES, NETWORKS
from ..models.checkpoint import bundled
from .client import QUEUES
from .jobs.options import SUBMIT
from .machine import cores

_EXTRAS = {
    "dask-cuda": "gpu",
    "dask-jobqueue": "hpc",
    "pystac-client": "stac",
    "bokeh": "dashboard",
    "tensorboard": "train",
    "fastapi": "web",
}
_CORE = (
    "aftermap",
    "torch",
    "dask",
    "distributed",
    "zarr",
    "xarray",
    "rasterio",
    "geopandas",
    "numpy",
)


class Findings(dict[str, object]):
    """What was found, by topic."""

    def text(self) -> str:
        """One line per finding."""
        width = max(map(len, self))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self.items())


def examine() -> Findings:
    """Look at versions, devices, memory, methods and missing extras."""
    found = Findings(python=platform.python_version(), gdal=rasterio.__gdal_version__)
    for name in _CORE:
        found[name] = version(name)
    found["cores"] = cores()
    found["memory"] = f"{psutil.virtual_memory().available / 2**30:.1f} GiB free"
    found["bf16 on this CPU"] = "native" if has_bf16("cpu") else "emulated: fp32 is used"
    found["GPU"] = (
        ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        if torch.cuda.is_available()
        else f"none that torch {torch.__version__} sees"
    )
    found["job systems"] = (
        ", ".join(kind for kind in QUEUES if shutil.which(SUBMIT[kind])) or "none"
    )
    for method in (*NETWORKS, *BASELINES):
        weights = (
            "needs none" if method in BASELINES else bundled(method) or "no weights: aftermap train"
        )
        found[f"method {method}"] = str(weights)
    for package, extra in _EXTRAS.items():
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = f'missing: pip install "aftermap[{extra}]"'
    return found
