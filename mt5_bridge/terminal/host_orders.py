"""The dict that `order_send` wants: strictly typed, only the fields of its deed, with the filling the broker takes."""

from collections.abc import Callable
from typing import Any

from mt5_bridge.core.model import Deed, Execution, Filling, FillingBits, OrderRequest

INVALID_FILL = 10030
NO_CHANGES = (10025, 0, 0, 0.0, 0.0, 0.0, 0.0, "stop and target stand there already, the stop at least as near")
POSITION_GONE = (10036, 0, 0, 0.0, 0.0, 0.0, 0.0, "the position is gone, or has turned round")
"""What the terminal would answer."""

_ACTIONS = {
    Deed.DEAL: 1,
    Deed.PENDING: 5,
    Deed.SLTP: 6,
    Deed.MODIFY: 7,
    Deed.REMOVE: 8,
    Deed.CLOSE_BY: 10,
}
_TIME_GTC, _TIME_DAY, _TIME_SPECIFIED = 0, 1, 2
_EXPIRES_GTC, _EXPIRES_DAY = 1, 2
_PRICED = (Deed.DEAL, Deed.PENDING, Deed.MODIFY)
_TIMED = (Deed.PENDING, Deed.MODIFY)


def wants_price(request: OrderRequest) -> bool:
    """A market deal without a price gets the current one."""
    return request.deed is Deed.DEAL and not request.price


def wants_filling(request: OrderRequest) -> bool:
    """A market deal without a filling gets one that the broker takes."""
    return request.deed is Deed.DEAL and request.filling is None


def build(request: OrderRequest, info: Any, tick: Any, expiration_s: int) -> dict[str, Any]:
    """The dict for `order_send` and `order_check`.

    Args:
        request: what is asked for; zero means absent.
        info: the symbol's `symbol_info`, None for deeds without symbol. Prices are rounded to its digits.
        tick: the symbol's last tick where a price is wanted.
        expiration_s: broker seconds, 0 for none.
    """
    order: dict[str, Any] = {"action": _ACTIONS[request.deed]}
    _put(order, "symbol", request.symbol)
    _put(order, "magic", request.magic)
    _put(order, "order", request.order)
    _put(order, "position", request.position)
    _put(order, "position_by", request.position_by)
    _put(order, "comment", request.comment)
    if request.deed in (Deed.DEAL, Deed.PENDING):
        order["type"] = int(request.type)
        order["volume"] = float(request.volume)
    if request.deed in _PRICED:
        _add_prices(order, request, info, tick)
    elif request.deed is Deed.SLTP:
        order["sl"] = _rounded(request.stop_loss, info)
        order["tp"] = _rounded(request.take_profit, info)
    if request.deed is Deed.DEAL:
        order["deviation"] = request.deviation_points
    if request.deed in _TIMED:
        _add_time(order, info, expiration_s)
    if request.filling is not None:
        order["type_filling"] = int(request.filling)
    elif request.deed is Deed.PENDING:
        order["type_filling"] = int(Filling.RETURN)
    return order


def _put(order: dict[str, Any], name: str, value: str | int) -> None:
    if value:
        order[name] = value


def _rounded(price: float, info: Any) -> float:
    return float(price) if info is None else round(float(price), info.digits)


def _add_prices(order: dict[str, Any], request: OrderRequest, info: Any, tick: Any) -> None:
    price = request.price
    if tick is not None:
        price = tick.ask if request.type.side.type == 0 else tick.bid
    order["price"] = _rounded(price, info)
    for name, value in (
        ("stoplimit", request.stop_limit_price),
        ("sl", request.stop_loss),
        ("tp", request.take_profit),
    ):
        if value:
            order[name] = _rounded(value, info)


def _add_time(order: dict[str, Any], info: Any, expiration_s: int) -> None:
    if expiration_s:
        order["type_time"] = _TIME_SPECIFIED
        order["expiration"] = expiration_s
        return
    modes = _EXPIRES_GTC if info is None else info.expiration_mode
    only_day = modes & _EXPIRES_DAY and not modes & _EXPIRES_GTC
    order["type_time"] = _TIME_DAY if only_day else _TIME_GTC


def fillings(execution: int, bits: int) -> list[Filling]:
    """Fillings a market deal may use, the best first. Brokers misreport: confirm with `order_check`.

    Market execution needs the symbol's bit and never RETURN; exchange needs the bit, RETURN always; instant and
    request take all. FOK first: what was sized is what is filled.
    """
    by_bit = [
        filling for filling, bit in ((Filling.FOK, FillingBits.FOK), (Filling.IOC, FillingBits.IOC)) if bits & bit
    ]
    if execution == Execution.EXCHANGE:
        return [*by_bit, Filling.RETURN]
    if execution == Execution.MARKET:
        # Nothing set is a misreport: try them all.
        return by_bit or [Filling.FOK, Filling.IOC, Filling.RETURN]
    return [Filling.FOK, Filling.IOC, Filling.RETURN]


class FillingCache:
    """The filling each symbol is known to take."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def choose(self, order: dict[str, Any], info: Any, check: Callable[[dict[str, Any]], Any]) -> int:
        """The filling for a market deal; the first time `order_check` is asked, and only its 10030 counts."""
        symbol = order["symbol"]
        if symbol in self._known:
            return self._known[symbol]
        candidates = fillings(info.trade_exemode, info.filling_mode)
        for filling in (*candidates, *(f for f in (Filling.FOK, Filling.IOC, Filling.RETURN) if f not in candidates)):
            answer = check({**order, "type_filling": int(filling)})
            if answer is not None and answer.retcode == 0:
                self._known[symbol] = int(filling)
                return int(filling)
            if answer is None or answer.retcode != INVALID_FILL:
                return int(filling)
        return int(candidates[0])

    def forget(self, symbol: str) -> None:
        """The broker refused what was known."""
        self._known.pop(symbol, None)

    def clear(self) -> None:
        """Another account may be behind the terminal now."""
        self._known.clear()
