"""A plan in words."""

from __future__ import annotations

from ..scenes.grid import gsd
from ..scenes.plan import Window
from .budget import Budget
from .prepare import Prepared


def describe(prepared: Prepared) -> str:
    """The plan in words, for `aftermap plan` and `--dry-run`."""
    plan, budget, pair = prepared.budget.plan, prepared.budget, prepared.pair
    height, width = plan.region_shape
    flips = prepared.kernel.facts().get("halo_flip_rate")
    halo = f" (changes {flips:.2%} of classes against the full one)" if flips else ""
    shift = prepared.shift
    moved = f"{shift.length_px:.1f} px, {shift.confidence:.0%} of tiles agree" if shift else "none"
    lines = [
        f"scene      {width} x {height} px at {gsd(pair.grid):.3g} m, {height * width / 1e6:.1f} Mpx",
        f"method     {prepared.kernel.method}, {_window(plan.window)}{halo}",
        f"shift      {moved}",
        f"chunks     {len(plan)} of {plan.chunk} px ({plan.window_count} windows)",
        f"overhead   {plan.overhead:.2f} px seen per px of the scene (halo and edges)",
        f"workers    {budget.workers}, peak memory {budget.peak_bytes / 2**30:.2f} GiB each "
        f"(may use {budget.limit_bytes / 2**30:.2f} GiB)",
        *_device_line(budget),
        f"disk       up to {budget.disk_bytes / 2**30:.2f} GiB of {budget.free_bytes / 2**30:.1f} GiB free",
        f"time       about {budget.seconds / 60:.1f} min ({budget.seconds_per_window:.2f} s per window)",
    ]
    if prepared.lessons is not None:
        lines.append(f"training   {prepared.lessons.text()}")
    return "\n".join(lines + [f"note       {note}" for note in prepared.notes()])


def _device_line(budget: Budget) -> list[str]:
    if not budget.device_bytes:
        return []
    free = (
        f" of {budget.device_free_bytes / 2**30:.1f} GiB free" if budget.device_free_bytes else ""
    )
    return [f"gpu        up to {budget.device_bytes / 2**30:.2f} GiB{free} for each worker"]


def _window(window: Window) -> str:
    if window.scan:
        return f"squares of {window.scan} px, each scored, {window.overlap} px of them in common"
    if window.blended:
        return f"squares of {window.size} px that fade into each other over {window.overlap} px"
    return f"window {window.core} + 2 x {window.halo} px halo"
