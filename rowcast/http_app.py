"""What the HTTP service serves: push, the data API, the example's page, and whether it lives."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from push.service import static_directory
from rowcast.example_files import EXAMPLES
from rowcast.installation import Installation


def make_app(installation: Installation, served: Sequence[BaseRoute]) -> Starlette:
    """The application; `served` is what the rooms serve."""
    routes = [
        *served,
        Route("/healthz", _health),
        Mount("/static", StaticFiles(directory=static_directory())),
    ]
    pages = [
        (name, EXAMPLES / name / "web")
        for name in installation.configuration.examples
        if (EXAMPLES / name / "web").is_dir()
    ]
    routes += [Mount(f"/{name}", StaticFiles(directory=web, html=True)) for name, web in pages]
    routes += [Mount("/", StaticFiles(directory=web, html=True)) for _, web in pages[:1]]
    return Starlette(routes=routes)


def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})
