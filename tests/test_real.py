"""Real imagery: two coordinate systems, drone mosaics, offset grids. Skipped where it is absent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from aftermap.cluster.client import connected
from aftermap.models.checkpoint import bundled
from aftermap.scenes.errors import Refused
from aftermap.scenes.pair import make_pair
from distributed import Client
from exactextract import exact_extract
from sklearn.metrics import roc_auc_score

import aftermap as am

pytestmark = pytest.mark.real
METHODS = ("fc-siam-diff", "difference", "texture")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with connected("local", workers=2, memory="6GiB") as client:
        yield client


@pytest.fixture(autouse=True)
def _weights() -> None:
    assert bundled("fc-siam-diff") is not None


def check_run(run: am.Run) -> None:
    """A run folder is complete and tells the analysed from the rest."""
    assert run.record["state"] == "done"
    with rasterio.open(run.path / "damage.tif") as damage:
        assert damage.nodata == 255
        assert set(np.unique(damage.read(1))) <= {0, 1, 2, 3, 4, 5, 255}
    assert run.report.stat().st_size < 20e6


@pytest.mark.parametrize("method", METHODS)
def test_joplin_in_two_coordinate_systems(
    real: Path, tmp_path: Path, client: Client, method: str
) -> None:
    """The tornado of 2011; the reference classes were predicted by another model, and are not truth."""
    reference = real / "joplin_west_damage_predicted.geojson"
    run = am.assess(
        real / "joplin_west_pre.tif",
        real / "joplin_west_post.tif",
        out=tmp_path / "run",
        method=method,
        client=client,
        footprints=reference,
    )
    check_run(run)
    truth = gpd.read_file(reference)["dmg"]
    table = run.buildings
    table["truth"] = truth.loc[table["building_id"].astype(int)].to_numpy()
    seen = table[table["damage_class"] != 255]
    auc = roc_auc_score(seen["truth"] >= 3, seen["damage_score"])
    found = seen["damage_class"].isin([2, 3, 4, 5])
    print(
        f"\nJoplin west, {method}: building AUC {auc:.3f} over {len(seen)} buildings; "
        f"calls damaged {found[seen.truth >= 3].mean():.0%} of classes 3-4 "
        f"and {found[seen.truth <= 2].mean():.0%} of classes 1-2"
    )
    assert auc > 0.5
    assert run.record["shift"]["tiles"] > 10


@pytest.mark.parametrize("footprints", [None, "joplin_west_footprints.geojson"])
def test_joplin_gives_buildings_with_and_without_footprints(
    real: Path, tmp_path: Path, client: Client, footprints: str | None
) -> None:
    run = am.assess(
        real / "joplin_west_pre.tif",
        real / "joplin_west_post.tif",
        out=tmp_path / "run",
        client=client,
        footprints=real / footprints if footprints else None,
    )
    check_run(run)
    print(
        f"\nJoplin west, footprints {footprints}:",
        run.buildings["damage_class"].value_counts().to_dict(),
    )
    assert len(run.buildings) > 20
    assert run.buildings.geometry.is_valid.all()
    # The before image covers about nine tenths of the after image.
    assert (run.layers["damage"].values == 255).mean() == pytest.approx(0.03, abs=0.05)


def test_zanzibar_is_refused_at_seven_centimetres_and_undamaged_against_itself(
    real: Path, tmp_path: Path, client: Client
) -> None:
    image = real / "zanzibar_0.tif"
    with pytest.raises(Refused, match="--resolution"):
        am.assess(image, image, out=tmp_path / "run", client=client)
    run = am.assess(
        image,
        image,
        out=tmp_path / "run",
        resolution=0.5,
        client=client,
        footprints=real / "zanzibar_0_footprints.geojson",
    )
    check_run(run)
    counts = run.buildings["damage_class"].value_counts()
    print("\nZanzibar against itself:", counts.to_dict())
    assert counts.reindex([2, 3, 4], fill_value=0).sum() <= 0.02 * len(run.buildings)
    assert np.isin(run.layers["damage"].values, [2, 3, 4]).mean() < 0.002
    shift = run.record["shift"]
    assert (shift["rows_px"], shift["cols_px"]) == (0, 0)


@pytest.mark.parametrize("name", ["nairobi_1", "kampala_1", "banepa_1", "catanduanes_0"])
def test_mapped_buildings_of_drone_mosaics_come_out_once_each_with_their_class(
    name: str, real: Path, tmp_path: Path, client: Client
) -> None:
    image, given = real / f"{name}.tif", real / f"{name}_footprints.geojson"
    run = am.assess(image, image, tmp_path / "run", resolution=0.5, client=client, footprints=given)
    check_run(run)
    buildings = run.buildings
    with rasterio.open(run.path / "damage.tif") as source:
        frame = shapely.box(*source.bounds)
    mapped = gpd.read_file(given).to_crs(buildings.crs)
    inside = mapped.geometry.intersects(frame)
    assert len(buildings) == inside.sum()
    assert buildings["building_id"].is_unique
    assert buildings["building_id"].astype(int).tolist() == np.flatnonzero(inside).tolist()
    # An independent count of the same pixels; away from the frame, as its share outside is 255.
    whole = buildings[buildings.within(frame) & (buildings["damage_class"] != 255)]
    counted = exact_extract(run.path / "damage.tif", whole, ["unique", "frac"])
    same = []
    for row, ours in zip(counted, whole["damage_class"], strict=True):
        shares = dict(zip(row["properties"]["unique"], row["properties"]["frac"], strict=True))
        shares.pop(0, None)
        if shares:
            same.append(max(shares, key=lambda code: shares[code]) == ours)
    damaged = buildings["damage_class"].isin([2, 3, 4]).sum()
    print(
        f"\n{name} against itself: {buildings['damage_class'].value_counts().to_dict()}; "
        f"{np.mean(same):.1%} of {len(same)} classes as exactextract has them"
    )
    assert damaged <= max(1, 0.03 * len(buildings))
    assert np.mean(same) > 0.95 if same else len(whole) < 5


def test_naip_grids_are_aligned_and_bands_must_be_named(
    real: Path, tmp_path: Path, client: Client
) -> None:
    files = real / "naip_2009.tif", real / "naip_2019.tif"
    with pytest.raises(Refused, match="--bands"):
        am.assess(*files, out=tmp_path / "run", method="difference", client=client)
    run = am.assess(
        *files, out=tmp_path / "run", method="difference", bands=(1, 2, 3), client=client
    )
    check_run(run)
    with rasterio.open(files[1]) as post, rasterio.open(run.path / "damage.tif") as damage:
        assert (damage.shape, damage.transform, damage.crs) == (
            post.shape,
            post.transform,
            post.crs,
        )
    print("\nNAIP 2009 to 2019, shift:", run.record["shift"])
    three = make_pair(files[0], real / "naip_2017.tif", bands=(1, 2, 3))
    assert three.read(0, 0, 500, 500).valid.mean() > 0.9


def test_sixteen_bits_and_floats_need_a_scale(real: Path) -> None:
    pan = real / "spacenet_pan_u16.tif"
    with pytest.raises(Refused, match="--bands 1 1 1"):
        make_pair(None, pan)
    pair = make_pair(None, pan, bands=(1, 1, 1), scale=(0, 2047))
    pixels = pair.read(0, 0, 900, 900)
    assert pixels.post.dtype == np.uint8
    assert 10 < pixels.post[:, pixels.valid].mean() < 200
    spectral = make_pair(None, real / "spacenet_ms_f64.tif", bands=(3, 2, 1), scale=(0, 2000))
    assert spectral.read(0, 0, 300, 300).post.std() > 1
