"""The command that serves a catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aftermap.options import CatalogFolder, Database

serve_app = typer.Typer()


@serve_app.command(
    epilog="Examples:\n\n"
    "aftermap catalog user ana --role admin\n\n"
    "aftermap serve\n\n"
    "aftermap serve --catalog /data/quake --port 9000 --runs /data/out\n\n"
    "aftermap serve --host 192.168.1.20 --allow-remote-users --certificate server.pem --key server.key"
)
def serve(
    catalog: CatalogFolder = Path("catalog"),
    database: Database = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8765,
    allow_remote_users: Annotated[
        bool, typer.Option("--allow-remote-users", help="Let other machines in, with --host.")
    ] = False,
    certificate: Annotated[
        Path | None,
        typer.Option(metavar="PEM", help="Certificate for https, with --key: passwords need it."),
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="PEM", help="Its private key.")] = None,
    allow_private_services: Annotated[
        bool,
        typer.Option(
            "--allow-private-services",
            help="Fetch images of services in the own network, and by the proxies of the environment.",
        ),
    ] = False,
    runs: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder whose runs, regions and trainings Progress shows, with their dashboards; "
            "several times for several. Default: the one that the catalog is in.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve a catalog's tagging and review app to the browsers of this machine, or of others."""
    from aftermap.web.serve import run_serve

    raise typer.Exit(run_serve(dict(locals())))
