"""What a browser is shown: the app as it was built, and the description of the interface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from jinja2 import Environment, PackageLoader
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from .visitors import Anybody

BUILT = Path(__file__).parent / "static"
"""Where `npm run build` in web/app puts the app."""

_TEMPLATES = Environment(loader=PackageLoader("aftermap.web", "templates"), autoescape=True)

router = APIRouter(include_in_schema=False, dependencies=[Anybody])


@router.get("/api/docs")
def docs(request: Request) -> HTMLResponse:
    """The interface, described on one page that loads nothing from elsewhere."""
    schema = request.app.openapi()
    page = _TEMPLATES.get_template("interface.html.j2")
    return HTMLResponse(page.render(info=schema["info"], operations=list(_operations(schema))))


@router.get("/api/docs/interface.css")
def style() -> FileResponse:
    """How that page looks."""
    return FileResponse(
        Path(__file__).parent / "templates" / "interface.css", media_type="text/css"
    )


class App(StaticFiles):
    """The built app: files whose names hold a digest are kept for ever, the page never."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """One file; 404 for anything that does not lie in the folder."""
        response = await super().get_response(path, scope)
        kept = path.startswith("assets/") and response.status_code in (200, 304)
        response.headers["Cache-Control"] = (
            "public, max-age=31536000, immutable" if kept else "no-cache"
        )
        return response


def show_app(app: FastAPI, built: Path = BUILT) -> None:
    """Serve the built app at /, or say how it is built."""
    if (built / "index.html").is_file():
        app.mount("/", App(directory=built, html=True), name="app")
        return

    page = _TEMPLATES.get_template("not-built.html.j2").render()
    app.add_route("/", lambda _: HTMLResponse(page, 503))


def _operations(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What the page tells of each path and method."""
    for path, methods in schema["paths"].items():
        for method, said in methods.items():
            body = said.get("requestBody", {}).get("content", {}).get("application/json", {})
            name = body.get("schema", {}).get("$ref", "").rpartition("/")[2]
            yield {
                "path": path,
                "method": method.upper(),
                "role": said.get("x-role"),
                "description": said.get("description", ""),
                "parameters": [
                    {
                        "name": one["name"],
                        "where": one["in"],
                        "required": one.get("required", False),
                        "kind": _kind(one.get("schema", {})),
                    }
                    for one in said.get("parameters", [])
                ],
                "body": _fields(schema, name) if name else [],
            }


def _fields(schema: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = schema["components"]["schemas"][name]
    required = found.get("required", [])
    return [
        {"name": key, "required": key in required, "kind": _kind(one)}
        for key, one in found.get("properties", {}).items()
    ]


def _kind(one: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "anyOf" in one:
        return " or ".join(_kind(part) for part in one["anyOf"])
    if "enum" in one:
        return ", ".join(map(str, one["enum"]))
    return str(one.get("format") or one.get("const") or one.get("type", "anything"))
