"""The description against a running gateway: nothing it does not tell of is answered, whatever is asked, and no 5xx."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, GenerationMode
from schemathesis import openapi as description
from schemathesis.checks import CHECKS, load_all_checks
from support.broker import free_port
from support.daemon import Daemon
from support.eventually import wait_for
from support.gateway import READY_S, TOKEN, bearer

PUBLISHED = json.loads((Path(__file__).parents[2] / "docs/openapi.json").read_text(encoding="utf-8"))
CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
"""Tokens and scopes have a matrix of their own, in tests/gateway."""
EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "4"))
"""Of each operation and kind; .ci/deep asks for more."""

load_all_checks()


def operations() -> dict[str, APIOperation[Any, Any, Any, Any]]:
    made: Any = description.from_dict(PUBLISHED)
    found = (result.ok() for result in made.get_all_operations())
    return {operation.label: operation for operation in found}


OPERATIONS = operations()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A daemon with a gateway, ready to trade."""
    port = free_port()
    env = {
        "REDPANDA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}", "GATEWAY_ENABLED": "true", "GATEWAY_TOKEN": TOKEN,
        "MT5_BRIDGE_PORT": str(port), "RATE_LIMIT_REQUESTS": "1000000", "RESUME_REMOTE": "true",
    }  # fmt: skip
    daemon = Daemon(tmp_path_factory.mktemp("described"), env)
    daemon.start()
    try:
        wait_for(lambda: daemon.ended is not None or "Journal and terminal agree" in daemon.console, READY_S)
        assert daemon.ended is None, daemon.console
        yield f"http://127.0.0.1:{port}"
        assert daemon.ended is None, daemon.console[-3000:]
        assert "gateway failed" not in daemon.console
    finally:
        daemon.close()


def test_the_gateway_tells_what_is_published(url: str) -> None:
    told = httpx.get(f"{url}/openapi.json", trust_env=False).json()
    assert told == PUBLISHED


def test_every_operation_is_asked() -> None:
    told = {f"{method.upper()} {path}" for path, item in PUBLISHED["paths"].items() for method in item}
    assert set(OPERATIONS) == told


def asked_for() -> Iterator[tuple[str, GenerationMode]]:
    """Every operation as it is meant, and those that take anything as they are not."""
    for path, item in PUBLISHED["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", GenerationMode.POSITIVE
            if "parameters" in operation or "requestBody" in operation:
                yield f"{method.upper()} {path}", GenerationMode.NEGATIVE


@pytest.mark.parametrize(("label", "mode"), list(asked_for()))
def test_nothing_undocumented_is_answered(url: str, label: str, mode: GenerationMode) -> None:
    operation = OPERATIONS[label]
    checks: Any = CHECKS.get_by_names(CHECKED)

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def asked(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(generation_mode=mode))
        response = case.call(base_url=url, headers=bearer())
        case.validate_response(response, checks=checks, headers=bearer())

    asked()
