"""What is exported is what other readers take; what is imported is checked before anything is kept."""

from __future__ import annotations

import csv
import getpass
import hashlib
import json
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from aftermap.cluster.catalog import tag_batches
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.imagery import add_images
from aftermap.cluster.catalog.interchange import found
from aftermap.cluster.catalog.interchange.exporting import export_tags
from aftermap.cluster.catalog.interchange.importing import import_tags
from aftermap.cluster.catalog.tables import Entry, LabelSet, Scene, Tag, User
from aftermap.cluster.catalog.tag_batches import add_tags
from aftermap.cluster.catalog.tagging import Said, add_tag, current_tags
from aftermap.cluster.catalog.verify import verify
from aftermap.models.chips.folders import read_folders
from aftermap.models.chips.xbd_layout import find_tiles
from aftermap.scenes.errors import Refused, UsageError
from PIL import Image
from pycocotools.coco import COCO
from rasters import texture, write_raster
from sqlalchemy import func, select

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

OUTLINE = [[100.0, 50.0], [180.0, 60.0], [150.0, 120.0]]
"""A polygon in pixels of a photo."""


def _said(labels: LabelSet, scene: Scene, label: str = "damage", **place: Any) -> Said:
    return Said(labels.id, label, str(uuid.uuid4()), scene.id, **place)


def _polygon(points: list[list[float]]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[*points, points[0]]]}


def _photo(path: Path, seed: int = 0, size: tuple[int, int] = (200, 300)) -> Path:
    Image.fromarray(texture(*size, seed).transpose(1, 2, 0)).save(path)
    return path


@pytest.fixture
def photo(catalog: Catalog, tmp_path: Path) -> Scene:
    return add_images(catalog, [str(_photo(tmp_path / "=photo.png"))]).new[0]


def _count(catalog: Catalog, table: type = Tag) -> int:
    with catalog.reading() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def _told(catalog: Catalog) -> list[tuple[str, str | None, tuple[int, ...] | None]]:
    with catalog.reading() as session:
        tags = session.scalars(current_tags().order_by(Tag.id))
        return sorted(
            (t.scene.name, t.label, (t.chip.row, t.chip.col, t.chip.side) if t.chip else None)
            for t in tags
        )


def test_pycocotools_reads_the_list(
    catalog: Catalog, scene: Scene, photo: Scene, ana: User, labels: LabelSet, tmp_path: Path
) -> None:
    add_tag(catalog, ana, _said(labels, scene, square=(10, 20, 64)))
    add_tag(catalog, ana, _said(labels, photo, "no-damage", polygon=_polygon(OUTLINE)))
    export_tags(catalog, "coco", tmp_path / "x")
    coco = COCO(str(tmp_path / "x/annotations.json"))
    names = {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())}
    assert list(names.values()) == ["damage", "no-damage", "cannot-tell"]
    whole, drawn = coco.loadAnns(coco.getAnnIds())
    assert (names[whole["category_id"]], whole["bbox"]) == ("damage", [0, 0, 64, 64])
    assert coco.annToMask(whole).all()
    assert names[drawn["category_id"]] == "no-damage"
    area = 0.5 * abs((180 - 100) * (120 - 50) - (150 - 100) * (60 - 50))
    assert drawn["area"] == area
    assert coco.annToMask(drawn).shape == (200, 300)
    assert coco.annToMask(drawn).sum() == pytest.approx(area, rel=0.05)
    for image in coco.loadImgs(coco.getImgIds()):
        with Image.open(tmp_path / "x/images" / image["file_name"]) as found_image:
            assert found_image.size == (image["width"], image["height"])


def test_geopandas_reads_the_features(
    catalog: Catalog,
    scene: Scene,
    photo: Scene,
    ana: User,
    labels: LabelSet,
    raster: Path,
    tmp_path: Path,
) -> None:
    add_tag(catalog, ana, _said(labels, scene, square=(10, 20, 64)))
    add_tag(catalog, ana, _said(labels, photo, "no-damage", square=(0, 0, 32)))
    export_tags(catalog, "geojson", tmp_path / "x.geojson")
    frame = gpd.read_file(tmp_path / "x.geojson")
    assert frame.crs.to_epsg() == 4326
    assert list(frame["label"]) == ["damage", "no-damage"]
    assert frame.geometry.iloc[1] is None
    with rasterio.open(raster) as source:
        square = frame.geometry.iloc[:1].to_crs(source.crs)
        left, top = source.transform * (20, 10)
        right, bottom = source.transform * (84, 74)
    np.testing.assert_allclose(square.total_bounds, [left, bottom, right, top], atol=0.02)


def test_cells_that_a_spreadsheet_would_run_are_quoted_off(
    catalog: Catalog, photo: Scene, ana: User, labels: LabelSet, tmp_path: Path
) -> None:
    add_tag(catalog, ana, _said(labels, photo, square=(0, 0, 32)))
    export_tags(catalog, "csv", tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["scene_name"] == "'=photo.png"
    assert (row["row"], row["col"], row["side"], row["label"]) == ("0", "0", "32", "damage")
    # A name alone finds the image again, without its digest.
    (tmp_path / "y.csv").write_text(
        "scene_name,row,col,side,label\n'=photo.png,5,5,32,No damage\n", encoding="utf-8"
    )
    import_tags(catalog, tmp_path / "y.csv")
    assert _told(catalog)[1] == ("=photo.png", "no-damage", (5, 5, 32))


def test_masks_hold_the_codes_and_training_reads_the_folders(
    catalog: Catalog, tmp_path: Path, ana: User, labels: LabelSet
) -> None:
    from aftermap.cluster.catalog.imagery import About

    pre = add_images(catalog, [str(write_raster(tmp_path / "a.tif", texture(200, 200)))]).new[0]
    after = write_raster(tmp_path / "b.tif", texture(200, 200, 1))
    scene = add_images(catalog, [str(after)], About(before=str(pre.id))).new[0]
    for label, square in (
        ("damage", (0, 0, 64)),
        ("no-damage", (64, 0, 64)),
        ("cannot-tell", (0, 64, 64)),
    ):
        add_tag(catalog, ana, _said(labels, scene, label, square=square))
    export_tags(catalog, "folders", tmp_path / "x")
    codes = {}
    for file in sorted((tmp_path / "x/label").iterdir()):
        with rasterio.open(file) as source:
            assert (source.count, source.dtypes[0], source.shape) == (1, "uint8", (64, 64))
            codes[file.stem.partition("_r")[2]] = np.unique(source.read(1)).tolist()
    assert codes == {"0_c0_s64": [5], "64_c0_s64": [1], "0_c64_s64": [255]}
    chips = read_folders(tmp_path / "x")
    assert chips is not None
    assert len(chips) == 3


def test_people_who_disagree_leave_the_square_open(
    catalog: Catalog, scene: Scene, ana: User, labels: LabelSet, tmp_path: Path
) -> None:
    for label in ("damage", "no-damage"):
        add_tag(catalog, ana, _said(labels, scene, label, square=(0, 0, 64)))
    done = export_tags(catalog, "folders", tmp_path / "x")
    (mask,) = (tmp_path / "x/after-only/label").iterdir()
    assert np.unique(np.asarray(Image.open(mask))).tolist() == [255]
    assert any("1 squares of which people say different" in one for one in done.left_out)
    assert import_tags(catalog, tmp_path / "x").new == 0


HAND_WRITTEN = {
    "features": {
        "lng_lat": [],
        "xy": [
            {"properties": {"feature_type": "building", "subtype": "destroyed", "uid": "u-1"},
             "wkt": "POLYGON ((10 20, 60 20, 60 70, 10 70, 10 20))"},
            {"properties": {"feature_type": "building", "subtype": "no-damage", "uid": "u-2"},
             "wkt": "POLYGON ((100 100, 150 110, 120 150, 100 100))"},
            {"properties": {"feature_type": "building", "subtype": "un-classified", "uid": "u-3"},
             "wkt": "POLYGON ((200 20, 250 20, 250 60, 200 20))"},
        ],
    },
    "metadata": {"width": 300, "height": 200, "img_name": "santa_00000001_post_disaster.png"},
}  # fmt: skip
"""As the data set has them, by its description; not written by us."""


def _xbd(folder: Path, label: dict[str, Any], image: bool = True) -> Path:
    for name in ("labels", "images"):
        (folder / name).mkdir(parents=True)
    stem = "santa_00000001_{}_disaster"
    (folder / "labels" / f"{stem.format('post')}.json").write_text(json.dumps(label))
    if image:
        _photo(folder / "images" / f"{stem.format('post')}.png", 7)
        _photo(folder / "images" / f"{stem.format('pre')}.png", 8)
    return folder


def test_xbd_of_others_is_read(catalog: Catalog, tmp_path: Path) -> None:
    told = import_tags(catalog, _xbd(tmp_path / "xbd", HAND_WRITTEN))
    assert (told.new, told.images, told.labels) == (3, 2, "levels version 1")
    with catalog.reading() as session:
        tags = {t.label: t for t in session.scalars(current_tags())}
        assert set(tags) == {"destroyed", "no-damage", "cannot-tell"}
        ring = {tuple(point) for point in tags["destroyed"].polygon["coordinates"][0]}
        assert ring == {(10, 20), (60, 20), (60, 70), (10, 70)}
        before = session.get_one(Scene, tags["destroyed"].scene.before_id)
        assert before.name == "santa_00000001_pre_disaster.png"
    assert import_tags(catalog, tmp_path / "xbd").known == 3
    assert verify(catalog).problems == []


def test_our_xbd_is_laid_out_as_the_data_set(
    catalog: Catalog, photo: Scene, ana: User, tmp_path: Path, labels: LabelSet
) -> None:
    add_tag(catalog, ana, _said(labels, photo, "no-damage", polygon=_polygon(OUTLINE)))
    export_tags(catalog, "xbd", tmp_path / "x")
    (tile,) = find_tiles(tmp_path / "x")[tmp_path / "x"]
    label = json.loads(tile.label("post").read_text())
    (one,) = label["features"]["xy"]
    assert one["properties"]["subtype"] == "no-damage"
    assert one["wkt"].startswith("POLYGON ((100")
    assert (label["metadata"]["height"], label["metadata"]["width"]) == (200, 300)


def _coco(path: Path, **more: Any) -> Path:
    content = {
        "images": [{"id": 1, "file_name": "p.png", "width": 300, "height": 200}],
        "categories": [{"id": 9, "name": "Damage"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 9,
                "bbox": [10, 20, 64, 32],
                "area": 1,
                "iscrowd": 0,
            }
        ],
    }
    path.write_text(json.dumps(content | more))
    return path


def test_coco_of_others_is_read(catalog: Catalog, tmp_path: Path) -> None:
    _photo(tmp_path / "p.png")
    assert import_tags(catalog, _coco(tmp_path / "list.json")).new == 1
    with catalog.reading() as session:
        (tag,) = session.scalars(current_tags())
        assert {tuple(p) for p in tag.polygon["coordinates"][0]} == {
            (10, 20),
            (74, 20),
            (74, 52),
            (10, 52),
        }
        assert (tag.label, tag.scene.name, tag.origin) == ("damage", "p.png", "list.json")


def test_folders_of_others_are_read_as_squares_and_outlines(
    catalog: Catalog, tmp_path: Path
) -> None:
    for name in ("A", "B", "label"):
        (tmp_path / "x" / name).mkdir(parents=True)
    for number, mask in enumerate((np.full((64, 64), 5), np.zeros((64, 64)), np.zeros((64, 64)))):
        if number == 2:
            mask[10:20, 30:50] = 1
        _photo(tmp_path / f"x/A/{number}.png", number, (64, 64))
        _photo(tmp_path / f"x/B/{number}.png", 10 + number, (64, 64))
        Image.fromarray(mask.astype(np.uint8)).save(tmp_path / f"x/label/{number}.png")
    told = import_tags(catalog, tmp_path / "x")
    assert (told.new, told.images, told.left_out) == (2, 4, [])
    assert _told(catalog) == [("0.png", "damage", (0, 0, 64)), ("2.png", "no-damage", None)]
    with catalog.reading() as session:
        drawn = session.scalars(current_tags().where(Tag.chip_id.is_(None))).one()
        square = session.scalars(current_tags().where(Tag.chip_id.is_not(None))).one()
        assert {tuple(p) for p in drawn.polygon["coordinates"][0]} == {
            (30, 10),
            (50, 10),
            (50, 20),
            (30, 20),
        }
        before = catalog.files.read(str(square.chip.before))
    assert hashlib.sha256(before).hexdigest() == square.chip.before[:64]


def _csv(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["scene_name,row,col,side,polygon,label,made_at", *rows]) + "\n")
    return path


TOWN = "town_20170908.tif"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (f"{TOWN},0,0,64,,burnt,", r"1 × unknown label 'burnt', first in row 2 of x\.csv"),
        (f"{TOWN},280,0,64,,damage,", "lies outside town_20170908"),
        (f"{TOWN},0,0,8,,damage,", "16 to 4096"),
        (f"{TOWN},0,0,99999999999,,damage,", "16 to 4096"),
        (f"{TOWN},a,0,64,,damage,", "unreadable"),
        (f"{TOWN},,,,,damage,", "unreadable"),
        (f'{TOWN},,,,"POLYGON ((0 0, 5 5, 5 0, 0 5, 0 0))",damage,', "crosses itself"),
        (f'{TOWN},,,,"POLYGON ((900 900, 905 905, 905 900, 900 900))",damage,', "lies outside"),
        (f'{TOWN},,,,"POINT (1 1)",damage,', "no POLYGON"),
        (f'{TOWN},,,,"POLYGON ((0 0, 5",damage,', "unreadable"),
        (f'{TOWN},,,,"POLYGON ((nan nan, 5 5, 5 0, nan nan))",damage,', "GeoJSON|unreadable"),
        (f"{TOWN},0,0,64,,damage,yesterday", "unreadable"),
        (f"{TOWN},0,0,64,,damage,2017-09-08T10:00:00", "no time zone"),
        ("nowhere.tif,0,0,64,,damage,", "an image that is not there"),
    ],
)
def test_one_bad_row_and_nothing_is_imported(
    catalog: Catalog, scene: Scene, tmp_path: Path, row: str, words: str
) -> None:
    path = _csv(tmp_path / "x.csv", f"{TOWN},0,0,64,,damage,", row)
    with pytest.raises(Refused, match=words):
        import_tags(catalog, path)
    assert (_count(catalog), list(catalog.files.names())) == (0, [])
    told = import_tags(catalog, path, partly=True)
    assert (told.new, len(told.left_out)) == (1, 1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p / "none.csv", "There is no file"),
        (lambda p: _write(p / "x.csv", "a,b\n1,2\n"), "has the columns a, b"),
        (lambda p: _write(p / "x.csv", ""), "cannot be read as CSV"),
        (lambda p: _write(p / "x.csv", 'label,scene_name\n"a\n'), "cannot be read as CSV"),
        (lambda p: _write(p / "x.json", "{"), "cannot be read as JSON"),
        (lambda p: _write(p / "x.json", "[" * 100_000), "cannot be read as JSON"),
        (lambda p: _write(p / "x.geojson", "[]"), "holds no JSON object"),
        (lambda p: _write(p / "x.geojson", "{}"), "no list of features"),
        (lambda p: _write(p / "x.json", '{"annotations": 3}'), "no list of images"),
        (lambda p: _coco(p / "x.json", categories=[]), "unknown label"),
        (lambda p: _coco(p / "x.json", images=[]), "that is not listed"),
        (lambda p: _coco(p / "x.json"), "an image that is not there"),
        (lambda p: p, "holds no tags that are known"),
        (lambda p: _xbd(p / "x", HAND_WRITTEN, image=False), "an image that is not there"),
        (lambda p: _xbd(p / "x", {"features": {"xy": [{"properties": {"uid": "1"}, "wkt": "POLYGON ((0 0, 9 0, 9 9, 0 0))"}]}}), "no label for the subtype None"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_tags_is_refused(
    catalog: Catalog, tmp_path: Path, make: Callable[[Path], Path], words: str
) -> None:
    with pytest.raises(Refused, match=words):
        import_tags(catalog, make(tmp_path))
    assert (_count(catalog), _count(catalog, Scene)) == (0, 0)


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_file_that_is_too_large_is_not_read(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(found, "LARGEST", 1 << 20)
    with pytest.raises(Refused, match="has 2 MiB"):
        import_tags(catalog, _write(tmp_path / "x.json", " " * (2 << 20)))


def test_no_name_leads_out_of_the_folder(catalog: Catalog, tmp_path: Path) -> None:
    _photo(tmp_path / "p.png")
    (tmp_path / "x").mkdir()
    (tmp_path / "x/link.png").symlink_to(tmp_path / "p.png")
    for name in ("../p.png", str(tmp_path / "p.png"), "link.png", "a\0b", "\ud800", ""):
        images = [{"id": 1, "file_name": name, "width": 300, "height": 200}]
        with pytest.raises(Refused, match="an image that is not there"):
            import_tags(catalog, _coco(tmp_path / "x/list.json", images=images))


def test_an_image_of_another_size_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    _photo(tmp_path / "p.png", size=(100, 100))
    with pytest.raises(Refused, match="another size than the file says"):
        import_tags(catalog, _coco(tmp_path / "list.json"))


def test_an_unreadable_image_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(Refused, match="unreadable image"):
        import_tags(catalog, _coco(tmp_path / "list.json"))


def test_degrees_of_an_image_that_lies_nowhere_are_refused(
    catalog: Catalog, photo: Scene, tmp_path: Path
) -> None:
    feature = {"type": "Feature", "geometry": _polygon([[36.0, 37.0], [36.1, 37.0], [36.0, 37.1]]),
               "properties": {"label": "damage", "scene": photo.name}}  # fmt: skip
    file = _write(
        tmp_path / "x.geojson", json.dumps({"type": "FeatureCollection", "features": [feature]})
    )
    with pytest.raises(Refused, match="lies nowhere on the earth"):
        import_tags(catalog, file)


def test_a_square_that_was_redrawn_is_a_polygon(
    catalog: Catalog, scene: Scene, ana: User, labels: LabelSet, tmp_path: Path
) -> None:
    add_tag(catalog, ana, _said(labels, scene, square=(10, 20, 64)))
    export_tags(catalog, "geojson", tmp_path / "x.geojson")
    content = json.loads((tmp_path / "x.geojson").read_text())
    for point in content["features"][0]["geometry"]["coordinates"][0]:
        point[0] += 2e-5  # some two metres: four pixels
    (tmp_path / "x.geojson").write_text(json.dumps(content))
    import_tags(catalog, tmp_path / "x.geojson")
    with catalog.reading() as session:
        drawn = session.scalars(current_tags().where(Tag.chip_id.is_(None))).one()
        assert drawn.polygon["type"] == "Polygon"
    assert _count(catalog) == 2


def test_what_is_there_is_kept(
    catalog: Catalog, scene: Scene, ana: User, labels: LabelSet, tmp_path: Path
) -> None:
    add_tag(catalog, ana, _said(labels, scene, square=(10, 20, 64)))
    for to, name in (("csv", "x.csv"), ("folders", "x")):
        out = tmp_path / name
        export_tags(catalog, to, out)
        with pytest.raises(Refused, match="--overwrite"):
            export_tags(catalog, to, out)
        export_tags(catalog, to, out, overwrite=True)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(Refused, match="not an earlier export"):
        export_tags(catalog, "coco", mine, overwrite=True)
    assert (mine / "thesis.txt").read_text() == "years of work"
    assert not list(tmp_path.glob(".*"))


def test_an_export_that_fails_leaves_the_earlier_one(
    catalog: Catalog, scene: Scene, ana: User, labels: LabelSet, tmp_path: Path
) -> None:
    tag = add_tag(catalog, ana, _said(labels, scene, square=(10, 20, 64)))
    export_tags(catalog, "folders", tmp_path / "x")
    before = sorted(p.name for p in (tmp_path / "x").rglob("*"))
    catalog.files.path(tag.chip.content).unlink()
    with pytest.raises(Refused, match="catalog verify"):
        export_tags(catalog, "folders", tmp_path / "x", overwrite=True)
    assert sorted(p.name for p in (tmp_path / "x").rglob("*")) == before
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("to", "out", "labels", "words"),
    [
        ("png", "x", "damage", "no format 'png'"),
        ("csv", "x.txt", "damage", r"ends with \.csv"),
        ("csv", "none/x.csv", "damage", "not a folder that can be written to"),
        ("csv", "x.csv", "roofs", "no label set 'roofs'"),
        ("csv", "x.csv", "damage:7", "no version 7"),
        ("csv", "x.csv", "damage:a", "NAME:VERSION"),
        ("xbd", "catalog/x", "damage", "catalog's own folder"),
    ],
)
def test_exports_that_cannot_be_are_told(
    catalog: Catalog, tmp_path: Path, to: str, out: str, labels: str, words: str
) -> None:
    with pytest.raises((Refused, UsageError), match=words):
        export_tags(catalog, to, tmp_path / out, labels)


def test_a_name_that_is_none_is_refused_before_anything(
    catalog: Catalog, scene: Scene, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="is no name"):
        import_tags(catalog, _csv(tmp_path / "x.csv", f"{TOWN},0,0,64,,damage,"), name="a b")
    assert _count(catalog) == 0


def test_who_imports_stands_in_the_audit_trail_and_who_said_it_in_the_tags(
    catalog: Catalog, scene: Scene, tmp_path: Path
) -> None:
    import_tags(catalog, _csv(tmp_path / "x.csv", f"{TOWN},0,0,64,,damage,"), name="ben")
    with catalog.reading() as session:
        entry = session.scalars(select(Entry).where(Entry.action == "import")).one()
        tag = session.scalars(current_tags()).one()
        importer = session.get_one(User, entry.user_id).name
    assert (tag.user.name, tag.origin) == ("ben", "x.csv")
    assert importer == getpass.getuser()
    assert (entry.subject, entry.details) == ("x.csv", {"tags": 1, "said_by": "ben"})


def test_a_hundred_tags_are_kept_together_or_not_at_all(
    catalog: Catalog, scene: Scene, ana: User, labels: LabelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [_said(labels, scene, square=(k, k, 32)) for k in range(250)]
    seen = []

    def stop(done: int, of: int) -> None:
        seen.append((done, of))
        if done == 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_tags(catalog, ana, said, stop)
    assert (_count(catalog), seen) == (100, [(100, 250)])
    kept = add_tags(catalog, ana, said)
    assert (kept.new, kept.known, _count(catalog)) == (150, 100, 250)
    with catalog.reading() as session:
        entries = session.scalars(select(Entry).where(Entry.action == "import"))
        assert sum(entry.details["tags"] for entry in entries) == 250
    assert verify(catalog).left_over == []


def test_the_same_import_twice_at_once_is_one(
    catalog: Catalog, scene: Scene, tmp_path: Path
) -> None:
    path = _csv(tmp_path / "x.csv", *(f"{TOWN},{k},{k},32,,damage," for k in range(120)))
    import_tags(catalog, _csv(tmp_path / "first.csv", f"{TOWN},0,0,32,,damage,"))
    failures: list[Exception] = []

    def bring() -> None:
        try:
            import_tags(catalog, path)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=bring) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert _count(catalog) == 121
    assert verify(catalog).problems == []


def test_squares_without_data_are_told(
    catalog: Catalog, ana: User, labels: LabelSet, tmp_path: Path
) -> None:
    pixels = texture(200, 200)
    pixels[:, :100] = 0
    add_images(catalog, [str(write_raster(tmp_path / TOWN, pixels))])
    path = _csv(tmp_path / "x.csv", f"{TOWN},0,0,64,,damage,", f"{TOWN},120,0,64,,damage,")
    told = import_tags(catalog, path)
    assert told.new == 1
    assert "1 × no data in a square" in told.left_out[0]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"label": "burnt"}, "has no 'burnt'"),
        ({"label": None}, "corrects another one"),
        ({"square": (280, 0, 64)}, "lies outside"),
        ({"square": None}, "square or of a polygon"),
        ({"label_set": 99}, "no label set number 99"),
        ({"scene": 99}, "no scene number 99"),
        ({"id": "1"}, "UUID"),
    ],
)
def test_of_many_tags_none_is_kept_where_one_cannot_be_said(
    catalog: Catalog, scene: Scene, ana: User, labels: LabelSet, more: dict[str, Any], words: str
) -> None:
    good = _said(labels, scene, square=(0, 0, 32))
    bad = Said(**{**_said(labels, scene, square=(0, 32, 32)).__dict__, **more})
    with pytest.raises(UsageError, match=words):
        add_tags(catalog, ana, [good, bad])
    assert _count(catalog) == 0


def test_no_transaction_holds_more_pixels_than_memory(labels: LabelSet, scene: Scene) -> None:
    said = [_said(labels, scene, square=(0, 0, 4096)) for _ in range(5)]
    assert [len(batch) for batch in tag_batches._batches(said)] == [2, 2, 1]
