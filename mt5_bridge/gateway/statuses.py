"""Which HTTP status an outcome has. Pure.

What decides is what the asker may do next. 2xx: it is done, or (202) it may be and must not be sent again. 409: the
account, the market or the bridge is in a state that does not let it through; the request is right. 422: the request
itself breaks a rule; change it. 429 and 503: nothing was done, the same may be sent again later. Nothing that may have
reached the market is ever answered with 5xx: clients and proxies repeat those by themselves.
"""

from collections.abc import Mapping

from mt5_bridge.core.messages import Reason, Status

ACCEPTED, NOT_FOUND, CONFLICT, UNPROCESSABLE, TOO_MANY, INTERNAL, UNAVAILABLE = 202, 404, 409, 422, 429, 500, 503

_R = Reason

OF_REASON: Mapping[str, int] = {
    # the request: change it
    **dict.fromkeys(
        (
            _R.INVALID,
            _R.UNSUPPORTED,
            _R.AMBIGUOUS_SYMBOL,
            _R.BELOW_MIN_VOLUME,
            _R.MAX_VOLUME,
            _R.NO_STOP_LOSS,
            _R.INVALID_STOPS,
            _R.STOPS_LEVEL,
            _R.RISK,
            _R.PRICE_COLLAR,
            _R.STALE,
            _R.FROM_FUTURE,
            _R.ACCOUNT_MISMATCH,
        ),
        UNPROCESSABLE,
    ),
    # what it names is not there
    _R.UNKNOWN_SYMBOL: NOT_FOUND,
    _R.NOT_FOUND: NOT_FOUND,
    # who asks may not
    _R.FORBIDDEN: 403,
    _R.BAD_SIGNATURE: 403,
    # the state of bridge, account or market
    **dict.fromkeys(
        (
            _R.TRADING_DISABLED,
            _R.HALTED,
            _R.REDUCING,
            _R.SYMBOL_BLOCKED,
            _R.MARKET_CLOSED,
            _R.NO_QUOTE,
            _R.DUPLICATE,
            _R.SPREAD,
            _R.DRIFT,
            _R.OPEN_RISK,
            _R.MARGIN,
            _R.MARGIN_LEVEL,
            _R.DAILY_TRADES,
            _R.DAILY_LOSS,
            _R.DRAWDOWN,
            _R.POSITIONS,
            _R.UNKNOWN_OUTCOME,
            _R.EXPIRED,
            _R.TERMINAL_REFUSED,
            _R.REQUOTES,
            _R.STOP_NOT_SET,
            _R.EMERGENCY_STOP,
            _R.TRAILING_STOP,
            _R.BREAK_EVEN,
        ),
        CONFLICT,
    ),
    # not now
    _R.THROTTLED: TOO_MANY,
    _R.NOT_READY: UNAVAILABLE,
    _R.JOURNAL_UNAVAILABLE: UNAVAILABLE,
    _R.TERMINAL_UNAVAILABLE: UNAVAILABLE,
}
"""The published reasons of `order_result`, every one of them."""

OF_CODE: Mapping[str, int] = {
    "invalid_params": UNPROCESSABLE,
    "unknown_command": NOT_FOUND,
    "survivors": CONFLICT,
    "unknown_intents": CONFLICT,
    "local_only": CONFLICT,
    "unsettled": CONFLICT,
    "not_all_closed": CONFLICT,
    "in_progress": CONFLICT,
    "open_intents": CONFLICT,
    "not_connected": CONFLICT,
    "other_account": 403,
    "login_refused": CONFLICT,
    "overloaded": UNAVAILABLE,
    "shutting_down": UNAVAILABLE,
}
"""Other codes that a command is refused with."""

_DONE = frozenset(
    {Status.FILLED, Status.PARTIAL, Status.PLACED, Status.MODIFIED, Status.CANCELLED, Status.CLOSED, Status.SIMULATED}
)
_NOTHING_SENT = frozenset({Status.DENIED, Status.REJECTED})


def of_code(code: str) -> int:
    """The HTTP status of a refusal where no order was sent; 409 for a code that is not known here."""
    known = OF_REASON.get(code)
    return known if known is not None else OF_CODE.get(code, CONFLICT)


def of_result(status: str, reason: str | None) -> int:
    """The HTTP status of an `order_result`.

    Args:
        status: its `status`.
        reason: its `reason`.
    """
    if status in _DONE:
        return 200
    if status == Status.UNKNOWN:
        return ACCEPTED
    if status in _NOTHING_SENT:
        return CONFLICT if reason is None else of_code(reason)
    return CONFLICT  # abandoned: not found up to now, and no reason to send it again


def code_of_result(status: str, reason: str | None) -> str:
    """The code of the problem that tells of an `order_result`."""
    return reason if status in _NOTHING_SENT and reason else status


def retry_after_s(status: int) -> int | None:
    """Seconds for the header `Retry-After`; None where trying the same again is no remedy."""
    return {TOO_MANY: 1, UNAVAILABLE: 2}.get(status)
