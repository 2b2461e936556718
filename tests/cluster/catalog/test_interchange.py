"""Tags that leave the catalog in a format of others and come back are the same tags."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.imagery import About, add_images
from aftermap.cluster.catalog.interchange.exporting import export_tags
from aftermap.cluster.catalog.interchange.importing import import_tags
from aftermap.cluster.catalog.labels import change_labels, latest
from aftermap.cluster.catalog.people import add_user
from aftermap.cluster.catalog.tables import Chip, Scene, Tag, User
from aftermap.cluster.catalog.tagging import Said, add_tag, current_tags
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyproj import Transformer
from rasterio.features import rasterize
from rasters import UTM, texture, write_raster

SIZE = 300, 400
"""Of all images of the test, px."""

TO_DEGREES = Transformer.from_crs("EPSG:32637", "EPSG:4326", always_xy=True)

FORMATS = {"xbd": "x", "coco": "x", "geojson": "x.geojson", "csv": "x.csv", "folders": "x"}
"""A name to export to, by format."""


@dataclass
class World:
    """A catalog with a town before and after, a photo that knows where it is, and one that does not."""

    catalog: Catalog
    sources: Path
    user: User
    label_set: int

    def scene(self, name: str) -> Scene:
        with self.catalog.reading() as session:
            return session.query(Scene).filter_by(name=name).one()

    def say(self, scene: str, label: str, **place: Any) -> Tag:
        row = self.scene(scene)
        said = Said(self.label_set, label, str(uuid.uuid4()), row.id, **place)
        return add_tag(self.catalog, self.user, said)

    def say_polygon(self, scene: str, label: str, pixels: Any) -> Tag:
        """A polygon in pixels, told as the catalog wants it."""
        shape = shapely.Polygon(*pixels) if isinstance(pixels, tuple) else shapely.Polygon(pixels)
        if scene.endswith(".tif"):
            shape = shapely.transform(
                shape,
                lambda xy: np.column_stack(TO_DEGREES.transform(*(UTM * (xy[:, 0], xy[:, 1])))),
            )
        return self.say(scene, label, polygon=shapely.geometry.mapping(shape))


def _jpeg(path: Path, seed: int, gps: bool) -> Path:
    exif = Image.Exif()
    if gps:
        place = {1: "N", 2: (16.0, 26.0, 3.6), 3: "W", 4: (95.0, 1.0, 12.0)}
        exif.get_ifd(0x8825).update(place)
    Image.fromarray(texture(*SIZE, seed).transpose(1, 2, 0)).save(path, exif=exif)
    return path


def _sources(folder: Path) -> Path:
    folder.mkdir()
    write_raster(folder / "before.tif", texture(*SIZE, 1))
    write_raster(folder / "after.tif", texture(*SIZE, 2))
    write_raster(folder / "lone.tif", texture(*SIZE, 3))
    _jpeg(folder / "placed.jpg", 4, gps=True)
    _jpeg(folder / "=lost.jpg", 5, gps=False)
    return folder


def _filled(catalog: Catalog, sources: Path) -> Catalog:
    first = [sources / name for name in ("before.tif", "lone.tif", "placed.jpg", "=lost.jpg")]
    add_images(catalog, [str(path) for path in first])
    add_images(catalog, [str(sources / "after.tif")], About(before="before.tif"))
    return catalog


def _world(folder: Path, sources: Path, labels: str = "levels") -> World:
    catalog = _filled(Catalog.open(folder, create=True), sources)
    with catalog.writing() as session:
        user = add_user(session, "@ana", "tagger", "a long password")
        number = latest(session, labels).id
    return World(catalog, sources, user, number)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _sources(tmp_path_factory.mktemp("images") / "images")


@pytest.fixture
def world(tmp_path: Path, sources: Path) -> Iterator[World]:
    made = _world(tmp_path / "here", sources)
    yield made
    made.catalog.close()


@pytest.fixture
def other(tmp_path: Path, sources: Path) -> Iterator[Catalog]:
    """Another catalog with the same images and no tags."""
    catalog = _filled(Catalog.open(tmp_path / "there", create=True), sources)
    yield catalog
    catalog.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Catalog]:
    catalog = Catalog.open(tmp_path / "empty", create=True)
    yield catalog
    catalog.close()


SQUARES = {
    "after.tif": [
        ("destroyed", (10, 20, 64)),
        ("no-damage", (236, 336, 64)),
        ("cannot-tell", (0, 0, 32)),
    ],
    "lone.tif": [("minor-damage", (100, 100, 50))],
    "placed.jpg": [("major-damage", (5, 7, 16))],
    "=lost.jpg": [("no-damage", (1, 2, 200))],
}
HOLED = ([(110, 30), (190, 40), (180, 120), (120, 130)], [[(130, 60), (160, 60), (150, 90)]])
POLYGONS = {
    "after.tif": [("destroyed", [(100.5, 20.25), (180, 30), (150, 90)]), ("minor-damage", HOLED)],
    "placed.jpg": [("major-damage", [(30, 200), (90.125, 210), (60, 260)])],
    "=lost.jpg": [("no-damage", [(300, 10), (380, 20), (340.75, 80), (310, 70)])],
}


def _say_all(world: World, polygons: bool = True) -> None:
    for scene, said in SQUARES.items():
        for label, square in said:
            world.say(scene, label, square=square)
    for scene, drawn in POLYGONS.items() if polygons else ():
        for label, outline in drawn:
            world.say_polygon(scene, label, outline)


def _tags(catalog: Catalog, labels: str = "levels") -> list[Tag]:
    with catalog.reading() as session:
        tags = session.scalars(current_tags().order_by(Tag.made_at, Tag.id))
        return [tag for tag in tags if tag.label_set.name == labels]


def _squares(catalog: Catalog, labels: str = "levels") -> list[tuple[Any, ...]]:
    """Scene, label, place and pixels of all squares."""
    return sorted(
        (
            t.scene.digest,
            t.label,
            t.chip.row,
            t.chip.col,
            t.chip.side,
            t.chip.content,
            t.chip.before or "",
        )
        for t in _tags(catalog, labels)
        if t.chip is not None
    )


def _pixels_of(tag: Tag) -> shapely.Geometry:
    """A tag's polygon in pixels, by PROJ and the test's own transform."""
    shape = shapely.geometry.shape(tag.polygon)
    if not tag.scene.crs:
        return shape
    return shapely.transform(
        shape,
        lambda xy: np.column_stack(
            ~UTM * TO_DEGREES.transform(xy[:, 0], xy[:, 1], direction="INVERSE")
        ),
    )


def _assert_same_polygons(
    first: Catalog, second: Catalog, tolerance: float, filled: bool = False, labels: str = "levels"
) -> None:
    def found(catalog: Catalog) -> list[tuple[str, str, shapely.Geometry]]:
        tags = [t for t in _tags(catalog, labels) if t.polygon is not None]
        rows = [(t.scene.digest, str(t.label), _pixels_of(t)) for t in tags]
        return sorted(rows, key=lambda row: (row[0], row[1], row[2].bounds))

    wanted, got = found(first), found(second)
    assert [row[:2] for row in wanted] == [row[:2] for row in got]
    for (*_, shape), (*_, back) in zip(wanted, got, strict=True):
        whole = shapely.Polygon(shape.exterior) if filled else shape
        assert shapely.hausdorff_distance(whole.boundary, back.boundary) < tolerance


@pytest.mark.parametrize(
    ("to", "tolerance"), [("csv", 2e-6), ("geojson", 0.05), ("coco", 2e-3), ("xbd", 2e-6)]
)
def test_tags_come_back_to_the_same_images(
    world: World, other: Catalog, tmp_path: Path, to: str, tolerance: float
) -> None:
    _say_all(world)
    out = tmp_path / FORMATS[to]
    done = export_tags(world.catalog, to, out, "levels")
    assert (
        next(n for k, n in done.counts.items() if k in ("tags", "annotations", "buildings")) == 10
    )
    told = import_tags(other, out)
    assert (told.new, told.known, told.images, told.left_out) == (10, 0, 0, [])
    assert _squares(other) == _squares(world.catalog)
    _assert_same_polygons(world.catalog, other, tolerance, filled=to == "coco")
    again = import_tags(other, out)
    assert (again.new, again.known) == (0, 10)
    assert len(_tags(other)) == 10


def test_who_and_when_come_back_as_far_as_is_told(
    world: World, other: Catalog, tmp_path: Path
) -> None:
    _say_all(world)
    export_tags(world.catalog, "csv", tmp_path / "x.csv", "levels")
    import_tags(other, tmp_path / "x.csv", name="ben")
    made = sorted(tag.made_at for tag in _tags(world.catalog))
    assert sorted(tag.made_at for tag in _tags(other)) == made
    assert {(tag.user.name, tag.origin) for tag in _tags(other)} == {("ben", "x.csv")}
    assert {tag.user.password for tag in _tags(other)} == {None}


def test_squares_come_back_as_folders(world: World, other: Catalog, tmp_path: Path) -> None:
    _say_all(world, polygons=False)
    done = export_tags(world.catalog, "folders", tmp_path / "x", "levels")
    assert done.counts == {"images": 6}
    told = import_tags(other, tmp_path / "x")
    assert (told.new, told.images) == (6, 0)
    assert _squares(other) == _squares(world.catalog)
    assert import_tags(other, tmp_path / "x").known == 6


def test_polygons_come_back_as_the_same_pixels_from_folders(
    world: World, other: Catalog, tmp_path: Path
) -> None:
    world.say("after.tif", "no-damage", square=(0, 80, 160))
    for scene, drawn in POLYGONS.items():
        for label, outline in drawn:
            world.say_polygon(scene, label, outline)
    export_tags(world.catalog, "folders", tmp_path / "x", "levels")
    import_tags(other, tmp_path / "x")
    assert _squares(other) == _squares(world.catalog)
    for name, frame in (
        ("after.tif", (0, 80, 160, 240)),
        ("placed.jpg", (0, 0, *SIZE)),
        ("=lost.jpg", (0, 0, *SIZE)),
    ):
        burnt = []
        for catalog in (world.catalog, other):
            tags = [t for t in _tags(catalog) if t.polygon is not None and t.scene.name == name]
            mask = rasterize([(_pixels_of(t), 1 + len(str(t.label))) for t in tags], SIZE)
            burnt.append(mask[frame[0] : frame[2], frame[1] : frame[3]])
        assert burnt[0].any()
        np.testing.assert_array_equal(burnt[0], burnt[1])


@pytest.mark.parametrize("to", ["coco", "folders"])
def test_into_an_empty_catalog_squares_come_with_their_pixels(
    world: World, empty: Catalog, tmp_path: Path, to: str
) -> None:
    _say_all(world, polygons=False)
    export_tags(world.catalog, to, tmp_path / "x", "levels")
    told = import_tags(empty, tmp_path / "x")
    assert told.new == 6
    # The same pixels after; folders carry those before too.
    pixels = {(row[1], row[5]): row[6] for row in _squares(world.catalog)}
    back = {(row[1], row[5]): row[6] for row in _squares(empty)}
    assert set(back) == set(pixels)
    if to == "folders":
        assert back == pixels
    assert all(row[2:4] == (0, 0) for row in _squares(empty))
    assert import_tags(empty, tmp_path / "x").known == 6


@pytest.mark.parametrize("to", ["coco", "xbd"])
def test_photos_come_along_with_their_polygons(
    world: World, empty: Catalog, tmp_path: Path, to: str
) -> None:
    for scene in ("placed.jpg", "=lost.jpg"):
        for label, outline in POLYGONS[scene]:
            world.say_polygon(scene, label, outline)
    export_tags(world.catalog, to, tmp_path / "x", "levels")
    assert import_tags(empty, tmp_path / "x").images == 2
    _assert_same_polygons(world.catalog, empty, 2e-3)
    with empty.reading() as session:
        assert {s.west for s in session.query(Scene)} == {None, -95.02}


@pytest.mark.parametrize("to", list(FORMATS))
def test_the_same_tags_are_the_same_bytes(world: World, tmp_path: Path, to: str) -> None:
    _say_all(world)
    outs = [tmp_path / f"{n}-{FORMATS[to]}" for n in "ab"]
    for out in outs:
        export_tags(world.catalog, to, out, "levels")
    contents = [
        {p.relative_to(out): p.read_bytes() for p in [out, *out.rglob("*")] if p.is_file()}
        for out in outs
    ]
    assert contents[0] == contents[1]
    assert contents[0]


@pytest.mark.parametrize("to", list(FORMATS))
def test_no_tags_are_an_export_too(world: World, other: Catalog, tmp_path: Path, to: str) -> None:
    done = export_tags(world.catalog, to, tmp_path / FORMATS[to], "levels")
    assert set(done.counts.values()) == {0}


def test_a_photo_that_was_turned_is_exported_upright(tmp_path: Path, empty: Catalog) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(texture(60, 80).transpose(1, 2, 0)).save(tmp_path / "t.jpg", exif=exif)
    scene = add_images(empty, [str(tmp_path / "t.jpg")]).new[0]
    with empty.writing() as session:
        user, labels = (
            add_user(session, "ana", "tagger", "a long password"),
            latest(session, "levels"),
        )
    ring = [[1, 1], [50, 1], [30, 70], [1, 1]]
    polygon = {"type": "Polygon", "coordinates": [ring]}
    add_tag(empty, user, Said(labels.id, "destroyed", str(uuid.uuid4()), scene.id, polygon=polygon))
    export_tags(empty, "xbd", tmp_path / "x", "levels")
    (image,) = (tmp_path / "x/images").iterdir()
    with Image.open(image) as found:
        assert (found.size, found.getexif().get(0x0112)) == ((60, 80), None)


PLACES = st.one_of(
    st.tuples(st.integers(0, 200), st.integers(0, 300), st.integers(16, 100)),
    st.lists(
        st.tuples(st.floats(-40, 440, width=32), st.floats(-40, 340, width=32)),
        min_size=3,
        max_size=7,
    )
    .map(lambda points: shapely.MultiPoint(points).convex_hull)
    .filter(lambda hull: shapely.intersection(hull, shapely.box(0, 0, *SIZE[::-1])).area > 4),
)
WORDS = st.sampled_from(["no-damage", "minor-damage", "major-damage", "destroyed", "cannot-tell"])


@pytest.fixture(scope="module")
def two(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Catalog]]:
    """Two catalogs with the same images; every example of the test has a label set of its own."""
    folder = tmp_path_factory.mktemp("two")
    world = _world(folder / "here", sources)
    there = _filled(Catalog.open(folder / "there", create=True), sources)
    yield world, there
    world.catalog.close()
    there.close()


def _new_labels(name: str, catalog: Catalog) -> int:
    with catalog.writing() as session:
        return change_labels(session, name, latest(session, "levels").labels).id


@settings(max_examples=10, deadline=None)
@given(said=st.lists(st.tuples(st.sampled_from(list(SQUARES)), WORDS, PLACES), max_size=4))
@pytest.mark.parametrize("to", ["csv", "geojson", "coco", "xbd"])
def test_whatever_was_said_comes_back(
    two: tuple[World, Catalog], tmp_path_factory: pytest.TempPathFactory, to: str, said: list[Any]
) -> None:
    (world, there), folder = two, tmp_path_factory.mktemp("any")
    name = f"set-{uuid.uuid4()}"
    world.label_set = _new_labels(name, world.catalog)
    _new_labels(name, there)
    for scene, label, place in said:
        if isinstance(place, tuple):
            world.say(scene, label, square=place)
        else:
            world.say_polygon(scene, label, list(place.exterior.coords))
    export_tags(world.catalog, to, folder / FORMATS[to], name)
    if said:
        told = import_tags(there, folder / FORMATS[to])
        assert (told.new, told.left_out) == (len(said), [])
    assert _squares(there, name) == _squares(world.catalog, name)
    _assert_same_polygons(world.catalog, there, 0.1, labels=name)


def test_the_pixels_of_a_chip_are_those_of_its_image(world: World, tmp_path: Path) -> None:
    world.say("after.tif", "destroyed", square=(10, 20, 64))
    export_tags(world.catalog, "folders", tmp_path / "x", "levels")
    for kind, seed in (("A", 1), ("B", 2)):
        (file,) = (tmp_path / "x" / kind).iterdir()
        pixels = np.asarray(Image.open(io.BytesIO(file.read_bytes()))).transpose(2, 0, 1)
        np.testing.assert_array_equal(pixels, texture(*SIZE, seed)[:, 10:74, 20:84])


def test_only_tags_that_hold_are_exported(world: World, tmp_path: Path) -> None:
    first = world.say("after.tif", "destroyed", square=(10, 20, 64))
    said = Said(world.label_set, "no-damage", str(uuid.uuid4()), replaces=first.id)
    add_tag(world.catalog, world.user, said)
    done = export_tags(world.catalog, "csv", tmp_path / "x.csv", "levels")
    assert done.counts == {"tags": 1}
    assert "destroyed" not in (tmp_path / "x.csv").read_text()
    other_set = export_tags(world.catalog, "csv", tmp_path / "y.csv", "damage")
    assert other_set.counts == {"tags": 0}
    assert any("1 tags of other label sets" in one for one in other_set.left_out)


def test_chips_are_shared_with_what_is_tagged_in_the_app(world: World, tmp_path: Path) -> None:
    world.say("after.tif", "destroyed", square=(10, 20, 64))
    export_tags(world.catalog, "csv", tmp_path / "x.csv", "levels")
    assert import_tags(world.catalog, tmp_path / "x.csv", name="ben").new == 1
    with world.catalog.reading() as session:
        assert session.query(Chip).count() == 1
