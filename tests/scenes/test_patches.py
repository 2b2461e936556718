"""Patches and the ground they show: neighbours of Maxar's grid, other zones, grids that do not fit."""

from __future__ import annotations

import pickle
from collections import Counter
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine
from aftermap.scenes.ard import ArdCell
from aftermap.scenes.catalog_maxar import read_maxar
from aftermap.scenes.patches import PatchGrid, ard_grid, share_grounds, whole_tile
from aftermap.scenes.reading import Reading
from aftermap.scenes.sift import by_event, without_duplicates
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

WEST, EAST = ArdCell(37, "031133012312"), ArdCell(37, "031133012313")
SOUTH = ArdCell(37, "031133012330")
EVENT = date(2023, 2, 6)


def grid_at(
    x: float, y: float, rows: int, cols: int, step: float = 1.0, size: int = 4
) -> PatchGrid:
    affine = Affine(step, 0, 300_000 + x, 0, -step, 4_100_000 - y)
    return PatchGrid(GeoBox((rows, cols), affine, "EPSG:32637"), size)


def test_an_ard_tile_has_17_by_17_patches() -> None:
    tile = PatchGrid(ard_grid(WEST), 1024)
    assert (tile.rows, tile.cols, len(tile)) == (17, 17, 289)
    assert tile.window(17 * 3 + 5) == (3072, 5120, 4096, 6144)
    west, south, east, north = tile.box(17 * 3 + 5)
    assert (east - west, north - south) == (312.5, 312.5)
    assert tile.crs == "EPSG:32637"
    assert tile.patch(20).extent.boundingbox.bbox == pytest.approx(tile.box(20))


def test_what_is_sent_to_workers_stays_small() -> None:
    tile = PatchGrid(ard_grid(WEST), 64)
    assert len(tile.boxes) == 272**2
    sent = pickle.dumps(tile)
    assert len(sent) < 10_000
    np.testing.assert_array_equal(pickle.loads(sent).boxes, tile.boxes)


def test_the_last_column_is_the_neighbours_first() -> None:
    grids = [PatchGrid(ard_grid(cell), 1024) for cell in (WEST, EAST, SOUTH)]
    shared = share_grounds(grids)
    west, east, south = (of.reshape(17, 17) for of in shared.of)
    np.testing.assert_array_equal(west[:, 16], east[:, 0])
    np.testing.assert_array_equal(west[16], south[0])
    assert shared.repeated == 17 + 17
    assert shared.overlapping == 0
    assert len(shared.owners) == 3 * 289 - 34


def test_at_another_size_neighbours_overlap_in_part() -> None:
    shared = share_grounds([PatchGrid(ard_grid(cell), 1000) for cell in (WEST, EAST)])
    assert shared.repeated == 0
    assert shared.overlapping == 17
    assert (shared.of[1].reshape(17, 17)[:, 0] == -1).all()


def test_another_zone_shows_the_same_ground() -> None:
    """A patch over the seam of two zones: the later one is left out, whatever its CRS."""
    here = PatchGrid(GeoBox((64, 64), Affine(10, 0, 230_000, 0, -10, 4e6), "EPSG:32637"), 32)
    middle = here.grid.extent.to_crs("EPSG:32636").boundingbox
    affine = Affine(10, 0, middle.left + 320, 0, -10, middle.top)
    there = PatchGrid(GeoBox((64, 192), affine, "EPSG:32636"), 32)
    shared = share_grounds([here, there])
    kept = np.flatnonzero(shared.of[1] >= 0)
    assert shared.overlapping == len(there) - len(kept) > 0
    ground = here.grid.extent.to_crs("EPSG:32636").geom
    inside = shapely.area(shapely.intersection(shapely.box(*there.boxes[kept].T), ground))
    assert inside.max(initial=0) < 1.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-8, 8), st.integers(-8, 8), st.integers(4, 12), st.integers(4, 12),
            st.sampled_from([1.0, 0.5]),
        ),
        min_size=1, max_size=5,
    )
)  # fmt: skip
def test_no_two_grounds_overlap_and_none_is_needlessly_left_out(
    layouts: list[tuple[int, int, int, int, float]],
) -> None:
    grids = [grid_at(*layout) for layout in layouts]
    shared = share_grounds(grids)
    boxes = shapely.box(*np.array([grids[g].box(i) for g, i in shared.owners]).T)
    one, other = shapely.STRtree(boxes).query(boxes, predicate="intersects")
    apart = one < other
    assert shapely.area(shapely.intersection(boxes[one[apart]], boxes[other[apart]])).sum() < 1e-6
    taken: list[shapely.Geometry] = []
    for grid, of in zip(grids, shared.of, strict=True):
        new = []
        for index, ground in enumerate(of):
            box = shapely.box(*grid.box(index))
            if ground < 0:
                assert any(box.intersection(other).area > 0 for other in taken)
            else:
                assert shapely.equals(box.normalize(), boxes[ground].normalize())
                new.append(box)
        taken += new


def test_an_image_that_shows_a_part_of_its_tile_is_cut_as_the_tile() -> None:
    tile = ard_grid(WEST)
    assert whole_tile(tile[5000:9000, 3000:17_408], WEST) == tile
    assert whole_tile(tile, WEST) == tile
    off = GeoBox(tile.shape, tile.affine * Affine.translation(0.4, 0), tile.crs)
    assert whole_tile(off, WEST) == off


def test_wanted_patches_only() -> None:
    tile = PatchGrid(ard_grid(WEST), 1024)
    corner = tile.patch(0).geographic_extent.geom.centroid.buffer(1e-4)
    wanted = tile.touching(corner)
    assert wanted.sum() == 1
    shared = share_grounds([tile], [wanted])
    assert shared.owners == ((0, 0),)
    assert shared.overlapping == 0


@pytest.mark.real
def test_the_events_patches(real: Path) -> None:
    """All 289 patches of all images: how many show what a neighbouring tile shows as well."""
    catalog = real.parent / "catalog" / "Kahramanmaras-turkey-earthquake-23.geojson"
    reading = Reading("visual", EVENT)
    assert read_maxar(catalog, reading)
    images, dropped = without_duplicates(reading.images)
    befores, afters = by_event(images, EVENT, reading.left_out)
    assert (len(images), dropped, len(befores), len(afters)) == (2115, 0, 229, 1886)
    before, after = ({image.place for image in group} for group in (befores, afters))
    assert len(before & after) == 101
    places = sorted(before | after, key=lambda place: (place not in before & after, place))
    assert len(places) == 1054
    tiles = [ArdCell.of(str(place)) for place in places]
    shared = share_grounds([PatchGrid(ard_grid(cell), 1024) for cell in tiles if cell])
    assert (len(shared.owners), shared.repeated, shared.overlapping) == (271_435, 30_693, 2_478)
    grounds = dict(zip(places, shared.of, strict=True))
    shown = Counter(
        (ground, image.name)
        for image in images
        for ground in grounds[str(image.place)].tolist()
        if ground >= 0
    )
    cut = sum(shown.values())
    assert (289 * len(images), 289 * len(images) - cut, cut - len(shown)) == (
        611_235,
        3_739,
        56_313,
    )
