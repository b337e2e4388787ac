"""How much of each trading limit is used up, for people who watch. Pure; the guards judge by themselves."""

from collections.abc import Sequence

import msgspec

from mt5_bridge.core.decision import Day, Exposure, Limits
from mt5_bridge.core.model import AccountInfo, Order, Position


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """One limit.

    Attributes:
        name: the setting's name in small letters.
        used: how much of it is used; None: not known yet.
        limit: where it ends.
        unit: `trades`, `positions` or `%`.
        least: the figure must stay above the limit, not below it.
    """

    name: str
    used: float | None
    limit: float
    unit: str
    least: bool = False


def usage(
    limits: Limits,
    day: Day | None,
    account: AccountInfo | None,
    positions: Sequence[Position],
    orders: Sequence[Order],
    in_flight: Sequence[Exposure],
) -> tuple[Usage, ...]:
    """The limits that are on, each counted as its guard counts it."""
    open_at_once = len(positions) + len(orders) + len(in_flight)
    start, peak = (None, None) if day is None else (day.start_equity, day.peak_equity)
    found = (
        ("max_daily_trades", _trades(day, orders, in_flight), limits.max_daily_trades, "trades", False),
        (
            "max_daily_loss_pct",
            _fall(start, account),
            limits.max_daily_loss_pct,
            "%",
            False,
        ),
        ("max_drawdown_pct", _fall(peak, account), limits.max_drawdown_pct, "%", False),
        ("max_simultaneous_trades", float(open_at_once), limits.max_simultaneous_trades, "positions", False),
        ("min_margin_level_pct", _margin_level(account), limits.min_margin_level_pct, "%", True),
    )
    return tuple(
        Usage(name=name, used=used, limit=float(limit), unit=unit, least=least)
        for name, used, limit, unit, least in found
        if limit is not None
    )


def _trades(day: Day | None, orders: Sequence[Order], in_flight: Sequence[Exposure]) -> float | None:
    if day is None:
        return None
    pendings = sum(order.time_setup_msc >= day.start_msc for order in orders)
    return float(day.trades + pendings + len(in_flight))


def _fall(reference: float | None, account: AccountInfo | None) -> float | None:
    """Per cent that equity is below a reference, 0 when it is above."""
    if reference is None or account is None:
        return None
    if reference <= 0:
        return 100.0
    return round(max(0.0, (reference - account.equity) / reference * 100), 4)


def _margin_level(account: AccountInfo | None) -> float | None:
    return None if account is None or not account.margin else account.margin_level
