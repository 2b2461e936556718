"""The command that learns from the tags of a catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aftermap.options import CatalogFolder, Database, Json

learn_app = typer.Typer()


@learn_app.command(
    epilog="Examples:\n\n"
    "aftermap learn --catalog town --dry-run\n\n"
    "aftermap learn --catalog town --encoder inception_v3.safetensors\n\n"
    "aftermap learn --catalog town --layers all\n\n"
    "aftermap learn --catalog town --how uncertain --count 50 --promote never"
)
def learn(
    catalog: CatalogFolder = Path("catalog"),
    database: Database = None,
    label_set: Annotated[
        str, typer.Option("--labels", help="Label set whose tags are learnt from.")
    ] = "damage",
    method: Annotated[str, typer.Option(help="inception-window.")] = "inception-window",
    how: Annotated[
        str,
        typer.Option(
            help="How the next squares are chosen: mixed, uncertain, diverse, disagreement or audit."
        ),
    ] = "mixed",
    count: Annotated[int, typer.Option(help="Squares to suggest.")] = 200,
    candidates: Annotated[
        int, typer.Option(help="Squares of each raster that they are chosen from.")
    ] = 2000,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="A model of timm. Default: that of the model in use; else inception_v3 with --encoder "
            "and resnet10t without."
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="timm's weights of the backbone, as safetensors. Default: those of the model in use, "
            "else random ones, which tell little.",
        ),
    ] = None,
    layers: Annotated[
        str,
        typer.Option(
            help="What is learnt: last, the last layer, in a minute or so; or all, the whole network "
            "where that turns out better: longer, and worth it from some hundred tags."
        ),
    ] = "last",
    head: Annotated[
        str, typer.Option(help="How the last layer is learnt: logistic, svm or softmax.")
    ] = "logistic",
    side: Annotated[
        int | None,
        typer.Option(
            metavar="PX", help="Of the model's squares. Default: that of most tagged squares."
        ),
    ] = None,
    held_out: Annotated[
        float, typer.Option(metavar="SHARE", help="Of the ground that is only tested on.")
    ] = 0.25,
    promote: Annotated[
        str, typer.Option(help="When the new model comes into use: if-better, always or never.")
    ] = "if-better",
    job: Annotated[int | None, typer.Option(hidden=True)] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Say what would be learnt from; learn nothing, write nothing."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Learn a model from tagged squares, say how right it is, and choose the squares to tag next.

    The last layer is learnt on the features of a backbone; --layers all also tunes the backbone.
    Networks that compare before and after are trained on chips instead, with `aftermap train`.
    """
    from aftermap.cluster.learn.command import run_learn

    raise typer.Exit(run_learn(dict(locals())))
