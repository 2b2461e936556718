"""The options that several commands share, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT = "fc-siam-diff"
"""The method used when none is named."""

Images = Annotated[
    list[str],
    typer.Argument(
        metavar="[PRE] POST",
        help="Before and after image: each a file, a folder of tiles, or @list.txt with one tile per line; URLs with --allow-remote. Or a folder of photos, with deep-disaster or inception-window.",
    ),
]
Out = Annotated[
    Path,
    typer.Option("-o", "--out", metavar="RUN", help="Run folder; an unfinished run in it goes on."),
]
Method = Annotated[
    str, typer.Option(help="fc-ef, fc-siam-conc, fc-siam-diff, difference or texture.")
]
Weights = Annotated[
    Path | None,
    typer.Option(help="Safetensors file with its card beside it; default: the bundled one."),
]
Fit = Annotated[
    str | None,
    typer.Option(
        metavar="before", help="Of deep-disaster: train it on this scene's before image; no labels."
    ),
]
Teacher = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Teacher for --fit. Default: one that is trained on the same image."
    ),
]
Contamination = Annotated[
    float,
    typer.Option(metavar="SHARE", help="Of what --fit learns from, how much may seem damaged."),
]
Maps = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Of photos with deep-disaster: vanilla-gradient (default), smooth-gradient, guided or "
        "none.",
    ),
]
Footprints = Annotated[
    Path | None, typer.Option(help="Building polygons in any vector format and CRS.")
]
FootprintsOn = Annotated[
    str,
    typer.Option(
        help="Image that the footprints were drawn on, before or after: those of before are moved "
        "by the measured shift."
    ),
]
Aoi = Annotated[Path | None, typer.Option(help="Polygons of the area to analyse, in any CRS.")]
Bbox = Annotated[
    tuple[float, float, float, float] | None,
    typer.Option(metavar="W S E N", help="Area to analyse, degrees (EPSG:4326)."),
]
Grid = Annotated[str, typer.Option(help="Image whose pixels are the analysis grid: post or pre.")]
Resolution = Annotated[
    float | None, typer.Option(metavar="M", help="Resample to square pixels of this many metres.")
]
Bands = Annotated[
    tuple[int, int, int] | None,
    typer.Option(metavar="R G B", help="Bands to read, counted from 1."),
]
Scale = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="LOW HIGH", help="Values that become 0 and 255, for 16-bit and float images."
    ),
]
Crs = Annotated[
    str | None, typer.Option(help="Coordinate system of images that have none, e.g. EPSG:32637.")
]
Gcps = Annotated[
    bool, typer.Option("--gcps", help="Place images by their ground control points or RPCs.")
]
AllowRemote = Annotated[
    bool,
    typer.Option(
        "--allow-remote",
        help="Read images given as http or https URLs (cloud-optimised GeoTIFFs), by range requests.",
    ),
]
Coregister = Annotated[
    bool, typer.Option("--coregister", help="Correct the measured shift between the images.")
]
MatchColour = Annotated[
    bool,
    typer.Option("--match-colour", help="Match the before image's colours to the after image's."),
]
Rule = Annotated[
    str,
    typer.Option(help="How pixels become a building's class: majority, worst, mean, threshold."),
]
DamageThreshold = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help="Damaged share for --rule threshold. Default: 0.5."),
]
Flags = Annotated[
    tuple[float, float],
    typer.Option(
        metavar="LOW HIGH", help="Damage scores of possibly and of likely damaged buildings."
    ),
]
MinArea = Annotated[
    float, typer.Option(metavar="M2", help="Smaller detected buildings are left out.")
]
Regularise = Annotated[
    bool,
    typer.Option("--regularise", help="Draw the outlines of detected buildings right-angled."),
]
ChunkSize = Annotated[
    int | None,
    typer.Option(
        metavar="PX", help="Chunk side; rounded up to whole windows. Default: from memory."
    ),
]
Halo = Annotated[
    int | None, typer.Option(metavar="PX", help="Context around each window. Default: the card's.")
]
Overlap = Annotated[
    int | None,
    typer.Option(
        metavar="PX", help="What neighbouring scored squares have in common. Default: the card's."
    ),
]
Nms = Annotated[
    float,
    typer.Option(
        metavar="SHARE", help="What two detections may have in common; the better one is kept."
    ),
]
NmsRule = Annotated[
    str, typer.Option(help="iou (by score) or malisiewicz (as paper 003's program did).")
]
Gazetteer = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Names that detections get addresses from: an extract of OpenStreetMap, or any vector "
        "file of named streets and places.",
    ),
]
GeocoderName = Annotated[
    str | None,
    typer.Option(
        "--geocoder",
        metavar="NAME[=URL]",
        help="Ask a geocoder on the network for them: nominatim or photon, perhaps your own. Sends it "
        "where detections are.",
    ),
]
Cluster = Annotated[
    str,
    typer.Option(
        help="auto, local, threads, cuda, slurm, pbs, lsf, tcp://host:port or scheduler.json; auto is "
        "local with the GPU if there is one, or cuda where there are several."
    ),
]
Workers = Annotated[
    int | None, typer.Option(help="Workers to start. Default: one per core or GPU.")
]
Memory = Annotated[
    str | None, typer.Option(metavar="4GiB", help="Memory per worker. Default: an even share.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Precision = Annotated[
    str, typer.Option(help="auto, fp32 or bf16; auto is what the weights' card measured as safe.")
]
Compiled = Annotated[
    bool, typer.Option("--compile", help="Let torch.compile rewrite the network: faster on a GPU.")
]
Ensemble = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE", help="Further weights, averaged with those of --weights; may be repeated."
    ),
]
Views = Annotated[
    int,
    typer.Option(help="Look at each window 4 (flips) or 8 ways (turns too), and take the mean."),
]
HashInputs = Annotated[
    bool, typer.Option("--hash-inputs", help="Record the SHA-256 of whole input files.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and show the plan; write nothing.")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Throw away an earlier run in the folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Finished = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")]
RegionFile = Annotated[
    Path, typer.Argument(metavar="REGION.TOML", help="Which images, assessed how, on what.")
]
RegionCluster = Annotated[
    str | None, typer.Option(help="As for assess. Default: what the file says.")
]
RegionOut = Annotated[
    Path | None,
    typer.Option("-o", "--out", metavar="OUT", help="Region folder. Default: the file's."),
]
RegionFresh = Annotated[
    bool,
    typer.Option("--fresh", help="Start over the scenes whose images or options have changed."),
]
Scenes = Annotated[
    str | None,
    typer.Option(
        metavar="I/N", help="Every N-th scene from the I-th on, and no merging: for job arrays."
    ),
]
Finish = Annotated[
    bool, typer.Option("--finish", help="Merge what is there, and say what is missing.")
]
CatalogFolder = Annotated[
    Path,
    typer.Option(
        "--catalog", metavar="DIR", envvar="AFTERMAP_CATALOG", help="Folder of the catalog."
    ),
]
Database = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="AFTERMAP_DATABASE",
        help="postgresql://user@host/name. Default: a file in the catalog's folder.",
    ),
]
