"""The gateway's own figures, beside those that the bridge gives."""

from typing import TYPE_CHECKING

from mt5_bridge.core.figures import Figures, by_label, kept, one

if TYPE_CHECKING:
    from mt5_bridge.gateway.state import Gateway


def own(gateway: "Gateway") -> Figures:
    """By the names of `catalogue.GATEWAY`."""
    requests, hub = gateway.requests, gateway.hub.totals()
    tiers = gateway.cache.stats()
    found: Figures = {
        "requests_total": [(labels, count) for labels, count in requests.answered.items()],
        "request_seconds": [(labels, histogram) for labels, histogram in requests.seconds.items()],
        "requests_in_flight": one(requests.in_flight),
        "refused_total": by_label(dict(gateway.stats.refused)),
        "websocket_clients": one(len(gateway.hub.clients)),
        "websocket_clients_limit": one(gateway.config.max_connections),
        "websocket_messages_total": by_label({"in": hub["received"], "out": hub["sent"]}),
        "websocket_conflated_total": one(hub["conflated"]),
        "websocket_dropped_total": one(hub["dropped"]),
        "websocket_turned_away_total": by_label({"full": hub["turned_away"], "unauthorized": hub["unauthorized"]}),
        "websocket_refused_total": one(hub["refused"] + hub["invalid"]),
        "audit_entries_total": by_label({"written": gateway.audit.stats.written, "lost": gateway.audit.stats.lost}),
        "cache_hits_total": by_label({name: tier["hits"] + tier["joined"] for name, tier in tiers.items()}),
        "cache_misses_total": by_label({name: tier["misses"] + tier["second"] for name, tier in tiers.items()}),
    }
    return {f"mt5_bridge_gateway_{name}": series for name, series in kept(found).items()}
