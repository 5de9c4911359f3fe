"""What the HTTP service serves: push, the data API, the example's page, and whether it lives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from push.service import static_directory
from rowcast.installation import Installation

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def make_app(installation: Installation, served: Sequence[BaseRoute]) -> Starlette:
    """The application; `served` is what the rooms serve."""
    routes = [
        *served,
        Route("/healthz", _health),
        Mount("/static", StaticFiles(directory=static_directory())),
    ]
    page = EXAMPLES / (installation.configuration.example or "none") / "web"
    if page.is_dir():
        routes.append(Mount("/", StaticFiles(directory=page, html=True)))
    return Starlette(routes=routes)


def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})
