"""Deep-Disaster fitted to the image before: how well its anomalies tell damage, beside trivial scores.

    python benchmarks/fit_before.py OUT --synthetic 7 8 9 [--teacher FILE]
    python benchmarks/fit_before.py OUT --joplin ../shared/data/imagery [--teacher FILE]

assesses each pair with --fit before, and takes the area under the ROC curve over squares of 64 px: those of
which damage covers a twentieth or more against those without any. On synthetic scenes damage is exact;
on Joplin it is what another network predicted, a reference of silver. Run again it goes on.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import rasterio.features
import torch
from aftermap.cluster.assess import assess
from aftermap.models.batches import normalised
from aftermap.models.checkpoint import load
from aftermap.models.deep_disaster import DeepDisaster
from aftermap.models.distillation import OMEGA
from aftermap.models.roc import auc
from aftermap.scenes.pair import Pair, make_pair
from aftermap.scenes.synth import Synth
from aftermap.scenes.synth import write as write_scene
from PIL import Image

SIDE = 64
LEAST = 0.05
"""Share of a square that damage covers in what counts as damaged."""


@dataclass(frozen=True)
class Case:
    """A pair, and where damage is on its grid."""

    name: str
    pre: Path
    post: Path
    damaged: np.ndarray
    """bool (h, w) on the after image's grid."""

    @classmethod
    def synthetic(cls, folder: Path, seed: int) -> Case:
        """A scene of 1,024 px with exact truth."""
        scene = write_scene(folder / f"scene-{seed}", Synth(size=1024, seed=seed))
        with rasterio.open(scene.truth) as source:
            codes = source.read(1)
        return cls(f"synthetic {seed}", scene.pre, scene.post, np.isin(codes, (2, 3, 4)))

    @classmethod
    def joplin(cls, data: Path) -> Case:
        """The tornado's western part, with the predicted levels 2 to 4."""
        post = data / "joplin_west_post.tif"
        with rasterio.open(post) as source:
            shapes = gpd.read_file(data / "joplin_west_damage_predicted.geojson").to_crs(source.crs)
            found = rasterio.features.rasterize(
                [(shape, 1) for shape in shapes[shapes.dmg >= 2].geometry],
                source.shape, transform=source.transform, dtype="uint8",
            )  # fmt: skip
        return cls("Joplin west", data / "joplin_west_pre.tif", post, found > 0)


def measured(case: Case, out: Path, teacher: Path | None) -> dict[str, float]:
    """Areas under the curve of the anomaly, and of scores that need no training."""
    run = assess(case.pre, case.post, out, "deep-disaster", fit="before", teacher=teacher)
    with rasterio.open(out / "anomaly_score.tif") as source:
        scores = source.read(1).astype(float)
    share = squares(case.damaged.astype(float))
    known = (scores != 255) & ((share >= LEAST) | (share == 0))
    truth = share >= LEAST
    pair = make_pair(case.pre, case.post)
    trivial = {name: squares(image) for name, image in differences(pair).items()}
    _picture(case, scores, truth, run.path / "anomaly.png")
    before, after = terms(out.with_name(f"{out.name}-student") / "deep-disaster.safetensors", pair)
    alone = dict(
        zip(("L alone", "R alone", "V and D alone"), np.moveaxis(after, -1, 0), strict=True)
    )
    printed = {
        "eq. 9 as printed": after @ np.array(OMEGA),
        "after over before": (after / before) @ np.array(OMEGA),
    }
    told = {"anomaly": scores, **printed, **alone, **trivial}
    found = {name: auc(value[known], truth[known]) or 0.0 for name, value in told.items()}
    return found | {"squares": float(known.sum()), "damaged": float((known & truth).sum())}


@torch.inference_mode()
def terms(weights: Path, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """The terms of equation 9 of each square, (rows, columns, 3), before and after."""
    network, card = load(weights)
    assert isinstance(network, DeepDisaster)
    pre, post, _ = pair.read(0, 0, *pair.grid.shape)
    found = []
    for image in (pre, post):
        cut = cells(image)
        flat = torch.from_numpy(cut.reshape(-1, *cut.shape[2:]).copy())
        parts = [network.terms(normalised(part, card.mean, card.std)) for part in flat.split(64)]
        found.append(torch.cat(parts).numpy().reshape(*cut.shape[:2], 3))
    return found[0], found[1]


def differences(pair: Pair) -> dict[str, np.ndarray]:
    """What can be said of each pixel without learning: how far the images differ."""
    pre, post, valid = pair.read(0, 0, *pair.grid.shape)
    apart = np.abs(pre.astype(float) - post.astype(float)).mean(axis=0) * valid
    grey = [image.mean(axis=0) for image in (pre, post)]
    rough = [np.hypot(*np.gradient(image)) for image in grey]
    return {"mean absolute difference": apart, "change of roughness": rough[1] - rough[0], "roughness after": rough[1]}  # fmt: skip


def squares(image: np.ndarray) -> np.ndarray:
    """Means over squares."""
    return cells(image).mean(axis=(2, 3))


def cells(image: np.ndarray) -> np.ndarray:
    """The squares of an image (..., h, w), the last ones of a row or column moved inwards.

    (rows, columns, ..., side, side).
    """
    starts = [np.minimum(np.arange(0, n, SIDE), max(n - SIDE, 0)) for n in image.shape[-2:]]
    return np.array(
        [[image[..., r : r + SIDE, c : c + SIDE] for c in starts[1]] for r in starts[0]]
    )


def _picture(case: Case, scores: np.ndarray, truth: np.ndarray, path: Path) -> None:
    """The image after, the anomaly and the damaged squares side by side."""
    with rasterio.open(case.post) as source:
        after = source.read((1, 2, 3)).transpose(1, 2, 0)
    height, width = after.shape[:2]
    heat = np.where(scores == 255, 0, scores)
    heat = (255 * (heat - heat.min()) / max(np.ptp(heat), 1)).astype(np.uint8)
    panels = [after]
    for cells in (heat, truth.astype(np.uint8) * 255):
        large = cells.repeat(SIDE, 0).repeat(SIDE, 1)[:height, :width]
        panels.append(np.stack([large, after[..., 1] // 2, 255 - large], axis=-1))
    Image.fromarray(np.concatenate(panels, axis=1)).resize((3 * width // 2, height // 2)).save(path)


def main() -> None:
    """Measure the cases asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--synthetic", type=int, nargs="*", default=[])
    parser.add_argument("--joplin", type=Path)
    parser.add_argument("--teacher", type=Path)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cases = [Case.synthetic(asked.out, seed) for seed in asked.synthetic]
    cases += [Case.joplin(asked.joplin)] if asked.joplin else []
    for case in cases:
        folder = asked.out / case.name.replace(" ", "-")
        print(
            case.name,
            json.dumps({k: round(v, 3) for k, v in measured(case, folder, asked.teacher).items()}),
        )


if __name__ == "__main__":
    main()
