"""Runs over the wire: buildings in pixels, reviews and their counts, and what is let pass."""

from __future__ import annotations

import io
import json
import uuid
from pathlib import Path
from typing import Any

import geopandas as gpd
import httpx
import numpy as np
import pandas as pd
import pytest
import shapely
from aftermap.cluster.catalog.buildings import Wanted, open_buildings
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.runs import add_run
from aftermap.cluster.catalog.tables import Run
from aftermap.scenes.errors import Refused
from runs import CORNER, GSD, areas, buildings, finished_run
from web_made import Site


def _review(
    site: Site, building: str, verdict: str | None, name: str = "reviewer", **more: Any
) -> httpx.Response:
    said = {"id": str(uuid.uuid4()), "building_id": building, "verdict": verdict}
    return site.as_(name).post(f"/runs/{site.run}/reviews", json=said | more)


def _found(site: Site, **wanted: Any) -> list[dict[str, Any]]:
    answer = site.as_("viewer").get(f"/runs/{site.run}/buildings", params=wanted)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["features"]
    return found


def _by_hand() -> gpd.GeoSeries:
    """The run's outlines in pixels: columns to the right, rows downwards."""
    return buildings().geometry.apply(
        lambda shape: shapely.transform(
            shape,
            lambda xy: np.column_stack(
                [(xy[:, 0] - CORNER[0]) / GSD, (CORNER[1] - xy[:, 1]) / GSD]
            ),
        )
    )


def test_a_run_says_what_it_is(site: Site) -> None:
    (run,) = site.as_("viewer").get("/runs").json()
    assert (run["scene"], run["scene_name"]) == (site.pair, "post_20230208.tif")
    assert (run["table"], run["graded"], run["path_name"]) == ("buildings", True, "run")
    assert run["bounds_px"] == [0, 0, 2500, 1500]
    assert run["problem"] is None


def test_buildings_are_told_in_pixels(site: Site) -> None:
    found = _found(site)
    assert [one["id"] for one in found] == buildings()["building_id"].tolist()
    for one, shape in zip(found, _by_hand(), strict=True):
        assert shapely.geometry.shape(one["geometry"]).equals_exact(shape.normalize(), 0.02) or (
            shapely.geometry.shape(one["geometry"]).symmetric_difference(shape).area < 1
        )
    first = found[0]["properties"]
    assert (first["damage_class"], first["p_none"], first["review"]) == (1, 0.7, None)
    assert found[5]["properties"]["damage_score"] is None  # not analysed
    inside = buildings().to_crs("EPSG:4326").geometry
    for one, shape in zip(found, inside, strict=True):
        assert shape.buffer(1e-7).contains(
            shapely.Point(one["properties"]["lon"], one["properties"]["lat"])
        )


@pytest.mark.parametrize("seed", range(8))
def test_buildings_of_a_place(site: Site, seed: int) -> None:
    x0, y0 = np.random.default_rng(seed).uniform(0, [2500, 1500])
    box = {"x0": x0 - 300, "y0": y0 - 300, "x1": x0 + 300, "y1": y0 + 300}
    bounds = _by_hand().bounds
    hit = (
        (bounds.minx <= box["x1"])
        & (bounds.maxx >= box["x0"])
        & (bounds.miny <= box["y1"])
        & (bounds.maxy >= box["y0"])
    )
    assert [one["id"] for one in _found(site, **box)] == buildings()["building_id"][hit].tolist()


def test_buildings_of_a_class_and_score(site: Site) -> None:
    codes = [one["properties"]["damage_class"] for one in _found(site, classes="3,4")]
    assert codes == [3, 4]
    scores = [one["properties"]["damage_score"] for one in _found(site, least_score=0.6)]
    assert scores == [0.6, 0.8, 1.0]
    answer = site.as_("viewer").get(f"/runs/{site.run}/buildings", params={"limit": 2}).json()
    assert (len(answer["features"]), answer["more"]) == (2, True)


@pytest.mark.parametrize(
    "wanted",
    [
        "x0=1",
        "x0=9&y0=0&x1=1&y1=5",
        "classes=a",
        "least_score=2",
        "reviewed=perhaps",
        "limit=0",
        "limit=1000000",
        "x0=nan&y0=0&x1=1&y1=5",
    ],
)
def test_what_cannot_be_asked_is_told_in_words(site: Site, wanted: str) -> None:
    answer = site.as_("viewer").get(f"/runs/{site.run}/buildings?{wanted}")
    assert (answer.status_code, answer.json()["code"]) == (400, 400)


def test_reviews_are_counted_told_and_let_pass(site: Site) -> None:
    ids = buildings()["building_id"].tolist()
    accepted = _review(site, ids[0], "accepted")
    assert (accepted.status_code, accepted.json()["number"], accepted.json()["predicted"]) == (
        201,
        1,
        1,
    )
    assert _review(site, ids[1], "corrected", damage_class=4).status_code == 201
    assert _review(site, ids[2], "rejected").status_code == 201
    assert _review(site, ids[3], "accepted").status_code == 201
    assert _review(site, ids[3], None, after=1).status_code == 201  # taken back

    late = _review(site, ids[0], "rejected", name="admin")
    assert late.status_code == 409
    assert "reviewer said accepted" in late.json()["error"]
    assert _review(site, "nowhere", "accepted").status_code == 404
    assert _review(site, ids[4], "corrected", damage_class=0).status_code == 400

    counts = site.as_("viewer").get(f"/runs/{site.run}/counts").json()
    assert counts["buildings"] == 6
    assert counts["by_class"] == {"1": 1, "2": 1, "3": 1, "4": 1, "5": 1, "255": 1}
    assert counts["reviewed"] == {"accepted": 1, "corrected": 1, "rejected": 1}
    assert counts["now"] == {"1": 1, "4": 2, "5": 1, "255": 1}
    assert [one["id"] for one in _found(site, reviewed="yes")] == ids[:3]
    assert [one["id"] for one in _found(site, reviewed="no")] == ids[3:]
    assert _found(site)[1]["properties"]["review"]["damage_class"] == 4
    assert site.as_("viewer").get("/runs").json()[0]["reviewed"] == 3

    for form in ("gpkg", "geojson", "csv"):
        answer = site.as_("viewer").get(f"/runs/{site.run}/accepted", params={"format": form})
        assert answer.status_code == 200, answer.text
        read = pd.read_csv if form == "csv" else gpd.read_file
        rows = read(io.BytesIO(answer.content))
        assert rows["building_id"].tolist() == ids[:2]
        assert rows["reviewed_class"].tolist() == [1, 4]
        assert rows["damage_class"].tolist() == [1, 2]
        assert rows["verdict"].tolist() == ["accepted", "corrected"]
        assert rows["reviewer"].tolist() == ["reviewer"] * 2
        assert pd.to_datetime(rows["reviewed_at"]).notna().all()


def test_the_next_building_to_review(site: Site) -> None:
    """Runs after the reviews above where those were made; each is one that nobody has reviewed."""
    viewer, address = site.as_("viewer"), f"/runs/{site.run}/buildings/next"
    free = [one["id"] for one in _found(site, reviewed="no")]
    seen, after = [], None
    for _ in free:
        after = viewer.get(
            address, params={"order": "id"} | ({"after": after} if after else {})
        ).json()["id"]
        seen.append(after)
    assert seen == free
    assert viewer.get(address, params={"order": "id", "after": after}).json()["id"] == free[0]
    first = viewer.get(address).json()["id"]
    scores = {one["id"]: one["properties"] for one in _found(site, reviewed="no")}
    best = {
        name: max(p["p_none"] or 0, p["p_minor"] or 0, p["p_major"] or 0, p["p_destroyed"] or 0) or max(p["damage_score"] or 1, 1 - (p["damage_score"] or 1))
        for name, p in scores.items()
    }  # fmt: skip
    assert best[first] == min(best.values())


def test_runs_that_do_not_exist(site: Site) -> None:
    for path in ("buildings", "buildings/next", "counts", "accepted"):
        assert site.as_("viewer").get(f"/runs/77/{path}").status_code == 404
        assert site.as_("viewer").get(f"/runs/{'9' * 20}/{path}").status_code == 400


@pytest.mark.parametrize("what", ["no raster", "other raster", "no method", "no JSON"])
def test_a_broken_run_does_not_hide_the_others(site: Site, tmp_path: Path, what: str) -> None:
    folder = finished_run(tmp_path / "broken", areas(2))
    record = folder / "run.json"
    facts = json.loads(record.read_text()) | {"run_id": uuid.uuid4().hex}
    record.write_text(json.dumps(facts))
    number = add_run(site.catalog, folder)[0].id
    if what == "no raster":
        (folder / "damage.tif").unlink()
    elif what == "other raster":
        (folder / "damage.tif").write_bytes(b"II*\0" + bytes(100))
    elif what == "no method":
        del facts["method"]
        record.write_text(json.dumps(facts))
    else:
        record.write_text("{")
    listed = site.as_("viewer").get("/runs")
    assert listed.status_code == 200, listed.text
    told = {run["id"]: run["problem"] for run in listed.json()}
    assert told[site.run] is None
    assert "broken" in told[number]
    answer = site.as_("viewer").get(f"/runs/{number}/buildings")
    assert answer.status_code == 400, answer.text
    with site.catalog.writing() as session:
        session.delete(session.get_one(Run, number))


def test_damage_areas_are_reviewed_as_buildings_are(tmp_path: Any) -> None:
    catalog = Catalog.open(tmp_path / "catalog", create=True)
    run = add_run(catalog, finished_run(tmp_path / "areas", found=areas(4)))[0]
    table = open_buildings(catalog, run, None)
    found = table.find(Wanted(box=(150, 90, 230, 130)), 10)
    assert table.key == "area_id"
    assert found["area_id"].tolist() == ["post-r1c0", "post-r2c0"] or len(found) == 2
    assert len(table.ids("uncertain")) == 4
    catalog.close()


def test_another_run_in_its_folder_is_not_shown(tmp_path: Any) -> None:
    catalog = Catalog.open(tmp_path / "catalog", create=True)
    run = add_run(catalog, finished_run(tmp_path / "run", buildings()))[0]
    run.run_id = "f" * 16
    with pytest.raises(Refused, match="another run now"):
        open_buildings(catalog, run, None)
    catalog.close()
