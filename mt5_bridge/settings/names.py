"""The names of settings: the declared ones, their aliases, the nested form, and near misses."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

from mt5_bridge.settings.kinds import Kind
from mt5_bridge.settings.model import Settings

ALIASES = {"MT5_ACCOUNT": "MT5_LOGIN", "RISK_PER_TRADE": "MAX_RISK_PERCENT"}
"""Other names people use, and the setting meant."""

NESTED = {
    "WEBSOCKET_URL": "BACKEND_WS_URL",
    "WEBSOCKET_WS_URL": "BACKEND_WS_URL",
    "WEBSOCKET_TOKEN": "BACKEND_AUTH_TOKEN",
    "WEBSOCKET_AUTH_TOKEN": "BACKEND_AUTH_TOKEN",
    "WEBSOCKET_PORT": "MT5_BRIDGE_PORT",
    "BACKEND_URL": "BACKEND_WS_URL",
    "BACKEND_TOKEN": "BACKEND_AUTH_TOKEN",
    "SECURITY_TOKEN": "GATEWAY_TOKEN",
    "SECURITY_HMAC_KEY": "SIGNAL_HMAC_KEY",
    "SECURITY_PREVIOUS_HMAC_KEY": "SIGNAL_PREVIOUS_HMAC_KEY",
    "GATEWAY_PORT": "MT5_BRIDGE_PORT",
    "LOGGING_LEVEL": "LOG_LEVEL",
    "STOP_EMERGENCY": "EMERGENCY_STOP",
}
"""Group and leaf of the nested form, joined, where the join itself is not the name."""

OWN_GROUPS = frozenset({"MT5", "PAPER", "REDPANDA", "POSTGRES", "REDIS"})
"""Groups whose settings carry the group's name: a leaf alone is no setting there."""

FEATURES_TO_COME = (
    "DATABASE_URL",
    "POSTGRES_HOST",
    "REDIS_URL",
    "REDIS_HOST",
    "PRICE_FETCH_INTERVAL",
    "METRICS_SYNC_INTERVAL",
    "TRADES_SYNC_INTERVAL",
    "MAX_WORKERS",
    "WORKER_TIMEOUT",
)
"""Accepted and checked, but without effect in this version: setting one is answered by a warning."""


class Spec(NamedTuple):
    """One setting as declared."""

    name: str
    kind: Kind
    optional: bool
    default: Any


def _specs() -> dict[str, Spec]:
    defaults = Settings()
    specs = {}
    for attribute, hint in get_type_hints(Settings, include_extras=True).items():
        if get_origin(hint) is Annotated:
            inner, kind = get_args(hint)
            name = attribute.upper()
            specs[name] = Spec(name, kind, type(None) in get_args(inner), getattr(defaults, attribute))
    return specs


SPECS: Mapping[str, Spec] = _specs()


def canonical(name: str) -> str | None:
    """The setting meant by a flat name, in any case; None when there is no such setting."""
    upper = name.upper()
    upper = ALIASES.get(upper, upper)
    return upper if upper in SPECS else None


def canonical_nested(path: Iterable[str]) -> str | None:
    """The setting meant by a path of the nested form, such as `mt5_bridge / mt5 / login`."""
    parts = [part.upper().replace("-", "_") for part in path]
    for start in range(len(parts)):
        joined = "_".join(parts[start:])
        name = NESTED.get(joined) or canonical(joined)
        if name and (start == 0 or not _foreign(parts[start - 1], name)):
            return name
    return None


def _foreign(group: str, name: str) -> bool:
    """`redpanda: {mode: …}` is not MODE, while `mt5: {mt5_login: …}` is MT5_LOGIN."""
    return group in OWN_GROUPS and not name.startswith(f"{group}_")


def near_miss(name: str, cutoff: float) -> str | None:
    """The known name that `name` probably was meant to be."""
    close = difflib.get_close_matches(name.upper(), [*SPECS, *ALIASES], n=1, cutoff=cutoff)
    return close[0] if close else None


def flatten(tree: Mapping[Any, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The leaves of a nested mapping as (path, text); lists become texts with commas, `null` is left out."""
    for key, value in tree.items():
        here = (*path, str(key))
        if isinstance(value, Mapping) and canonical_nested(here) == "PAPER_TICKS":
            yield here, ",".join(f"{symbol}={file}" for symbol, file in value.items())
        elif isinstance(value, Mapping):
            yield from flatten(value, here)
        elif isinstance(value, list):
            yield here, ",".join(str(item) for item in value)
        elif value not in ("null", "~", None):
            yield here, str(value)
