"""The page on REST names every route with its scope, every code with its status, every tier with its time."""

import re
from pathlib import Path

from fastapi.routing import APIRoute
from support.fake_bridge_port import NOW_MS, Disk, FakePort
from support.gateway import TOKEN

from mt5_bridge.gateway import statuses
from mt5_bridge.gateway.app import create_app, scope_of
from mt5_bridge.gateway.cache import TTL_S
from mt5_bridge.gateway.config import GatewayConfig
from mt5_bridge.gateway.routes import account, market, root, session, stop, trading

PAGE = (Path(__file__).parents[2] / "docs/rest.md").read_text(encoding="utf-8")
OURS = (root, account, market, trading, stop, session)


def rows() -> list[list[str]]:
    """The cells of every table."""
    return [row.split(" | ") for row in re.findall(r"^\| (.+) \|$", PAGE, re.MULTILINE)]


def test_every_route_with_its_scope() -> None:
    create_app(FakePort(), GatewayConfig(token=TOKEN), Disk(), now_ms=lambda: NOW_MS)
    told = {
        (method, path): row[1]
        for row in rows()
        for method, path in re.findall(r"`(GET|POST|PATCH|DELETE) (/[^`]*)`", row[0])
    }
    routes = [route for module in OURS for route in module.router.routes if isinstance(route, APIRoute)]
    found = {
        (method, route.path.replace(":path", "")): str(scope_of(route) or "none")
        for route in routes
        for method in route.methods or ()
    }
    assert told == found


def test_every_code_with_its_status() -> None:
    told = {
        code: int(row[0])
        for row in rows()
        if row[0].isdigit() and len(row) == 2
        for code in re.findall(r"`(\w+)`", row[1])
    }
    known = {str(reason): status for reason, status in statuses.OF_REASON.items()} | dict(statuses.OF_CODE)
    assert told == known


def test_every_tier_with_its_time() -> None:
    times = [row for row in rows() if re.fullmatch(r"[0-9.]+", row[-1])]
    told = {tier: float(row[1]) for row in times for tier in re.findall(r"`(\w+)`", row[0])}
    assert told == dict(TTL_S)
