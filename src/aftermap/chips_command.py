"""The command that makes training chips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aftermap.options import (
    AllowRemote,
    Bands,
    Cluster,
    Crs,
    Gcps,
    Json,
    Memory,
    Resolution,
    Scale,
    Workers,
)

chips_app = typer.Typer()


@chips_app.command(
    epilog="Examples:\n\n"
    "aftermap chips region.toml -o chips --labels damage.gpkg --labelled-area seen.gpkg\n\n"
    "aftermap chips before.tif after.tif -o chips --size 256 --labels truth.tif\n\n"
    "aftermap chips region.toml -o chips --dry-run"
)
def chips(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="REGION.TOML | BEFORE AFTER",
            help="A region file, of whose images all dates are used; or two images: each a file, a "
            "folder of tiles, or @list.txt.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="CHIPS", help="Folder to write; goes on there.")
    ],
    size: Annotated[int, typer.Option(metavar="PX", help="Side of a chip.")] = 1024,
    format: Annotated[
        str, typer.Option(help="zarr (sharded), or folders of png or tif (georeferenced).")
    ] = "zarr",
    labels: Annotated[
        Path | None,
        typer.Option(help="Polygons of damage in any vector format, or a raster of damage codes."),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(help="Column of the polygons with their level: 1-5, or names as in xBD."),
    ] = None,
    labelled_area: Annotated[
        Path | None, typer.Option(help="Polygons inside which no damage means intact.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Folder of the masks published with paper 001.")
    ] = None,
    black: Annotated[str, typer.Option(help="Largest share of black pixels, or off.")] = "0.05",
    snow: Annotated[str, typer.Option(help="Largest mean of red + green + blue, or off.")] = "500",
    variance: Annotated[str, typer.Option(help="Least variance of grey, or off.")] = "2601",
    seed: Annotated[int, typer.Option(help="Of the division into parts.")] = 0,
    resolution: Resolution = None,
    bands: Bands = None,
    scale: Scale = None,
    crs: Crs = None,
    gcps: Gcps = False,
    allow_remote: AllowRemote = False,
    cluster: Cluster = "auto",
    workers: Workers = None,
    memory: Memory = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Screen every patch and show the plan; write no chip.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Throw away earlier chips in the folder.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Cut training chips from images: screened, paired, labelled and divided without leaks.

    Run the same command again to go on after an interruption. Exit codes: 0 done, 2 usage,
    3 refused, 4 done with images that cannot be read, 5 no chip is left, 130 interrupted.
    """
    from aftermap.cluster.chips.command import run_chips

    raise typer.Exit(run_chips(dict(locals())))
