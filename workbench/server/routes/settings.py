"""`/workbench/v1/settings`: what the server is set to, and what may be changed while it runs."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from workbench.server import schemas
from workbench.server.routes.common import Endpoint, actor_of, core_of, read_body
from workbench.server.streaming import json_response


async def settings(request: Request) -> Response:
    """List every setting with its value, its default, and where the value came from."""
    return json_response({"settings": core_of(request).settings.rows()})


async def change(request: Request) -> Response:
    """Change settings by name, all or none; null takes a change back."""
    _, body = await read_body(request, schemas.SettingsRequest)
    core = core_of(request)
    changes: dict[str, Any] = body
    core.settings.change(changes, actor=actor_of(request))
    return json_response({"settings": core.settings.rows()})


_TAG = "Workbench"
_V1 = "/workbench/v1"
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("GET", f"{_V1}/settings", settings, "List the settings", _TAG),
    Endpoint("PATCH", f"{_V1}/settings", change, "Change settings", _TAG,
             schemas.SettingsRequest, statuses=(404, 409)),
)  # fmt: skip
