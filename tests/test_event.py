"""The Kahramanmaraş event: the real catalog and the real footprints of its images, painted pixels."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import shapely
from aftermap.cluster.regions.file import Images
from aftermap.cluster.regions.pairs import find_pairs
from aftermap.cluster.regions.region import run_region
from event import write_event

CATALOG = (
    Path(__file__).parents[2] / "shared/data/catalog/Kahramanmaras-turkey-earthquake-23.geojson"
)
DAY = date(2023, 2, 6)
KILIS = (36.93, 36.53, 37.06, 36.68)
"""Part of the event; AFTERMAP_EVENT=all takes all of it."""

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(not CATALOG.exists(), reason=f"{CATALOG} is not here"),
]


def test_every_building_of_the_event_is_told_once(tmp_path: Path) -> None:
    bbox = None if os.environ.get("AFTERMAP_EVENT") == "all" else KILIS
    options = {"kind": "maxar", "path": str(CATALOG), "event_date": DAY, "bbox": bbox}
    pairing = find_pairs(Images(**options, allow_remote=True))
    print(pairing.counts)
    truth = write_event(pairing, tmp_path / "copies", tmp_path / "footprints.gpkg")
    region = tmp_path / "region.toml"
    region.write_text(
        f'[images]\nkind = "maxar"\npath = "{CATALOG}"\nevent_date = {DAY}\nroot = "copies"\n'
        + (f"bbox = {list(bbox)}\n" if bbox else "")
        + '[assess]\nmethod = "difference"\nfootprints = "footprints.gpkg"\n'
        + '[cluster]\nkind = "threads"\n'
    )
    run = run_region(region)
    assert run.counts["done"] + run.counts.get("nothing", 0) == len(pairing.pairs)
    found = run.buildings
    assert found["source_id"].is_unique
    assert found["building_id"].is_unique

    scenes = {pair.scene_id: pair for pair in pairing.pairs}
    assert set(found["scene_id"]) <= set(scenes)
    truth = truth.set_index("id")
    shapes = truth.geometry.to_numpy()
    held = [shapely.contains_properly(pair.core, shapes) for pair in scenes.values()]
    shown = [shapely.contains_properly(pair.post.outline, shapes) for pair in scenes.values()]
    assert np.sum(held, axis=0).max() == 1  # no building lies within two cores
    must = np.any(np.logical_and(held, shown), axis=0)
    assert set(truth.index[must]) <= set(found["source_id"])

    found = found.set_index("source_id")
    houses = truth.loc[found.index]
    asked = shapely.box(*(bbox or (-180, -90, 180, 90)))
    share, meets = np.zeros(len(found)), np.zeros(len(found), bool)
    for scene_id, pair in scenes.items():
        mine = (found["scene_id"] == scene_id).to_numpy()
        here = houses.geometry.to_numpy()[mine]
        assert pair.pre is not None
        seen = shapely.intersection(pair.pre.outline, pair.post.outline)
        seen = shapely.intersection(seen, asked)
        share[mine] = shapely.area(shapely.intersection(here, seen)) / shapely.area(here)
        meets[mine] = shapely.intersects(pair.core, here)
    assert meets.all()
    unseen = (found["damage_class"] == 255).to_numpy()
    assert not unseen[share > 0.8].any()
    assert unseen[share < 0.2].all()
    right = ((found["damage_class"] == 5) == houses["destroyed"]).to_numpy()
    assert right[share > 0.95].mean() > 0.95
    print(
        f"{len(found)} buildings, {unseen.sum()} not seen, {right[share > 0.95].mean():.3f} right"
    )
