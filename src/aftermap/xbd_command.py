"""The command that looks through a folder of xBD and draws its targets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aftermap.options import Json

xbd_app = typer.Typer()


@xbd_app.command(
    epilog="Examples:\n\n"
    "aftermap xbd xview2\n\n"
    "aftermap xbd xview2 --targets targets --unclassified no-damage\n\n"
    "aftermap xbd xview2 --targets targets --rules baseline --geotiff"
)
def xbd(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Folder with images/ and labels/, or with such folders in it: train/, tier3/, "
            "test/, hold/, or one per disaster.",
        ),
    ],
    targets: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Folder to draw targets into.")
    ] = None,
    rules: Annotated[
        str,
        typer.Option(help="How outlines become pixels: dual-hrnet, baseline or exact."),
    ] = "dual-hrnet",
    unclassified: Annotated[
        str | None,
        typer.Option(
            help="Un-classified buildings: ignore (255, to train) or no-damage (1, to be scored "
            "by). Default: as the rules have it."
        ),
    ] = None,
    geotiff: Annotated[
        bool, typer.Option("--geotiff", help="Targets as GeoTIFF with fitted coordinates, not PNG.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what a folder of xBD holds and what is wrong with it, and draw its targets.

    Exit codes: 0 done, 2 usage, 3 refused, 4 done with tiles left out.
    """
    from aftermap.cluster.xbd import run_xbd

    raise typer.Exit(run_xbd(dict(locals())))
