"""The way to a route by its path, without trying all others before it: that is a third of a request.

Most readers ask plain GETs, over and over, without parameters. What FastAPI finds out anew for each of those is known
beforehand: which rooms and which scope the route needs. They are called at once, which halves the rest.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Response
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from mt5_bridge.gateway.auth import Needs, demand
from mt5_bridge.gateway.state import Gateway, gateway_of


@dataclass(frozen=True, slots=True)
class Plain:
    """A GET that needs nothing but the gateway's rooms and a scope.

    Attributes:
        route: what FastAPI would find.
        rooms: the endpoint's parameters that take the gateway.
        needs: those that take who asks, with what is asked of them.
    """

    route: APIRoute
    rooms: tuple[str, ...]
    needs: tuple[tuple[str, Needs], ...]

    async def __call__(self, gateway: Gateway, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            Problem: 403, or what the endpoint raises.
        """
        scope["route"], scope["endpoint"], scope["path_params"] = self.route, self.route.endpoint, {}
        given: dict[str, Any] = dict.fromkeys(self.rooms, gateway)
        for name, needs in self.needs:
            principal = scope["state"]["principal"]
            demand(principal, needs.scope)
            given[name] = principal
        endpoint: Callable[..., Awaitable[Response]] = self.route.endpoint
        await (await endpoint(**given))(scope, receive, send)


class Shortcut:
    """Stands before an app's own look for the route, which still finds whatever is not found here.

    Args:
        otherwise: the router's own way.
        gateway: the app's rooms.
        routes: what serves each path, of paths without parameters.
        plain: those of them that can be called at once.
    """

    def __init__(
        self, otherwise: ASGIApp, gateway: Gateway, routes: Mapping[str, BaseRoute], plain: Mapping[str, Plain]
    ) -> None:
        self._otherwise = otherwise
        self._gateway = gateway
        self._routes = routes
        self._plain = plain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._otherwise(scope, receive, send)
            return
        path = scope["path"]
        if scope["method"] == "GET" and not scope["query_string"] and path in self._plain:
            await self._plain[path](self._gateway, scope, receive, send)
            return
        route = self._routes.get(path)
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
    plain: dict[str, Plain] = {}
    twice: set[str] = set()
    for outer in app.router.routes:
        for route in _inner(outer):
            if found.setdefault(route.path, outer) is not outer:
                twice.add(route.path)  # by method: the router knows which
            if (at_once := plain_of(route)) is not None:
                plain[route.path] = at_once
    routes = {path: route for path, route in found.items() if path not in twice}
    app.router.middleware_stack = Shortcut(app.router.middleware_stack, app.state.gateway, routes, plain)


def plain_of(route: APIRoute) -> Plain | None:
    """The route as one that can be called at once; None where it needs more than that."""
    needs = route.dependant
    more = [*needs.path_params, *needs.header_params, *needs.cookie_params, *needs.body_params]
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
    return Plain(route, tuple(rooms), tuple(scopes))


def _inner(route: BaseRoute) -> Iterable[APIRoute]:
    """The routes without parameters in their paths of a route, or of a router that was included."""
    inner = [route] if isinstance(route, APIRoute) else getattr(getattr(route, "original_router", None), "routes", [])
    return [each for each in inner if isinstance(each, APIRoute) and "{" not in each.path]
