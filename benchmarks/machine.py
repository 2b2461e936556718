"""What the figures were measured on: the kind of machine, and the versions."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import psutil
from aftermap.cluster.machine import cores
from aftermap.kernels.loaded import has_bf16

_VERSIONS = ("aftermap", "torch", "dask", "distributed", "numpy", "rasterio", "zarr", "shapely")


def machine() -> dict[str, object]:
    """Processor, cores, memory, versions and date; neither the machine's name nor its paths."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "bf16": has_bf16("cpu"),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gdal_cachemax": os.environ.get("GDAL_CACHEMAX", "GDAL's default"),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _VERSIONS},
        "date": time.strftime("%FT%TZ", time.gmtime()),
    }


def load() -> float:
    """Processes that wanted a core over the last minute: what else the machine was doing."""
    return round(os.getloadavg()[0], 2)


def _processor() -> str:
    """The processor's name, with its family and model, which say more than a cloud's name for it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    found = {key.strip(): value.strip() for key, value in facts.items()}
    return (
        f"{found.get('model name', platform.machine())}, family {found.get('cpu family', '?')}, "
        f"model {found.get('model', '?')}"
    )
