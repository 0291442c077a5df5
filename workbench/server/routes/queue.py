"""`/workbench/v1/queue` and `/workbench/v1/leases`: who waits for what, and what was promised."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from workbench.server import schemas
from workbench.server.core import Core
from workbench.server.residency.host import Host
from workbench.server.residency.leases import Lease
from workbench.server.residency.resident import Lane
from workbench.server.routes.common import Endpoint, actor_of, core_of, read_body
from workbench.server.streaming import json_response
from workbench.units import expiry_after, rfc3339


async def queue(request: Request) -> Response:
    """Show who waits for which model, in which order, and what is expected to be swapped."""
    core = core_of(request)
    lanes: list[dict[str, Any]] = []
    order: list[dict[str, Any]] = []
    swaps = 0
    bounds: dict[Any, float] = {}
    for host in core.residency.hosts.values():
        view = host.queue.snapshot(time.monotonic())
        swaps += view.predicted_swaps
        bounds = dict(view.wait_bound_s)
        for row in view.lanes:
            lanes.append(
                {
                    **_lane(host, row.lane),
                    "state": row.state,
                    "running": row.running,
                    "waiting": row.waiting,
                    "interactive": row.interactive,
                    "batch": row.batch,
                    "oldest_s": row.oldest_s,
                    "bound_s": row.bound_s,
                }
            )
        order += [
            {
                "backend": host.backend.name,
                "model": host.name_of(step.lane),
                "requests": len(step.tickets),
                "swap": step.swap,
            }
            for step in view.order
        ]
    body = {"lanes": lanes, "order": order, "predicted_swaps": swaps, "wait_bound_s": bounds}
    return json_response(body)


def _lane(host: Host, lane: Lane) -> dict[str, Any]:
    return {
        "backend": host.backend.name,
        "model": host.name_of(lane),
        "profile": lane.options,
    }


async def leases(request: Request) -> Response:
    """List the leases that last."""
    rows = [lease_row(lease) for lease in core_of(request).residency.leases]
    return json_response({"leases": rows})


async def acquire(request: Request) -> Response:
    """Promise that models stay in memory, as long as heartbeats come."""
    typed, _ = await read_body(request, schemas.LeaseRequest)
    core = core_of(request)
    names = [await _full_name(core, name) for name in typed.models]
    holder = typed.holder or actor_of(request)
    return json_response(lease_row(core.residency.acquire_lease(names, typed.ttl_s, holder)))


async def _full_name(core: Core, name: str) -> str:
    return (await core.catalog.resolve(name)).full_name


async def heartbeat(request: Request) -> Response:
    """Let a lease last from now on."""
    typed, _ = await read_body(request, schemas.HeartbeatRequest)
    lease = core_of(request).residency.renew_lease(request.path_params["id"], typed.ttl_s)
    return json_response(lease_row(lease))


async def release(request: Request) -> Response:
    """End a lease; its models may leave again."""
    lease = core_of(request).residency.release_lease(request.path_params["id"])
    return json_response(lease_row(lease))


def lease_row(lease: Lease) -> dict[str, Any]:
    """Return a lease as our clients read it."""
    left_s = max(0.0, lease.expires_at - time.monotonic())
    return {
        "id": lease.id,
        "models": list(lease.models),
        "ttl_s": lease.ttl_s,
        "expires_at": rfc3339(expiry_after(left_s)),
        "holder": lease.holder,
    }


_TAG = "Workbench"
_V1 = "/workbench/v1"
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("GET", f"{_V1}/queue", queue, "Show who waits for what", _TAG),
    Endpoint("GET", f"{_V1}/leases", leases, "List the leases", _TAG),
    Endpoint("POST", f"{_V1}/leases", acquire, "Keep models in memory for a while", _TAG,
             schemas.LeaseRequest, statuses=(404, 409)),
    Endpoint("POST", f"{_V1}/leases/{{id}}", heartbeat, "Let a lease last", _TAG,
             schemas.HeartbeatRequest, statuses=(404,)),
    Endpoint("DELETE", f"{_V1}/leases/{{id}}", release, "End a lease", _TAG, statuses=(404,)),
)  # fmt: skip
