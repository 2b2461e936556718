"""What a reader of our styles and colour tables draws is the legend: pictures, not only text."""

import os
import sqlite3
from pathlib import Path
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from aftermap.scenes.cog import write_cog
from aftermap.scenes.layer import Layer
from aftermap.scenes.legend import LEGEND, entry
from aftermap.scenes.plan import Plan, Window
from aftermap.scenes.store import Store
from aftermap.scenes.styles import by_value, default_styles, raster_qml
from aftermap.scenes.vectors import write_geopackage
from odc.geo.geobox import GeoBox
from PIL import Image, ImageDraw

SIDE = 40
CODES = [row.code for row in LEGEND if row.code]
SLD = "{http://www.opengis.net/sld}"
OGC = "{http://www.opengis.net/ogc}"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A GeoPackage with one square building per class, side by side."""
    boxes = [shapely.box(k * SIDE, 0, (k + 1) * SIDE, SIDE) for k in range(len(CODES))]
    frame = gpd.GeoDataFrame(
        pd.DataFrame({"damage_class": np.array(CODES, np.int16)}), geometry=boxes, crs="EPSG:32637"
    )
    areas = frame[frame["damage_class"] == 5]
    unseen = gpd.GeoDataFrame({"reason": ["cloud"]}, geometry=boxes[:1], crs="EPSG:32637")
    tables = {"buildings": frame, "damage_areas": areas, "not_analysed": unseen}
    write_geopackage(tmp_path / "a.gpkg", tables)
    return tmp_path / "a.gpkg"


def styles_in(path: Path) -> dict[str, tuple[str, str, str]]:
    with sqlite3.connect(path) as database:
        rows = database.execute(
            "select f_table_name, f_geometry_column, styleQML, styleSLD from layer_styles"
        ).fetchall()
    database.close()
    return {name: tuple(rest) for name, *rest in rows}


def keep(picture: Image.Image, name: str) -> None:
    """Leave a picture for a person to look at, where a folder for it is named."""
    if folder := os.environ.get("AFTERMAP_PICTURES"):
        picture.save(Path(folder) / name)


def draw_by_qml(path: Path, layer: str) -> Image.Image:
    """A small QGIS: each feature in its category's colour, solid or in diagonal stripes."""
    column, qml, _ = styles_in(path)[layer]
    with sqlite3.connect(path) as database:
        known = database.execute("select column_name from gpkg_geometry_columns").fetchall()
    database.close()
    assert (column,) in known
    renderer = ElementTree.fromstring(qml).find("renderer-v2")
    assert renderer is not None
    fills = {}
    for symbol in renderer.iter("symbol"):
        options = {
            o.get("name"): o.get("value", "") for o in symbol.iter("Option") if o.get("name")
        }
        rgba = tuple(int(v) for v in options["color"].split(","))
        fills[symbol.get("name")] = rgba, options["style"]
    frame = gpd.read_file(path, layer=layer)
    attribute = renderer.get("attr")
    assert renderer.get("type") == "singleSymbol" or attribute in frame.columns
    by_category = {c.get("value"): c.get("symbol") for c in renderer.iter("category")}
    picture = Image.new("RGBA", (SIDE * len(CODES), SIDE), (255, 255, 255, 255))
    for _, row in frame.iterrows():
        name = by_category[str(row[attribute])] if attribute else "0"
        rgba, pattern = fills[name]
        cell = Image.new("RGBA", picture.size)
        pen = ImageDraw.Draw(cell)
        left, _, right, _ = (int(v) for v in row.geometry.bounds)
        if pattern == "solid":
            pen.rectangle((left, 0, right - 1, SIDE - 1), fill=rgba)
        else:
            assert pattern == "b_diagonal"
            for offset in range(-SIDE, SIDE, 8):
                pen.line((left + offset, SIDE, left + offset + SIDE, 0), fill=rgba, width=2)
            cell.paste((0, 0, 0, 0), (0, 0, left, SIDE))
            cell.paste((0, 0, 0, 0), (right, 0, cell.width, SIDE))
        picture.alpha_composite(cell)
    return picture


def test_a_picture_of_the_geopackage_shows_the_legends_colours(package: Path) -> None:
    picture = draw_by_qml(package, "buildings")
    keep(picture, "buildings-qml.png")
    seen = np.asarray(picture)[..., :3].astype(int)
    for k, code in enumerate(CODES):
        cell = seen[:, k * SIDE : (k + 1) * SIDE].reshape(-1, 3)
        row = entry(code)
        if row.hatched:  # stripes over white: both are there
            assert (cell == row.rgb).all(axis=1).mean() > 0.1
            assert (cell == 255).all(axis=1).mean() > 0.3
            continue
        mixed = np.round(np.array(row.rgb) * 190 / 255 + 255 * 65 / 255)
        assert np.abs(cell - mixed).max() <= 2


def test_the_other_layers_are_drawn_too(package: Path) -> None:
    areas = np.asarray(draw_by_qml(package, "damage_areas"))[..., :3]
    at = CODES.index(5) * SIDE
    assert (areas[:, :at] == 255).all()
    assert (areas[:, at : at + SIDE] != 255).any(axis=2).all()
    unseen = np.asarray(draw_by_qml(package, "not_analysed"))[..., :3]
    assert (unseen[:, :SIDE] == entry(255).rgb).all(axis=2).any()
    assert (unseen[:, SIDE:] == 255).all()


def test_the_sld_says_the_same_as_the_qml(package: Path) -> None:
    _, qml, sld = styles_in(package)["buildings"]
    root = ElementTree.fromstring(sld)
    assert root.tag == f"{SLD}StyledLayerDescriptor"
    assert root.get("version") == "1.0.0"
    rules = {}
    for rule in root.iter(f"{SLD}Rule"):
        literal = rule.find(f".//{OGC}Literal")
        assert rule.find(f".//{OGC}PropertyName").text == "damage_class"  # type: ignore[union-attr]
        colours = [
            p.text for p in rule.iter(f"{SLD}CssParameter") if p.get("name") in ("fill", "stroke")
        ]
        assert literal is not None
        rules[literal.text] = rule.findtext(f"{SLD}Title"), colours[0]
    categories = ElementTree.fromstring(qml).iter("category")
    assert {c.get("value"): c.get("label") for c in categories} == {
        value: title for value, (title, _) in rules.items()
    }
    assert {value: colour for value, (_, colour) in rules.items()} == {
        str(code): entry(code).hex for code in CODES
    }


def test_all_styles_are_well_formed_whatever_they_name() -> None:
    nasty = {"<b>&'\"": entry(4)}
    styles = [*default_styles().values(), by_value("a<b", "c&d", nasty, points=True)]
    for style in styles:
        assert ElementTree.fromstring(style.qml).tag == "qgis"
        assert ElementTree.fromstring(style.sld.encode()).tag.endswith("StyledLayerDescriptor")
    assert ElementTree.fromstring(styles[-1].sld.encode()).findtext(f".//{OGC}Literal") == "<b>&'\""


@pytest.fixture
def raster(tmp_path: Path) -> Path:
    """A class raster in stripes of 256 px with a finer pattern that an overview votes on."""
    codes = np.array([row.code for row in LEGEND], np.uint8)
    values = np.repeat(np.tile(codes, (1024, 1)), 256, axis=1)
    # A sixteenth of all pixels: never the commonest in a cell of 4 x 4. Where the rest is not
    # analysed it would be: overviews leave nodata out.
    values[::4, :-256:4] = 4
    plan = Plan.of(values.shape, Window(64, 0), 1024)
    grid = GeoBox(values.shape, Affine(0.5, 0, 316000, 0, -0.5, 4162000), "EPSG:32637")
    store = Store(tmp_path / "layers.zarr", plan, (Layer("damage", "class"),))
    store.create(grid, {})
    for part in plan:
        store.write(part, {"damage": values[part.row0 : part.row1, part.col0 : part.col1]})
    write_cog(store, "damage", grid, tmp_path / "damage.tif")
    return tmp_path / "damage.tif"


def test_an_overview_in_the_files_own_colours_is_the_legend(raster: Path) -> None:
    with rasterio.open(raster) as file:
        assert len(file.overviews(1)) >= 1
        last = len(file.overviews(1)) - 1
    with rasterio.open(raster, overview_level=last) as file:
        seen, colours = file.read(1), file.colormap(1)
    table = np.array([colours[code][:3] for code in range(256)], np.uint8)
    picture = table[seen]
    keep(Image.fromarray(picture), "damage-overview.png")
    step = seen.shape[1] // len(LEGEND)
    for k, row in enumerate(LEGEND):
        middle = picture[10:-10, k * step + 4 : (k + 1) * step - 4]
        assert (middle == row.rgb).all(), row.name


def test_qgis_gets_the_opacities_that_a_geotiff_cannot_hold(raster: Path) -> None:
    qml = raster.with_suffix(".qml").read_text(encoding="utf-8")
    assert qml.strip() == raster_qml()
    root = ElementTree.fromstring(qml)
    entries = {int(e.get("value", -1)): e for e in root.iter("paletteEntry")}
    assert set(entries) == {row.code for row in LEGEND}
    assert entries[0].get("alpha") == "0"
    assert all(e.get("alpha") == "255" for code, e in entries.items() if code)
    assert {code: e.get("color") for code, e in entries.items()} == {r.code: r.hex for r in LEGEND}
    renderer = root.find("pipe/rasterrenderer")
    assert renderer is not None
    assert renderer.get("nodataColor") == "140,140,140,255"
