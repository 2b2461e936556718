"""What the pages of studies share: their template, pictures within them, settings that are sent on."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from ..gallery.rows import plain

_TEMPLATES = Path(__file__).parents[1] / "templates"


def render(template: str, **values: Any) -> str:
    """Fill a template; what comes from outside is escaped, and can be written whatever it is."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True
    )
    return plain(environment.get_template(template).render(**values))


def shown(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for a page that is sent on: folders by their names, not where they lie."""
    return {**settings, "data": ", ".join(Path(name).name for name in settings["data"])}


def picture(path: Path) -> str:
    """A file's content in base64, empty where there is none."""
    return base64.b64encode(path.read_bytes()).decode() if path.is_file() else ""
