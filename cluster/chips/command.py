"""What the command line does around chips: arguments to a request, figures to the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...scenes.errors import UsageError
from ...scenes.screen import Screens, threshold
from ..command import source_of
from .chips import make_chips
from .request import ChipsRequest, ReadAs

_AS_THEY_ARE = (
    "out", "size", "format", "labels", "column", "labelled_area", "masks", "seed", "resolution",
    "cluster", "workers", "memory", "dry_run", "fresh",
)  # fmt: skip


def run_chips(arguments: Mapping[str, Any]) -> int:
    """Carry out `aftermap chips` from its arguments; returns the exit code."""
    screens = {name: threshold(arguments[name], name) for name in ("black", "snow", "variance")}
    request = ChipsRequest(
        **_images(arguments["images"]),
        **{name: arguments[name] for name in _AS_THEY_ARE},
        screens=Screens(**screens),
        read_as=ReadAs(**{name: arguments[name] for name in ReadAs.__dataclass_fields__}),
    )
    as_json = bool(arguments["as_json"])
    chips = make_chips(request, quiet=as_json)
    print(json.dumps(chips.to_dict(), indent=2) if as_json else chips.text())
    if chips.labelled and chips.written and not as_json:
        print(f"Try: aftermap train --data {chips.path} --classes 1")
    return chips.exit_code


def _images(images: list[str]) -> dict[str, Any]:
    """A region file, or BEFORE and AFTER."""
    if len(images) == 1 and images[0].endswith(".toml"):
        return {"region": Path(images[0])}
    if len(images) != 2:
        raise UsageError(
            f"{' '.join(images[:4])!r} is neither a region file nor two images: give a file ending in "
            ".toml, or BEFORE and AFTER. Several tiles of one image go into a folder, or into a text "
            "file given as @list.txt."
        )
    return {"pre": source_of(images[0]), "post": source_of(images[1])}
