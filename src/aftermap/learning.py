"""The commands about learning: train, pretrain, calibrate, and scenes to train and try on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aftermap.options import Device, Finished, Precision
from aftermap.training_options import (
    Accumulate,
    AugmentName,
    Backbone,
    BatchSize,
    Board,
    Classes,
    Crop,
    Data,
    Decay,
    EncoderRate,
    Epochs,
    Forget,
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

learning = typer.Typer()


@learning.command(
    epilog="Examples:\n\n"
    "aftermap train --method fc-ef --size small --classes 1 --data chips/ --out weights/fc-ef\n\n"
    "aftermap train --preset kahramanmaras --data chips/ --encoder encoder/fc-siam-diff-encoder.safetensors"
    " --encoder-lr 3e-5\n\n"
    "aftermap train --data chips/=2 --data synthetic=1 --classes 5\n\n"
    "aftermap train --preset xview2 --data xbd/ --encoder hrnet_w32.safetensors -o weights/dual\n\n"
    "aftermap train --method inception-window --data photos/ --encoder inception_v3.safetensors\n\n"
    "aftermap assess before.tif after.tif --method fc-ef --weights weights/fc-ef/fc-ef.safetensors"
)
def train(
    out: Out = Path("weights"),
    method: Annotated[
        str | None,
        typer.Option(
            help="fc-ef, fc-siam-conc, fc-siam-diff (default), dual-hrnet, unet-footprints, "
            "grid-classifier; on photos: inception-window, skip-ganomaly, deep-disaster."
        ),
    ] = None,
    preset: Preset = None,
    size: Size = None,
    width: Annotated[
        int | None, typer.Option(help="Of dual-hrnet's finest branch, channels. Default: 32.")
    ] = None,
    stem: Annotated[
        str | None, typer.Option(help="How dual-hrnet begins: canonical (default) or released.")
    ] = None,
    backbone: Backbone = None,
    classes: Classes = None,
    data: Data = None,
    validation: Annotated[
        str | None,
        typer.Option(
            help="Folder of validation chips; all of --data is then learnt from. Default: part of --data."
        ),
    ] = None,
    intact: Intact = None,
    epochs: Epochs = None,
    steps: Steps = None,
    chip: Crop = None,
    batch: BatchSize = None,
    accumulate: Accumulate = None,
    lr: Rate = None,
    encoder_lr: EncoderRate = None,
    weight_decay: Decay = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw (default) or sgd.")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Of the learning rate: cosine (default), constant or poly.")
    ] = None,
    norm_momentum: Annotated[
        float | None,
        typer.Option(help="How fast BatchNorm follows the batches; 0.1 for short trainings."),
    ] = None,
    dropout: Annotated[float | None, typer.Option(help="Dropout. Default: 0.05.")] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="auto, levels, levels-lovasz, dice, iou, bce, lovasz, entropy, bce-jaccard or "
            "bce-dice."
        ),
    ] = None,
    pos_weight: Annotated[
        float | None, typer.Option(help="Weight of damaged pixels with --loss bce.")
    ] = None,
    augment: AugmentName = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Encoder to begin with: what pretrain wrote; for dual-hrnet timm's hrnet_w32, for "
            "unet-footprints and grid-classifier timm's file of the backbone, as safetensors."
        ),
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="Weights of the same network to begin with.")
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(help="no, all (the encoder stays as it is) or weights (its BatchNorm moves)."),
    ] = None,
    patience: Patience = None,
    seed: Seed = None,
    device: Device = "auto",
    precision: Precision = "auto",
    tensorboard: Board = False,
    head: Annotated[
        str | None,
        typer.Option(help="Of inception-window: softmax (default, paper 003), logistic or svm."),
    ] = None,
    turns: Annotated[
        bool | None,
        typer.Option("--turns", help="Of inception-window: learn from all 72 orientations."),
    ] = None,
    false_alarms: Annotated[
        float | None,
        typer.Option(help="Of inception-window: share that the threshold may allow. Default: 0."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Of deep-disaster: weights that skip-ganomaly was trained to."),
    ] = None,
    form: Annotated[
        str | None, typer.Option(help="Of deep-disaster: paper (default) or code (as published).")
    ] = None,
    structure: Annotated[
        str | None,
        typer.Option(
            help="Of deep-disaster: distilled (default with --teacher), together (default without), or "
            "student or teacher alone."
        ),
    ] = None,
    hints: Annotated[
        list[str] | None,
        typer.Option(
            help="Of deep-disaster: where the student is compared, image, latent (both by default) or "
            "bottleneck; give it once for each."
        ),
    ] = None,
    selection: Annotated[
        str | None,
        typer.Option(
            help="Of deep-disaster: the epoch that is kept, last (default) or auc (of held-out photos)."
        ),
    ] = None,
    search_omega: Annotated[
        bool | None,
        typer.Option(
            "--search-omega", help="Of deep-disaster: weigh the score's terms by held-out photos."
        ),
    ] = None,
    balanced: Annotated[
        bool | None,
        typer.Option(
            "--balanced",
            help="Of deep-disaster: divide each term of the score by its spread over undamaged photos.",
        ),
    ] = None,
    contamination: Annotated[
        float | None,
        typer.Option(
            help="Of deep-disaster: share of undamaged photos above the threshold. Default: 0.05."
        ),
    ] = None,
    batch_statistics: Annotated[
        bool | None,
        typer.Option(
            "--batch-statistics",
            help="Of deep-disaster: score by the statistics of a batch, as the published code did.",
        ),
    ] = None,
    bundled: Annotated[
        bool, typer.Option("--bundled", help="Train the weights that come with the package.")
    ] = False,
    fresh: Forget = False,
) -> None:
    """Train a change network; run the same command again to go on after an interruption.

    Defaults are those of the preset, or without one five classes, 12 epochs of batches of 8 crops of
    256 px, a learning rate of 0.001, a weight decay of 0.002, and all places, intact ones too.
    """
    arguments = dict(locals())
    from aftermap.cluster.learning import run_train

    run_train(arguments)


@learning.command(
    epilog="Examples:\n\n"
    "aftermap pretrain --preset kahramanmaras --method fc-siam-diff --data chips/ -o encoder\n\n"
    "aftermap pretrain --size small --chip 128 --epochs 20 --steps 50 --lr 1e-3 -o encoder"
)
def pretrain(
    out: Out = Path("encoder"),
    method: MethodName = None,
    preset: Annotated[
        str | None, typer.Option(help="Settings to begin with: kahramanmaras (paper 001).")
    ] = None,
    size: Size = None,
    data: Data = None,
    epochs: Epochs = None,
    steps: Steps = None,
    chip: Crop = None,
    batch: BatchSize = None,
    accumulate: Accumulate = None,
    lr: Rate = None,
    encoder_lr: EncoderRate = None,
    weight_decay: Decay = None,
    margin: Annotated[
        float | None, typer.Option(help="Squared distance that is far enough apart. Default: 1.")
    ] = None,
    normalize: Annotated[
        bool | None,
        typer.Option("--normalize/--literal", help="Embeddings of length 1, or as the equation."),
    ] = None,
    least: Least = None,
    augment: AugmentName = None,
    patience: Patience = None,
    seed: Seed = None,
    device: Device = "auto",
    precision: Precision = "auto",
    tensorboard: Board = False,
    fresh: Forget = False,
) -> None:
    """Teach an encoder by contrast which pairs show damage; train takes it with --encoder.

    Draws pairs with damage and pairs without equally, from the training part of the chips only.
    """
    from aftermap.cluster.learning import run_pretrain

    run_pretrain(dict(locals()))


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
