"""The Kahramanmaras event of 2023 from its real catalog, checked with pandas and geopandas."""

from __future__ import annotations

import time
from datetime import date, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from aftermap.cluster.regions.file import Images
from aftermap.cluster.regions.pairs import find_pairs
from catalogs import ard_box, check_cores
from conftest import REAL

pytestmark = pytest.mark.real
EVENT = REAL / "catalog" / "Kahramanmaras-turkey-earthquake-23"
DAY = date(2023, 2, 6)


@pytest.fixture
def event() -> Path:
    """The real event's GeoJSON; the test is skipped where it is absent."""
    if not EVENT.with_suffix(".geojson").exists():
        pytest.skip(f"the real catalog is not at {EVENT}")
    return EVENT.with_suffix(".geojson")


def test_the_real_event(event: Path) -> None:
    """Counts and choices by pandas and geopandas, from the table and by the rule as documented."""
    start = time.perf_counter()
    pairing = find_pairs(Images(kind="maxar", path=str(event), event_date=DAY, allow_remote=True))
    seconds = time.perf_counter() - start
    print(f"\n{pairing.counts} in {seconds:.1f} s", *pairing.left_out, sep="\n")
    assert seconds < 30

    table = pd.read_csv(event.with_suffix(".tsv"), sep="\t", dtype={"quadkey": str})
    assert not table.duplicated(["utm_zone", "quadkey", "catalog_id"]).any()
    table["place"] = table["utm_zone"].astype(str) + "/" + table["quadkey"]
    table["before"] = pd.to_datetime(table["datetime"], utc=True) < pd.Timestamp(DAY, tz="UTC")
    good = table[(table["tile:clouds_percent"] <= 50) & (table["view:off_nadir"] <= 45)]
    both = set(good[good["before"]]["place"]) & set(good[~good["before"]]["place"])
    assert pairing.counts == {
        "images": 2115,
        "duplicates removed": 0,
        "before": int(table["before"].sum()),
        "after": int((~table["before"]).sum()),
        "before within limits": int(good["before"].sum()),
        "after within limits": int((~good["before"]).sum()),
        "places": good["place"].nunique(),
        "places with both dates": 101,
        "pairs": 101,
    }
    assert (pairing.counts["before"], pairing.counts["after"]) == (229, 1886)
    assert {p.post.place for p in pairing.pairs} == both
    assert {p.scene_id.split("-")[0] for p in pairing.pairs} == {"36", "37"}

    truth = gpd.read_file(event).drop(columns="catalog_id").assign(
        place=table["place"].to_numpy(), before=table["before"].to_numpy(),
        when=pd.to_datetime(table["datetime"], utc=True).to_numpy(),
    )  # fmt: skip
    truth = truth.loc[good.index]
    for pair in pairing.pairs:
        here = truth[truth["place"] == pair.post.place]
        best = _best(here[here["before"]], here[~here["before"]], _cell(str(pair.post.place)))
        assert pair.pre is not None
        assert (pair.pre.href, pair.post.href) == best


@pytest.mark.parametrize("needs_before", [True, False])
def test_the_real_scenes_share_no_ground(event: Path, needs_before: bool) -> None:
    """Without before images there are 971 scenes, and tiles of zones 36 and 37 overlap.

    (Of one more tile, the only image shows less than 25 square metres.)
    """
    pairing = find_pairs(
        Images(kind="maxar", path=str(event), event_date=DAY, allow_remote=True),
        needs_before=needs_before,
    )
    assert len(pairing.pairs) == (101 if needs_before else 971)
    check_cores(pairing)
    cells = gpd.GeoSeries([_cell(str(p.post.place)) for p in pairing.pairs], crs="EPSG:4326")
    cores = gpd.GeoSeries([p.core for p in pairing.pairs], crs="EPSG:4326")
    assert cells.union_all().symmetric_difference(cores.union_all()).area < 1e-12
    if not needs_before:
        areas = shapely.area(cells.to_numpy())
        assert areas.sum() - cells.union_all().area > 5 * areas.mean()
    if needs_before:
        zone = cores[[p.scene_id.startswith("37") for p in pairing.pairs]].to_crs("EPSG:32637")
        assert zone.area.to_numpy() == pytest.approx(25e6, rel=2e-4)


def _cell(place: str) -> shapely.Polygon:
    """A tile's cell by its box's digits and geopandas, corners only."""
    zone, quadkey = place.split("/")
    west, south, east, north = np.add(ard_box(quadkey), [156.25, 156.25, -156.25, -156.25])
    box = gpd.GeoSeries([shapely.box(west, south, east, north)], crs=f"EPSG:326{zone}")
    return box.to_crs("EPSG:4326").iloc[0]


def _best(
    before: gpd.GeoDataFrame, after: gpd.GeoDataFrame, cell: shapely.Polygon
) -> tuple[str, str]:
    """The addresses of the best combination by sorting all of them."""
    every = before.merge(after, how="cross", suffixes=("_pre", "_post"))
    seen = [
        a.intersection(b).intersection(cell).area / cell.area
        for a, b in zip(every["geometry_pre"], every["geometry_post"], strict=True)
    ]
    every = every[np.array(seen) > 0].assign(seen=[share for share in seen if share > 0])
    every["cover"] = -np.floor(every["seen"] * 10 + 1e-6)
    for key, column in (("cloud", "tile:clouds_percent"), ("tilt", "view:off_nadir")):
        every[key] = (every[f"{column}_pre"] + every[f"{column}_post"]) // 10
    every["late"] = datetime(2030, 1, 1) - every["when_pre"].dt.tz_localize(None)
    order = ["cover", "cloud", "tilt", "when_post", "late"]
    first = every.sort_values(order).iloc[0]
    return first["visual_pre"], first["visual_post"]
