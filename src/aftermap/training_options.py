"""The options that the commands about training share, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[
    Path, typer.Option("-o", "--out", help="Folder to write; what was begun there goes on.")
]
MethodName = Annotated[
    str | None, typer.Option(help="fc-ef, fc-siam-conc or fc-siam-diff (default).")
]
Size = Annotated[
    str | None,
    typer.Option(help="small, medium, large or daudt. Default: the preset's, or medium."),
]
Backbone = Annotated[
    str | None,
    typer.Option(
        help="Of unet-footprints (default: efficientnet-b5) and grid-classifier (resnet34): resnet18 to "
        "resnet152, efficientnet-b0 to b7."
    ),
]
Classes = Annotated[
    int | None, typer.Option(help="1 (damaged or not) or 5 (background and four levels).")
]
Intact = Annotated[
    bool | None,
    typer.Option("--intact/--no-intact", help="Whether places without damage take part."),
]
Data = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CHIPS[=WEIGHT]",
        help="Folder of chips, or 'synthetic' (default); several, each with its share of an epoch.",
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Settings to begin with: kahramanmaras (paper 001), xview2 or xview2-code (paper 002), "
        "amatrice (paper 004), or a .json file that tune wrote."
    ),
]
Epochs = Annotated[int | None, typer.Option(help="Rounds; the state is kept after each.")]
Steps = Annotated[int | None, typer.Option(help="Steps per epoch. Default: the data once.")]
Crop = Annotated[
    int | None, typer.Option("--chip", help="Side of a crop, px. Default: the preset's, or 256.")
]
BatchSize = Annotated[int | None, typer.Option(help="Crops per step. Default: the preset's, or 8.")]
Accumulate = Annotated[
    int | None,
    typer.Option(help="Parts in which a batch is worked on, for memory; the result is the same."),
]
Least = Annotated[
    float | None,
    typer.Option(
        help="Share of damaged pixels from which a crop of pre-training counts as damaged."
    ),
]
Rate = Annotated[float | None, typer.Option(help="Learning rate.")]
EncoderRate = Annotated[float | None, typer.Option(help="Of the encoder. Default: --lr.")]
Decay = Annotated[float | None, typer.Option(help="Weight decay.")]
AugmentName = Annotated[
    str | None,
    typer.Option(
        help="How chips are changed: auto, paper, paper-apart, xview2, xview2-code, amatrice or none."
    ),
]
Patience = Annotated[
    int | None, typer.Option(help="Stop after so many epochs without a better score.")
]
Seed = Annotated[int | None, typer.Option(help="Same seed, same weights. Default: 0.")]
Board = Annotated[bool, typer.Option("--tensorboard", help="Write OUT/log.")]
Forget = Annotated[bool, typer.Option("--fresh", help="Forget an earlier training in OUT.")]
