"""Whatever a file holds, an import takes what it can or says in words what is wrong."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.imagery import add_images
from aftermap.cluster.catalog.interchange.importing import import_tags
from aftermap.cluster.catalog.verify import verify
from aftermap.scenes.errors import AftermapError
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasters import texture, write_raster

RING = [[60.0, 20.0], [60.0, 70.0], [10.0, 70.0], [60.0, 20.0]]
DEGREES = [[36.75175, 37.02482], [36.75208, 37.02482], [36.75208, 37.02453], [36.75175, 37.02482]]

SOUND: dict[str, Any] = {
    "coco": {
        "info": {"label_set": "damage"},
        "images": [{"id": 1, "file_name": "p.png", "width": 200, "height": 200, "aftermap": {"square": [0, 0, 64]}}],
        "categories": [{"id": 1, "name": "damage"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "segmentation": [[10, 20, 60, 20, 60, 70]], "aftermap": {"made_at": None}},
            {"image_id": 1, "category_id": 1, "bbox": [0, 0, 200, 200]},
        ],
    },
    "geojson": {
        "aftermap": {"label_set": "damage"},
        "features": [
            {"geometry": {"type": "Polygon", "coordinates": [DEGREES]},
             "properties": {"label": "damage", "scene": "t.tif", "made_at": "2017-09-08T00:00:00+00:00"}},
            {"geometry": None, "properties": {"label": "damage", "scene": "p.png", "row": 1, "col": 2, "side": 32}},
            {"geometry": None, "properties": {"label": "damage", "scene": "p.png", "pixels": "POLYGON ((9 9, 50 9, 9 50, 9 9))"}},
        ],
    },
    "xbd": {
        "features": {
            "lng_lat": [],
            "xy": [{"properties": {"subtype": "destroyed", "uid": "u"}, "wkt": "POLYGON ((9 9, 50 9, 9 50, 9 9))"}],
        },
        "metadata": {
            "width": 200, "height": 200, "img_name": "p.png",
            "aftermap": {"label_set": "levels", "labels": {"u": "destroyed"}, "squares": {"u": [0, 0, 32]}},
        },
    },
}  # fmt: skip

JUNK = st.one_of(
    st.none(), st.booleans(), st.text(max_size=5), st.just([]), st.just({}), st.just([[[[]]]]),
    st.sampled_from([0, -1, 10**30, 10**400, 1e308, float("nan"), float("inf"), 0.5, 2**31]),
    st.sampled_from(["\0", "\ud800", "../x", "POLYGON ((", "POINT (1 1)", "POLYGON EMPTY", "=1+1"]),
    st.just(RING), st.lists(st.integers(-5, 300), max_size=4),
    st.just({"type": "GeometryCollection", "geometries": []}),
)  # fmt: skip


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    folder = tmp_path_factory.mktemp("there")
    write_raster(folder / "t.tif", texture(200, 200))
    Image.fromarray(texture(200, 200, 1).transpose(1, 2, 0)).save(folder / "p.png")
    catalog = Catalog.open(folder / "catalog", create=True)
    add_images(catalog, [str(folder / "t.tif"), str(folder / "p.png")])
    yield catalog
    catalog.close()


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where everything in a JSON value is."""
    yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        yield from _places(inner, (*path, key))


def _changed(value: Any, path: tuple[Any, ...], junk: Any) -> Any:
    if not path:
        return junk
    made = copy.deepcopy(value)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = junk
    return made


def _file(folder: Path, kind: str, content: Any) -> Path:
    text = json.dumps(content)
    if kind == "xbd":
        (folder / "labels").mkdir()
        (folder / "labels/p_00000001_post_disaster.json").write_text(text)
        return folder
    path = folder / f"x.{'geojson' if kind == 'geojson' else 'json'}"
    path.write_text(text)
    return path


@pytest.mark.parametrize("kind", list(SOUND))
def test_what_is_sound_is_imported(there: Catalog, tmp_path: Path, kind: str) -> None:
    told = import_tags(there, _file(tmp_path, kind, SOUND[kind]))
    assert told.left_out == []
    assert told.new + told.known == {"coco": 2, "geojson": 3, "xbd": 1}[kind]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize("kind", list(SOUND))
def test_junk_anywhere_is_told_in_words(
    there: Catalog, tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(list(_places(SOUND[kind]))))
    content = _changed(SOUND[kind], path, data.draw(JUNK))
    file = _file(tmp_path_factory.mktemp("junk"), kind, content)
    with suppress(AftermapError):
        import_tags(there, file, partly=True)
    assert verify(there).problems == []


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rows=st.lists(st.lists(st.one_of(st.sampled_from(["t.tif", "damage", "1", "64", "99999999999999999999", "-1", "'=x", "\0", "nan"]), st.text(max_size=6)), max_size=7), max_size=4))  # fmt: skip
def test_any_table_is_read_or_told(
    there: Catalog, tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    file = tmp_path_factory.mktemp("junk") / "x.csv"
    lines = [["scene_name", "label", "row", "col", "side", "polygon", "made_at"], *rows]
    text = "\n".join(",".join(cell.replace("\n", " ") for cell in line) for line in lines)
    file.write_bytes(text.encode("utf-8", "replace"))
    with suppress(AftermapError):
        import_tags(there, file, partly=True)
    assert verify(there).problems == []


@pytest.mark.parametrize(
    ("after", "mask"),
    [
        (b"", b""),
        (b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n"),
        (None, np.full((64, 64), 7, np.uint8)),
        (None, np.zeros((64, 63), np.uint8)),
        (None, np.zeros((64, 64, 3), np.uint8)),
        (None, np.zeros((64, 64), np.uint16)),
    ],
)
def test_masks_that_are_none_are_told(
    there: Catalog, tmp_path: Path, after: bytes | None, mask: bytes | np.ndarray
) -> None:
    for name in ("B", "label"):
        (tmp_path / name).mkdir()
    image = Image.fromarray(texture(64, 64).transpose(1, 2, 0))
    image.save(tmp_path / "B/1.png")
    if after is not None:
        (tmp_path / "B/1.png").write_bytes(after)
    if isinstance(mask, bytes):
        (tmp_path / "label/1.png").write_bytes(mask)
    else:
        Image.fromarray(mask).save(tmp_path / "label/1.png")
    with pytest.raises(AftermapError, match=r"nothing was added:\n  1 × "):
        import_tags(there, tmp_path)


def test_the_catalog_is_sound_after_all_that(there: Catalog) -> None:
    assert verify(there).problems == []
