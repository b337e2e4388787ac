"""The way to a route by its path, without trying all others before it: that is a third of a request.

Most readers ask plain GETs, over and over, without parameters or with a name at the path's end. What FastAPI finds out
anew for each of those is known beforehand: which rooms and which scope the route needs. They are called at once, which
halves the rest.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Response
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from mt5_bridge.gateway.auth import Needs, demand
from mt5_bridge.gateway.problems import Problem
from mt5_bridge.gateway.state import Gateway, gateway_of

if TYPE_CHECKING:
    from fastapi._compat import ModelField  # FastAPI gives it to a route, and no other name for it


@dataclass(frozen=True, slots=True)
class Plain:
    """A GET that needs nothing but the gateway's rooms and a scope.

    Attributes:
        route: what FastAPI would find.
        rooms: the endpoint's parameters that take the gateway.
        needs: those that take who asks, with what is asked of them.
        named: the parameter that is the path's end; None: there is none.
    """

    route: APIRoute
    rooms: tuple[str, ...]
    needs: tuple[tuple[str, Needs], ...]
    named: "ModelField | None"

    @property
    def path(self) -> str:
        """The path, up to its parameter."""
        return self.route.path.partition("{")[0]

    async def __call__(self, gateway: Gateway, scope: Scope, receive: Receive, send: Send, **params: str) -> None:
        """Answer one request.

        Raises:
            Problem: 403, or what the endpoint raises.
        """
        scope["route"], scope["endpoint"], scope["path_params"] = self.route, self.route.endpoint, params
        given: dict[str, Any] = dict.fromkeys(self.rooms, gateway) | params
        for name, needs in self.needs:
            principal = scope["state"]["principal"]
            demand(principal, needs.scope)
            given[name] = principal
        endpoint: Callable[..., Awaitable[Response]] = self.route.endpoint
        await (await endpoint(**given))(scope, receive, send)

    def params(self, path: str) -> dict[str, str] | None:
        """The parameters in a path; None: they are none, which FastAPI tells best."""
        if self.named is None:
            return {}
        value, faults = self.named.validate(path[len(self.path) :], loc=("path",))
        return None if faults else {self.named.name: value}


class AtOnce:
    """Stands before FastAPI's own layers, which have nothing to do for what is plain.

    Args:
        otherwise: the app within.
        gateway: the app's rooms.
        plain: what can be called at once, by its path up to the parameter.
    """

    def __init__(self, otherwise: ASGIApp, gateway: Gateway, plain: Mapping[str, Plain]) -> None:
        self._otherwise = otherwise
        self._gateway = gateway
        self._plain = plain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it."""
        if scope["type"] == "http" and scope["method"] == "GET" and not scope["query_string"]:
            path = scope["path"]
            plain = self._plain.get(path) or self._plain.get(path[: path.find("/", 1) + 1])
            if plain is not None and (params := plain.params(path)) is not None:
                try:
                    await plain(self._gateway, scope, receive, send, **params)
                except Problem as problem:  # a route's own: the shield counts only what it turns away itself
                    await problem.response(scope["state"]["request_id"])(scope, receive, send)
                return
        await self._otherwise(scope, receive, send)


class Shortcut:
    """Stands before an app's own look for the route, which still finds whatever is not found here.

    Args:
        otherwise: the router's own way.
        routes: what serves each path, of paths without parameters.
    """

    def __init__(self, otherwise: ASGIApp, routes: Mapping[str, BaseRoute]) -> None:
        self._otherwise = otherwise
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        route = self._routes.get(scope["path"]) if scope["type"] == "http" else None
        if route is not None:
            match, child = route.matches(scope)
            if match is Match.FULL:
                scope.update(child)
                await route.handle(scope, receive, send)
                return
        await self._otherwise(scope, receive, send)


def install(app: FastAPI) -> None:
    """Let an app find its routes so; all of them must be there already."""
    found: dict[str, BaseRoute] = {}
    twice: set[str] = set()
    for outer in app.router.routes:
        for route in _inner(outer):
            if "{" not in route.path and found.setdefault(route.path, outer) is not outer:
                twice.add(route.path)  # by method: the router knows which
    routes = {path: route for path, route in found.items() if path not in twice}
    app.router.middleware_stack = Shortcut(app.router.middleware_stack, routes)


def plain_routes(routes: Iterable[APIRoute]) -> dict[str, Plain]:
    """Those that can be called at once, by their paths up to the parameter."""
    found = [plain for route in routes if (plain := plain_of(route)) is not None]
    return {plain.path: plain for plain in found}


def plain_of(route: APIRoute) -> Plain | None:
    """The route as one that can be called at once; None where it needs more than that."""
    needs = route.dependant
    ends_with_name = re.fullmatch(r"/[^/{]+/\{\w+:path\}", route.path) is not None
    more = [*needs.path_params[ends_with_name:], *needs.header_params, *needs.cookie_params, *needs.body_params]
    if route.methods != {"GET"} or more or any(field.field_info.is_required() for field in needs.query_params):
        return None
    special = (needs.request_param_name, needs.response_param_name, needs.background_tasks_param_name)
    returned = inspect.signature(route.endpoint, eval_str=True).return_annotation
    if any(special) or not (inspect.isclass(returned) and issubclass(returned, Response)):
        return None
    rooms, scopes = [], []
    for each in needs.dependencies:
        if each.name is None:
            return None
        if each.call is gateway_of:
            rooms.append(each.name)
        elif type(each.call) is Needs:
            scopes.append((each.name, each.call))
        else:
            return None
    return Plain(route, tuple(rooms), tuple(scopes), needs.path_params[0] if ends_with_name else None)


def _inner(route: BaseRoute) -> Iterable[APIRoute]:
    """The routes of a route, or of a router that was included."""
    inner = [route] if isinstance(route, APIRoute) else getattr(getattr(route, "original_router", None), "routes", [])
    return [each for each in inner if isinstance(each, APIRoute)]
