"""schemathesis on the served OpenAPI document, over a real socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.openapi import from_dict
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from tests.server.harness import ServerProcess
from workbench.server.app import ENDPOINTS
from workbench.server.routes.common import Endpoint

EXAMPLES = 12
LEFT_OUT = {
    "/workbench/v1/shutdown": "it would end the server under test",
    "/workbench/v1/events": "its answer never ends by itself",
}
# Paths whose random bodies reach further with the name of a model that is there.
WITH_MODEL = {
    row.path: row for row in ENDPOINTS if row.method == "POST" and not row.path.endswith("create")
}
CHECKS: list[Any] = [
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
# What takes no data cannot be sent bad data.
FUZZED = [
    pytest.param(row, mode, id=f"{row.method} {row.path} {mode.value}")
    for row in ENDPOINTS
    for mode in GenerationMode
    if row.path not in LEFT_OUT
    and (mode is GenerationMode.POSITIVE or row.body is not None or "{" in row.path)
]


@pytest.fixture(scope="module")
def operations(fuzzed: ServerProcess) -> Any:
    """Return the operations of the document that the server serves."""
    schema = from_dict(fuzzed.http.get("/workbench/v1/openapi.json").json())
    schema.config.update(base_url=fuzzed.url)
    return schema


@pytest.fixture(scope="module")
def session(fuzzed: ServerProcess) -> Iterator[requests.Session]:
    """Yield connections that send the token."""
    with requests.Session() as opened:
        opened.trust_env = False
        opened.headers["Authorization"] = f"Bearer {fuzzed.token}"
        yield opened


def fuzz(run: Callable[[Any], None], strategy: Any) -> None:
    """Run a check on the same examples every time."""
    quiet = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    bounded = settings(
        max_examples=EXAMPLES,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=quiet,
    )
    seed(2)(bounded(given(strategy)(run)))()


def reach_further(case: Any, endpoint: Endpoint) -> None:
    """Name the model that is there in half of the bodies, and end its answers soon."""
    body = case.body
    if endpoint.path not in WITH_MODEL or not isinstance(body, dict):
        return
    if isinstance(body.get("model"), str) and len(body["model"]) % 2 == 0:
        body["model"] = "rand"


@pytest.mark.parametrize(("endpoint", "mode"), FUZZED)
def test_endpoint_is_as_documented(
    operations: Any, session: requests.Session, endpoint: Endpoint, mode: GenerationMode
) -> None:
    """Whatever is sent, status and content are documented, bad data is refused, nothing fails."""
    path = endpoint.path.replace(":path}", "}")
    operation = operations[path][endpoint.method]

    def check(case: Any) -> None:
        reach_further(case, endpoint)
        response = case.call(session=session, timeout=60)
        if response.status_code >= 500:
            assert "internal error" not in response.text, response.text
        case.validate_response(response, checks=CHECKS)

    fuzz(check, operation.as_strategy(generation_mode=mode))
