"""The command line: arguments only; every command calls one function."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Annotated

import typer

from aftermap.catalog_command import catalog_app
from aftermap.chips_command import chips_app
from aftermap.ending import carry_out
from aftermap.experiments import experiments
from aftermap.learn_command import learn_app
from aftermap.learning import learning
from aftermap.options import (
    DEFAULT,
    AllowRemote,
    Aoi,
    Bands,
    Bbox,
    ChunkSize,
    Cluster,
    Compiled,
    Contamination,
    Coregister,
    Crs,
    DamageThreshold,
    Device,
    DryRun,
    Ensemble,
    Finish,
    Finished,
    Fit,
    Flags,
    Footprints,
    FootprintsOn,
    Fresh,
    Gazetteer,
    Gcps,
    GeocoderName,
    Grid,
    Halo,
    HashInputs,
    Images,
    Json,
    Maps,
    MatchColour,
    Memory,
    Method,
    MinArea,
    Nms,
    NmsRule,
    Out,
    Overlap,
    Precision,
    RegionCluster,
    RegionFile,
    RegionFresh,
    RegionOut,
    Regularise,
    Resolution,
    Rule,
    Scale,
    Scenes,
    Teacher,
    Views,
    Weights,
    Workers,
)
from aftermap.serve_command import serve_app
from aftermap.weights_command import weights_app
from aftermap.xbd_command import xbd_app

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="From gigapixel before/after images of a disaster to a damage map.",
)


@app.command(
    epilog="Examples:\n\n"
    "aftermap assess before.tif after.tif -o run\n\n"
    "aftermap assess before/ after/ -o run --footprints buildings.geojson --resolution 0.5\n\n"
    "aftermap assess after.tif -o run --method inception-window --weights w.safetensors "
    "--gazetteer town.osm.pbf\n\n"
    "aftermap assess photos/ -o gallery --method deep-disaster --weights w.safetensors\n\n"
    "aftermap assess before.tif after.tif -o run --dry-run"
)
def assess(
    images: Images,
    out: Out = Path("run"),
    method: Method = DEFAULT,
    weights: Weights = None,
    fit: Fit = None,
    teacher: Teacher = None,
    contamination: Contamination = 0.05,
    maps: Maps = None,
    footprints: Footprints = None,
    footprints_on: FootprintsOn = "before",
    aoi: Aoi = None,
    bbox: Bbox = None,
    grid: Grid = "post",
    resolution: Resolution = None,
    bands: Bands = None,
    scale: Scale = None,
    crs: Crs = None,
    gcps: Gcps = False,
    allow_remote: AllowRemote = False,
    coregister: Coregister = False,
    match_colour: MatchColour = False,
    rule: Rule = "majority",
    damage_threshold: DamageThreshold = None,
    flags: Flags = (0.3, 0.7),
    min_area: MinArea = 15.0,
    regularise: Regularise = False,
    nms: Nms = 0.1,
    nms_rule: NmsRule = "iou",
    gazetteer: Gazetteer = None,
    geocoder: GeocoderName = None,
    chunk: ChunkSize = None,
    halo: Halo = None,
    overlap: Overlap = None,
    cluster: Cluster = "auto",
    workers: Workers = None,
    memory: Memory = None,
    device: Device = "auto",
    precision: Precision = "auto",
    compiled: Compiled = False,
    ensemble: Ensemble = None,
    views: Views = 1,
    hash_inputs: HashInputs = False,
    dry_run: DryRun = False,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Turn a before/after pair into a damage map: rasters, buildings, summary and report.

    Run the same command again to go on after an interruption. Exit codes: 0 done, 1 unexpected,
    2 usage, 3 refused, 4 done with chunks set aside, 5 nothing to analyse, 130 interrupted.
    """
    from aftermap.cluster.command import run_assess

    raise typer.Exit(run_assess(dict(locals())))


@app.command(
    epilog="Examples:\n\naftermap plan before.tif after.tif --memory 4GiB\n\n"
    "aftermap plan before.tif after.tif --method deep-disaster --fit before\n\n"
    "aftermap plan region.toml"
)
def plan(
    images: Images,
    out: Out = Path("run"),
    method: Method = DEFAULT,
    weights: Weights = None,
    fit: Fit = None,
    teacher: Teacher = None,
    contamination: Contamination = 0.05,
    footprints: Footprints = None,
    aoi: Aoi = None,
    bbox: Bbox = None,
    grid: Grid = "post",
    resolution: Resolution = None,
    bands: Bands = None,
    scale: Scale = None,
    crs: Crs = None,
    gcps: Gcps = False,
    allow_remote: AllowRemote = False,
    coregister: Coregister = False,
    match_colour: MatchColour = False,
    chunk: ChunkSize = None,
    halo: Halo = None,
    overlap: Overlap = None,
    cluster: Cluster = "auto",
    workers: Workers = None,
    memory: Memory = None,
    device: Device = "auto",
    precision: Precision = "auto",
    compiled: Compiled = False,
    ensemble: Ensemble = None,
    views: Views = 1,
    as_json: Json = False,
) -> None:
    """Check a request, or a region file, and show what it would cost. Writes nothing."""
    from aftermap.cluster.command import run_plan

    raise typer.Exit(run_plan(dict(locals())))


@app.command(
    epilog="Examples:\n\n"
    "aftermap region region.toml --dry-run\n\n"
    "aftermap region region.toml -o out --workers 8\n\n"
    "aftermap region region.toml --scenes 3/16, and when all shares are over: "
    "aftermap region region.toml --finish"
)
def region(
    region: RegionFile,
    out: RegionOut = None,
    cluster: RegionCluster = None,
    workers: Workers = None,
    memory: Memory = None,
    scenes: Scenes = None,
    finish: Finish = False,
    allow_remote: AllowRemote = False,
    fresh: RegionFresh = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Assess many scenes as one run: a table, mosaics, totals per district and a report.

    Run the same command again to go on after an interruption: finished scenes are skipped, failed
    ones tried again. Exit codes: 0 done, 3 refused, 4 done but scenes failed, are missing or have
    chunks set aside, 5 nothing to analyse, 130 interrupted.
    """
    from aftermap.cluster.regions.command import run_region_command

    raise typer.Exit(run_region_command(dict(locals())))


@app.command(
    epilog="Examples:\n\n"
    "aftermap export run --to cems\n\n"
    "aftermap export run --to xbd -o labels\n\n"
    "aftermap export run --to shapefile -o map.zip --overwrite"
)
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="cems, unosat, xbd, fema, coco, geojson, flatgeobuf, pmtiles, shapefile or csv.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="File or folder. Default: RUN-FORMAT beside RUN."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export of the same kind.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a finished run as other tools and agencies want it, and say what that leaves out."""
    from aftermap.cluster.command import run_export

    run_export(run, to, out, overwrite, as_json)


@app.command(epilog="Example:\n\naftermap demo")
def demo(
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for the scene and the run.")
    ] = Path("demo"),
    size: Annotated[int, typer.Option(help="Side of the scene, px.")] = 2048,
    seed: Annotated[int, typer.Option(help="Seed of the scene.")] = 6,
) -> None:
    """Map the damage of a synthetic disaster with the bundled weights and say how right it is."""
    from aftermap.cluster.demo import run_demo

    print(run_demo(out, size=size, seed=seed))


@app.command(
    epilog="Examples:\n\n"
    "aftermap audit run -n 100\n\n"
    "aftermap audit run --answers run/audit/checklist.csv"
)
def audit(
    run: Finished,
    count: Annotated[int, typer.Option("-n", "--count", help="Buildings to draw.")] = 50,
    seed: Annotated[int, typer.Option(help="Same seed, same buildings.")] = 0,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder of the checklist; default RUN/audit.")
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Filled-in checklist to conclude from.")
    ] = None,
) -> None:
    """Draw buildings at random for a person to check; from the answers, correct the totals."""
    from aftermap.cluster.audit import conclude, draw

    print((draw(run, count, seed, out) if answers is None else conclude(run, answers)).text())


@app.command(
    epilog="Examples:\n\n"
    "aftermap submit region.toml --scheduler slurm --walltime 04:00:00 --dry-run\n\n"
    "aftermap submit --job job.toml -- assess before.tif after.tif -o run\n\n"
    "aftermap submit --job job.toml --nodes 2 -- train --data chips -o weights"
)
def submit(
    work: Annotated[
        list[str],
        typer.Argument(
            metavar="REGION.toml | -- COMMAND...",
            help="A region file, or after -- a command that works long, as it would be typed.",
        ),
    ],
    scheduler: Annotated[str | None, typer.Option(help="slurm (default), pbs or lsf.")] = None,
    job: Annotated[
        Path | None, typer.Option(metavar="TOML", help="File with the [job] table of a command.")
    ] = None,
    walltime: Annotated[
        str | None, typer.Option(metavar="HH:MM:SS", help="Longest time of one attempt.")
    ] = None,
    account: Annotated[str | None, typer.Option(help="Account or project that pays.")] = None,
    partition: Annotated[str | None, typer.Option(help="Partition or queue.")] = None,
    nodes: Annotated[int | None, typer.Option(help="Nodes of one job.")] = None,
    array: Annotated[int | None, typer.Option(help="Jobs to share a region's scenes.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the job script; write and submit nothing.")
    ] = False,
) -> None:
    """Run a region, an assessment or a training as a batch job, or print its job script."""
    from aftermap.cluster.submission import submit

    _check_words(work)
    asked = {"walltime": walltime, "account": account, "partition": partition}
    print(submit(work, scheduler, dry_run, job, nodes=nodes, array=array, **asked).text())


@app.command(epilog="Examples:\n\naftermap status run\n\naftermap status region.toml --watch")
def status(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Folder of a run, region, training, gallery, set of chips, search or study, or a region "
            "file.",
        ),
    ],
    watch: Annotated[
        bool, typer.Option("--watch", help="Again every 5 seconds, until nothing runs any more.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say how far the work in a folder is, who works on it, and what was set aside; reads only."""
    from aftermap.cluster.status import run_status

    run_status(run, as_json, watch)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what is installed, which devices there are, and how to get what is missing."""
    from aftermap.cluster.doctor import examine

    print(json.dumps(examine(), indent=2) if as_json else examine().text())


app.add_typer(chips_app)
app.add_typer(xbd_app)
app.add_typer(weights_app, name="weights")
app.add_typer(learning)
app.add_typer(experiments)
app.add_typer(catalog_app, name="catalog")
app.add_typer(learn_app)
app.add_typer(serve_app)


def _check_words(words: list[str]) -> None:
    """Read a command as it would be read in its job, where a typo would be told too late."""
    command = typer.main.get_group(app).commands.get(words[0])
    if command is not None and words[0] != "region":
        command.make_context(words[0], words[1:])


def main() -> None:
    """Run the command line and turn expected failures into words and exit codes."""
    # Of images without a place we say more, in words of our own.
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")
    carry_out(app)
