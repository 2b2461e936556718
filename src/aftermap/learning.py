"""The commands about learning: train, calibrate, and scenes to train and try on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aftermap.options import DEFAULT, Device, Finished, Precision

learning = typer.Typer()


@learning.command(
    epilog="Examples:\n\n"
    "aftermap train --method fc-ef --size small --classes 1 --data chips/ --out weights/fc-ef\n\n"
    "aftermap assess before.tif after.tif --method fc-ef --weights weights/fc-ef/fc-ef.safetensors"
)
def train(
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Folder for weights, card and the state to go on from."),
    ] = Path("weights"),
    method: Annotated[str, typer.Option(help="fc-ef, fc-siam-conc or fc-siam-diff.")] = DEFAULT,
    size: Annotated[str, typer.Option(help="small, medium, large or daudt.")] = "medium",
    classes: Annotated[
        int, typer.Option(help="1 (damaged or not) or 5 (background and four levels).")
    ] = 5,
    data: Annotated[
        str, typer.Option(help="'synthetic', or a folder with pre/, post/ and mask/ chips.")
    ] = "synthetic",
    validation: Annotated[str | None, typer.Option(help="Folder of validation chips.")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 12,
    steps: Annotated[
        int | None, typer.Option(help="Steps per epoch. Default: the data once.")
    ] = None,
    chip: Annotated[int, typer.Option(help="Side of a training crop, px.")] = 256,
    batch: Annotated[int, typer.Option(help="Crops per step.")] = 8,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option(help="Weight decay.")] = 2e-3,
    dropout: Annotated[float, typer.Option(help="Dropout.")] = 0.05,
    loss: Annotated[
        str, typer.Option(help="auto, levels, levels-lovasz, dice, iou or bce.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Same seed, same weights.")] = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write OUT/log.")] = False,
    bundled: Annotated[
        bool, typer.Option("--bundled", help="Train the weights that come with the package.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget an earlier training in OUT.")
    ] = False,
) -> None:
    """Train a change network; run the same command again to go on after an interruption."""
    from aftermap.cluster.command import run_train

    run_train(dict(locals()))


@learning.command(
    epilog="Example:\n\naftermap calibrate run --labels surveyed.geojson --column grade -o weights"
)
def calibrate(
    run: Finished,
    labels: Annotated[
        Path, typer.Option(help="Buildings with known damage: polygons or points, any CRS.")
    ],
    column: Annotated[
        str, typer.Option(help="Column with the levels: 1-4, or names as in xBD.")
    ] = "damage_class",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder for weights and card; default RUN/calibrated."),
    ] = None,
) -> None:
    """Make a method's probabilities mean what they say, from buildings whose damage is known."""
    from aftermap.cluster.calibrate import calibrate

    print(calibrate(run, labels, column, out).text())


@learning.command(epilog="Example:\n\naftermap synth scene --size 4096 --seed 7")
def synth(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder to write pre.tif, post.tif, truth.tif and footprints.gpkg to."),
    ],
    size: Annotated[int, typer.Option(help="Side of the after image, px.")] = 2048,
    seed: Annotated[int, typer.Option(help="Same seed, same scene.")] = 0,
    gsd: Annotated[float, typer.Option(help="Pixel size of the after image, m.")] = 0.5,
    nuisances: Annotated[
        bool, typer.Option(help="Season, light, clouds, misregistration, cars, other grids.")
    ] = True,
) -> None:
    """Make a synthetic before/after pair with known damage."""
    from aftermap.cluster.command import run_synth

    run_synth(folder, size=size, seed=seed, gsd=gsd, nuisances=nuisances)
