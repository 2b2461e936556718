"""The commands that compare networks: tune, study and evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aftermap.options import Cluster, Device, Json, Memory, Workers
from aftermap.training_options import (
    Accumulate,
    AugmentName,
    Backbone,
    BatchSize,
    Classes,
    Crop,
    Data,
    Epochs,
    Intact,
    Least,
    MethodName,
    Out,
    Patience,
    Preset,
    Rate,
    Seed,
    Size,
    Steps,
)

experiments = typer.Typer()


@experiments.command(
    epilog="Examples:\n\n"
    "aftermap tune --data chips/ --method fc-siam-diff --trials 100 -o tuning\n\n"
    "aftermap tune --data chips/ --cluster slurm --workers 20 -o tuning\n\n"
    "aftermap train --preset tuning/best.json --data chips/ --epochs 100"
)
def tune(
    out: Out = Path("tuning"),
    method: MethodName = None,
    data: Data = None,
    trials: Annotated[int, typer.Option(help="Trainings with settings drawn at random.")] = 100,
    epochs: Annotated[int | None, typer.Option(help="Epochs of a trial. Default: 10.")] = None,
    steps: Steps = None,
    chip: Crop = None,
    augment: AugmentName = None,
    patience: Patience = None,
    seed: Seed = None,
    preset: Preset = None,
    cluster: Cluster = "auto",
    workers: Workers = None,
    memory: Memory = None,
) -> None:
    """Search for good settings at random: loss, batch, rates, decay, dropout and size.

    The distributions are those of paper 001, table I. Run the same command again to go on after an
    interruption, or with more --trials to add to them.
    """
    from aftermap.cluster.learning import run_tune

    run_tune(dict(locals()))


@experiments.command(
    epilog="Examples:\n\n"
    "aftermap study kahramanmaras --data chips/ --seeds 3 -o study\n\n"
    "aftermap study kahramanmaras-small --data synthetic=3 --data chips/=1 --seeds 3 -o small-study\n\n"
    "aftermap study xview2 --data xbd/ --encoder hrnet_w32.safetensors --seeds 3 -o xview2-study\n\n"
    "aftermap study amatrice --data chips/ --seeds 3 -o amatrice-study"
)
def study(
    name: Annotated[
        str,
        typer.Argument(
            metavar="STUDY",
            help="kahramanmaras (paper 001), xview2 (paper 002), amatrice (paper 004), and on photos "
            "oaxaca (paper 003) or deep-disaster (paper 000); with -small behind it, what two cores can "
            "do.",
        ),
    ],
    out: Out = Path("study"),
    data: Data = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each network; mean and deviation.")] = 1,
    classes: Classes = None,
    size: Size = None,
    width: Annotated[
        int | None, typer.Option(help="Of dual-hrnet's finest branch, channels. Default: 32.")
    ] = None,
    backbone: Backbone = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="Of xview2: weights that all networks begin with, timm's hrnet_w32."),
    ] = None,
    epochs: Epochs = None,
    steps: Steps = None,
    chip: Crop = None,
    batch: BatchSize = None,
    accumulate: Accumulate = None,
    lr: Rate = None,
    augment: AugmentName = None,
    patience: Patience = None,
    pretrain_epochs: Annotated[int | None, typer.Option(help="Rounds of pre-training.")] = None,
    pretrain_steps: Annotated[int | None, typer.Option(help="Steps of such a round.")] = None,
    pretrain_lr: Annotated[float | None, typer.Option(help="Its learning rate.")] = None,
    pretrain_least: Least = None,
    cluster: Cluster = "auto",
    workers: Workers = None,
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Repeat a published study: its networks trained per seed, tested, beside the published figures.

    The study is a preset: what is not given is as it says. Run the same command again to go on after an interruption.
    """
    from aftermap.cluster.learning import run_study

    run_study(dict(locals()))


@experiments.command(
    epilog="Examples:\n\n"
    "aftermap evaluate weights/fc-siam-diff.safetensors --data chips/ -o evaluation\n\n"
    "aftermap evaluate weights/fc-ef.safetensors --data LEVIR-CD/ --threshold 0.4 --no-intact\n\n"
    "aftermap evaluate weights/fc-ef.safetensors --data chips/ --threshold validation --cluster local"
)
def evaluate(
    weights: Annotated[Path, typer.Argument(help="Safetensors file with its card beside it.")],
    data: Annotated[Path, typer.Option(help="Folder of chips.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for figures and report.")] = Path(
        "evaluation"
    ),
    split: Annotated[str, typer.Option(help="train, validation, test or all.")] = "test",
    threshold: Annotated[
        str | None,
        typer.Option(
            metavar="P|validation",
            help="Of damage, for one class: a probability, or the best of the validation part. "
            "Default: the card's.",
        ),
    ] = None,
    intact: Intact = True,
    cluster: Annotated[
        str | None,
        typer.Option(help="Share the chips among workers, as for assess. Default: none."),
    ] = None,
    workers: Workers = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Say how right a network is on chips: figures, curves, panels and a report."""
    from aftermap.cluster.evaluate import run_evaluate

    run_evaluate(dict(locals()))
