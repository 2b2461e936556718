"""The commands of the catalog: what is there, who said what of it, and where that goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aftermap.options import AllowRemote, Bands, CatalogFolder, Database, Json, Scale

catalog_app = typer.Typer(no_args_is_help=True)

HERE = Path("catalog")


@catalog_app.callback()
def catalog() -> None:
    """The catalog: images, tags, models, runs and reviews, and where each comes from."""


@catalog_app.command(
    epilog="Examples:\n\n"
    "aftermap catalog add flight/ --town Juchitan --event 'Chiapas 2017'\n\n"
    "aftermap catalog add after.tif --before before.tif --date 2017-09-09\n\n"
    "aftermap catalog add run/ weights/fc-siam-diff.safetensors"
)
def add(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT...",
            help="Images, folders of images, addresses of image services (--allow-remote), run folders, "
            "weights (.safetensors).",
        ),
    ],
    town: Annotated[str, typer.Option(help="Town that the images show.")] = "",
    event: Annotated[str, typer.Option(help="Event that they were taken after.")] = "",
    date: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="When, where they do not say it.")
    ] = None,
    before: Annotated[
        str, typer.Option(metavar="SCENE", help="Catalogued image before: number, name or path.")
    ] = "",
    bands: Bands = None,
    scale: Scale = None,
    allow_remote: AllowRemote = False,
    catalog: CatalogFolder = HERE,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Add images, runs and weights; the catalog is begun where there is none.

    Rasters stay where they lie, photos and weights are copied. Exit codes: 0 done, 2 usage, 3 refused,
    4 done but for files of folders that are no images.
    """
    from aftermap.cluster.catalog.command import run_add

    raise typer.Exit(run_add(dict(locals())))


@catalog_app.command(
    "list",
    epilog="Examples:\n\naftermap catalog list\n\naftermap catalog list tags --limit 20 --json",
)
def list_(
    what: Annotated[
        str,
        typer.Argument(help="scenes, tags, chips, models, runs, reviews, users, labels or audit."),
    ] = "scenes",
    limit: Annotated[int | None, typer.Option(min=1, help="Rows at most. Default: all.")] = None,
    catalog: CatalogFolder = HERE,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """List what the catalog holds; tags that hold, reviews and the audit trail newest first."""
    from aftermap.cluster.catalog.command import run_list

    run_list(dict(locals()))


@catalog_app.command(
    epilog="Examples:\n\naftermap catalog show scene 3\n\naftermap catalog show model 2 --json"
)
def show(
    what: Annotated[str, typer.Argument(help="scene, tag, model or run.")],
    which: Annotated[str, typer.Argument(help="Its number, name or id.")],
    catalog: CatalogFolder = HERE,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Show one thing: of a tag what was said before and after, of a model every tag that made it."""
    from aftermap.cluster.catalog.command import run_show

    run_show(dict(locals()))


@catalog_app.command(
    epilog="Examples:\n\n"
    "aftermap catalog export --to csv -o tags.csv\n\n"
    "aftermap catalog export --to folders -o chips --labels levels"
)
def export(
    to: Annotated[str, typer.Option("--to", help="xbd, coco, geojson, csv or folders.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File or folder to write.")],
    labels: Annotated[
        str, typer.Option(metavar="NAME[:VERSION]", help="Label set; its newest version.")
    ] = "damage",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export of the same kind.")
    ] = False,
    catalog: CatalogFolder = HERE,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Write the tags that hold as others want them, and say what that leaves out."""
    from aftermap.cluster.catalog.command import run_export

    run_export(dict(locals()))


@catalog_app.command(
    "import",
    epilog="Examples:\n\n"
    "aftermap catalog import tags.csv --as ana\n\n"
    "aftermap catalog import xview2/train --labels levels --partly",
)
def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="CSV, GeoJSON, COCO list, or a folder of COCO, xBD, or A/, B/ and label/.",
        ),
    ],
    labels: Annotated[
        str | None,
        typer.Option(metavar="NAME[:VERSION]", help="Label set. Default: the one the file names."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Who is said to have made the tags.")
    ] = None,
    partly: Annotated[
        bool, typer.Option("--partly", help="Import the rest where some cannot be imported.")
    ] = False,
    catalog: CatalogFolder = HERE,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Take over tags, and the images that come along; imported again, nothing is added.

    Exit codes: 0 done, 2 usage, 3 refused (nothing was added), 4 done with tags left out.
    """
    from aftermap.cluster.catalog.command import run_import

    raise typer.Exit(run_import(dict(locals())))


@catalog_app.command(epilog="Example:\n\naftermap catalog verify --tidy")
def verify(
    tidy: Annotated[
        bool, typer.Option("--tidy", help="Remove files that nobody names, left by interruptions.")
    ] = False,
    catalog: CatalogFolder = HERE,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Compare database and files, byte by byte. Exit codes: 0 they agree, 3 they do not."""
    from aftermap.cluster.catalog.command import run_verify

    raise typer.Exit(run_verify(dict(locals())))


@catalog_app.command(
    epilog="Examples:\n\n"
    "aftermap catalog user ana --role tagger\n\n"
    "aftermap catalog user ana --deactivate"
)
def user(
    name: Annotated[str, typer.Argument(help="Name to log in with.")],
    role: Annotated[
        str | None,
        typer.Option(help="viewer, tagger, reviewer or admin; each may do what those before may."),
    ] = None,
    password_stdin: Annotated[
        bool,
        typer.Option("--password-stdin", help="Read the password from one line of standard input."),
    ] = False,
    deactivate: Annotated[
        bool, typer.Option("--deactivate", help="Let them in no longer; what they said stays.")
    ] = False,
    catalog: CatalogFolder = HERE,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Let somebody log in to the app, change their role and password, or let them in no longer."""
    from aftermap.cluster.catalog.command import run_user

    run_user(dict(locals()))


@catalog_app.command(
    epilog="Examples:\n\naftermap catalog labels damage\n\naftermap catalog labels roofs roofs.json"
)
def labels(
    name: Annotated[
        str | None, typer.Argument(help="Name of the label set; without it all are shown.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE.json]", help="List of labels that becomes its next version."),
    ] = None,
    catalog: CatalogFolder = HERE,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Show a label set, or make its next version; tags keep the version they were made with."""
    from aftermap.cluster.catalog.command import run_labels

    run_labels(dict(locals()))
