"""The commands about weights files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

weights_app = typer.Typer(no_args_is_help=True)


@weights_app.callback()
def weights() -> None:
    """Weights files: what can be done with them beside training and using them."""


@weights_app.command(
    epilog="Example:\n\n"
    "aftermap weights join footprints/unet-footprints.safetensors cells/grid-classifier.safetensors "
    "-o weights\n\n"
    "aftermap assess before.tif after.tif --method unet-grid --weights weights/unet-grid.safetensors"
)
def join(
    footprints: Annotated[Path, typer.Argument(help="Weights of unet-footprints.")],
    cells: Annotated[Path, typer.Argument(help="Weights of grid-classifier.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for unet-grid.safetensors and its card.")
    ] = Path("weights"),
) -> None:
    """Join footprints and grid cells, trained apart, into one file for the method unet-grid."""
    from aftermap.models.unet_join import join

    print(join(footprints, cells, out))
