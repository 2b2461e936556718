"""Map styles from the legend: QML for QGIS, and SLD 1.0 for GeoServer and others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from .legend import LEGEND, UNGRADED, Entry, entry

_OPACITY = 190
"""Of a solid fill, 0-255: the image shows through."""


@dataclass(frozen=True)
class Style:
    """One style in the two languages that a GeoPackage can carry."""

    qml: str
    """For QGIS."""
    sld: str
    """For everything else that reads `layer_styles`: Styled Layer Descriptor 1.0."""


def default_styles() -> dict[str, Style]:
    """Styles for the layers of a run."""
    classes = {row.code: row for row in LEGEND if row.code != 0}
    return {
        "buildings": by_value("buildings", "damage_class", classes),
        "damage_areas": by_value("damage_areas", "damage_class", {UNGRADED: entry(UNGRADED)}),
        "not_analysed": alike("not_analysed", LEGEND[-1]),
    }


def by_value(layer: str, column: str, values: Mapping[Any, Entry], points: bool = False) -> Style:
    """A style that draws each value of a column like a row of the legend."""
    kind = "string" if any(isinstance(value, str) for value in values) else "long"
    # A scheme may give two codes one name: its label is then the scheme's, not ours.
    labels = {v: v if isinstance(v, str) else row.name for v, row in values.items()}
    categories = "".join(
        f'<category value={quoteattr(str(value))} type="{kind}" symbol="{k}" render="true" '
        f"label={quoteattr(labels[value])}/>"
        for k, value in enumerate(values)
    )
    symbols = "".join(_symbol(str(k), row, points) for k, row in enumerate(values.values()))
    qml = _document(
        f'<renderer-v2 type="categorizedSymbol" attr={quoteattr(column)} enableorderby="0">'
        f"<categories>{categories}</categories><symbols>{symbols}</symbols></renderer-v2>"
    )
    rules = "".join(
        _rule(
            labels[value],
            row,
            points,
            "<ogc:Filter><ogc:PropertyIsEqualTo>"
            f"<ogc:PropertyName>{escape(column)}</ogc:PropertyName>"
            f"<ogc:Literal>{escape(str(value))}</ogc:Literal>"
            "</ogc:PropertyIsEqualTo></ogc:Filter>",
        )
        for value, row in values.items()
    )
    return Style(qml, _descriptor(layer, rules))


def raster_qml() -> str:
    """A QGIS style for a class raster, to lie beside it under its name.

    A GeoTIFF's own colours know no opacity: background would be white over the image, and what
    was not analysed, being nodata, would be clear.
    """
    entries = "".join(
        f'<paletteEntry value="{row.code}" color="{row.hex}" alpha="{row.opacity}" '
        f"label={quoteattr(row.name)}/>"
        for row in LEGEND
    )
    unseen = ",".join(map(str, (*LEGEND[-1].rgb, LEGEND[-1].opacity)))
    return _document(
        f'<pipe><rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" '
        f'nodataColor="{unseen}"><colorPalette>{entries}</colorPalette></rasterrenderer></pipe>'
    )


def alike(layer: str, row: Entry) -> Style:
    """A style that draws everything like one row of the legend."""
    symbol = _symbol("0", row, points=False)
    qml = _document(f'<renderer-v2 type="singleSymbol"><symbols>{symbol}</symbols></renderer-v2>')
    return Style(qml, _descriptor(layer, _rule(row.name, row, points=False)))


def _document(renderer: str) -> str:
    doctype = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
    return f'{doctype}<qgis version="3.28.0" styleCategories="Symbology">{renderer}</qgis>'


def _symbol(name: str, row: Entry, points: bool) -> str:
    """A fill in the entry's colour, stripes in it, or a dot."""
    red, green, blue = row.rgb
    rim = f"{red // 2},{green // 2},{blue // 2},255"
    options = {"color": f"{red},{green},{blue},{255 if row.hatched or points else _OPACITY}"}
    if points:
        options |= {"name": "circle", "size": "2", "size_unit": "MM"}
    else:
        options |= {"style": "b_diagonal" if row.hatched else "solid"}
    options |= {
        "outline_color": rim,
        "outline_width": "0.2",
        "outline_width_unit": "MM",
        "outline_style": "solid",
    }
    listed = "".join(
        f'<Option name={quoteattr(key)} type="QString" value={quoteattr(value)}/>'
        for key, value in options.items()
    )
    kind, layer = ("marker", "SimpleMarker") if points else ("fill", "SimpleFill")
    return (
        f'<symbol type="{kind}" name="{name}" alpha="1"><layer class="{layer}" enabled="1">'
        f'<Option type="Map">{listed}</Option></layer></symbol>'
    )


def _descriptor(layer: str, rules: str) -> str:
    """An SLD document for one layer."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<StyledLayerDescriptor version="1.0.0" xmlns="http://www.opengis.net/sld" '
        'xmlns:ogc="http://www.opengis.net/ogc">'
        f"<NamedLayer><Name>{escape(layer)}</Name><UserStyle><Name>{escape(layer)}</Name>"
        f"<FeatureTypeStyle>{rules}</FeatureTypeStyle></UserStyle></NamedLayer>"
        "</StyledLayerDescriptor>"
    )


def _rule(title: str, row: Entry, points: bool, condition: str = "") -> str:
    """One rule of an SLD: which rows, and how they look."""
    fill = _parameters("Fill", {"fill": row.hex, "fill-opacity": f"{_OPACITY / 255:.2f}"})
    rim = "#{:02x}{:02x}{:02x}".format(*(value // 2 for value in row.rgb))
    stroke = _parameters("Stroke", {"stroke": rim, "stroke-width": "0.7"})
    if points:
        mark = f"<Mark><WellKnownName>circle</WellKnownName>{fill}{stroke}</Mark>"
        symbol = f"<PointSymbolizer><Graphic>{mark}<Size>7</Size></Graphic></PointSymbolizer>"
    else:
        if row.hatched:
            line = _parameters("Stroke", {"stroke": row.hex, "stroke-width": "1"})
            mark = f"<Mark><WellKnownName>shape://slash</WellKnownName>{line}</Mark>"
            fill = (
                f"<Fill><GraphicFill><Graphic>{mark}<Size>8</Size></Graphic></GraphicFill></Fill>"
            )
        symbol = f"<PolygonSymbolizer>{fill}{stroke}</PolygonSymbolizer>"
    return f"<Rule><Name>{escape(title)}</Name><Title>{escape(title)}</Title>{condition}{symbol}</Rule>"


def _parameters(element: str, values: Mapping[str, str]) -> str:
    listed = "".join(
        f'<CssParameter name="{name}">{value}</CssParameter>' for name, value in values.items()
    )
    return f"<{element}>{listed}</{element}>"
