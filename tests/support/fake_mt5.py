"""A small stand-in for the `MetaTrader5` module, run inside a real terminal host by tests of the terminal room.

`configure` takes a fault script as settings: `FAULT_<function>` = a comma-separated list of what the 1st, 2nd, … call
does: `ok`, `hang`, `gate` (waits until the file GATE is there), `crash`, `print`, `raise`, a number (None or False with
that last_error); the last one repeats.
"""

import os
import struct
import sys
import time
from types import SimpleNamespace
from typing import Any

_RECORD = struct.Struct("<qdddQqId")
_BASE_S = 1_700_000_000
_ERRORS = {1: "Success", -2: "Invalid arguments", -4: "Terminal: Not found", -6: "Terminal: Authorization failed"}

_settings: dict[str, str] = {}
_calls: dict[str, int] = {}
_error = 1
_login = 0
_server = ""
_sent: list[dict[str, Any]] = []
_ticks: dict[str, list[tuple[int, float, float]]] = {}


def configure(settings: dict[str, str]) -> None:
    if settings.get("REFUSE"):
        raise ValueError(settings["REFUSE"])
    _settings.update(settings)
    for name in settings.get("SYMBOLS", "EURUSD").split(","):
        _ticks[name] = [
            ((_BASE_S + i // 10) * 1000 + i % 10 // 2, 1.1 + i / 1e5, 1.1001 + i / 1e5)
            for i in range(int(settings.get("TICKS", "30")))
        ]


def _fault(name: str, failed: Any = None) -> Any:
    """None to go on, else (what to return,)."""
    global _error
    nth = _calls[name] = _calls.get(name, 0) + 1
    script = _settings.get(f"FAULT_{name}", "ok").split(",")
    step = script[min(nth, len(script)) - 1]
    _error = 1
    if step == "ok":
        return None
    if step == "hang":
        time.sleep(3600)
    if step == "gate":
        while not os.path.exists(_settings["GATE"]):
            time.sleep(0.002)
        return None
    if step == "crash":
        os._exit(7)
    if step == "print":
        sys.stdout.write("stray text on stdout\n")
        os.write(1, b"and below Python\n")
        return None
    if step == "raise":
        raise RuntimeError("a defect")
    _error = int(step)
    return (failed,)


def last_error() -> tuple[int, str]:
    return _error, _ERRORS.get(_error, "IPC")


def initialize(*path: str, **options: Any) -> bool:
    global _login, _server
    if fault := _fault("initialize", False):
        return bool(fault[0])
    _login = int(_settings.get("OPEN_LOGIN") or options.get("login") or 1001)
    _server = _settings.get("OPEN_SERVER") or options.get("server") or "Fake-Demo"
    return True


def login(account: int, **options: Any) -> bool:
    global _login
    if fault := _fault("login", False):
        return bool(fault[0])
    if not _settings.get("STUBBORN"):
        _login = account
    return True


def shutdown() -> bool:
    return True


def account_info() -> Any:
    if fault := _fault("account_info"):
        return fault[0]
    switch = _settings.get("SWITCH_AFTER")
    shown = 9999 if switch and _calls["account_info"] > int(switch) else _login
    return SimpleNamespace(
        login=shown,
        server=_server,
        currency="USD",
        leverage=100,
        balance=10000.0,
        equity=10000.0,
        margin=0.0,
        margin_free=10000.0,
        margin_level=0.0,
        profit=0.0,
        margin_mode=2,
        trade_allowed=True,
        trade_expert=True,
        credit=0.0,
        name="Fake",
        company="Fake",
        fifo_close=False,
    )


def terminal_info() -> Any:
    if fault := _fault("terminal_info"):
        return fault[0]
    return SimpleNamespace(
        connected=True,
        trade_allowed=True,
        tradeapi_disabled=False,
        name="Fake",
        company="Fake",
        build=1,
        path="",
        ping_last=1000,
    )


def symbol_info(name: str) -> Any:
    global _error
    if fault := _fault("symbol_info"):
        return fault[0]
    if name not in _ticks:
        _error = -4
        return None
    return SimpleNamespace(
        name=name,
        digits=5,
        point=1e-5,
        trade_tick_size=0.0,
        trade_tick_value=1.0,
        trade_contract_size=100000.0,
        volume_min=0.01,
        volume_max=100.0,
        volume_step=0.01,
        volume_limit=0.0,
        trade_stops_level=0,
        trade_freeze_level=0,
        trade_mode=4,
        trade_exemode=2,
        filling_mode=int(_settings.get("FILLING_BITS", "3")),
        order_mode=127,
        expiration_mode=int(_settings.get("EXPIRATION_MODE", "15")),
        trade_calc_mode=0,
        currency_base=name[:3],
        currency_profit="USD",
        currency_margin="EUR",
        description="",
        path="",
        spread=10,
        select=bool(_calls.get("symbol_select")),
    )


def symbol_select(name: str, enable: bool, /) -> bool:
    fault = _fault("symbol_select", False)
    return bool(fault[0]) if fault else True


def symbols_get(group: str = "") -> Any:
    if fault := _fault("symbols_get"):
        return fault[0]
    part = group.strip("*")
    return tuple(symbol_info(name) for name in _ticks if part in name)


def symbol_info_tick(name: str) -> Any:
    global _error
    if fault := _fault("symbol_info_tick"):
        return fault[0]
    if name not in _ticks:
        _error = -4
        return None
    shown = _shown(name)
    if not shown:
        return SimpleNamespace(time_msc=0, bid=0.0, ask=0.0, last=0.0, volume=0, volume_real=0.0)
    time_msc, bid, ask = shown[-1]
    return SimpleNamespace(time_msc=time_msc, bid=bid, ask=ask, last=0.0, volume=0, volume_real=0.0)


def _shown(name: str) -> list[tuple[int, float, float]]:
    """`LIVE`: one tick more is there with each look at the symbol."""
    if not _settings.get("LIVE"):
        return _ticks[name]
    return _ticks[name][: _calls.get("symbol_info_tick", 0)]


def copy_ticks_from(name: str, start: int, count: int, flags: int, /) -> Any:
    if fault := _fault("copy_ticks_from"):
        return fault[0]
    return _packed([t for t in _shown(name) if t[0] >= start * 1000][:count])


def copy_ticks_range(name: str, start: int, end: int, flags: int, /) -> Any:
    if fault := _fault("copy_ticks_range"):
        return fault[0]
    return _packed([t for t in _shown(name) if start * 1000 <= t[0] <= end * 1000])


def _packed(ticks: list[tuple[int, float, float]]) -> memoryview:
    return memoryview(b"".join(_RECORD.pack(t // 1000, bid, ask, 0.0, 0, t, 6, 0.0) for t, bid, ask in ticks))


def copy_rates_from(name: str, timeframe: int, start: int, count: int, /) -> Any:
    return _rates(start, count)


def copy_rates_from_pos(name: str, timeframe: int, position: int, count: int, /) -> Any:
    return _rates(_BASE_S, count)


def _rates(end: int, count: int) -> Any:
    if fault := _fault("copy_rates"):
        return fault[0]
    pack = struct.Struct("<qddddQiQ").pack
    return memoryview(b"".join(pack(end - 60 * i, 1.1, 1.2, 1.0, 1.15, 7, 10, 0) for i in reversed(range(count))))


def positions_get(**which: Any) -> Any:
    fault = _fault("positions_get")
    return fault[0] if fault else ()


def orders_get(**which: Any) -> Any:
    fault = _fault("orders_get")
    return fault[0] if fault else ()


def history_orders_get(*dates: int, **which: Any) -> Any:
    fault = _fault("history_orders_get")
    return fault[0] if fault else ()


def history_deals_get(*dates: int, **which: Any) -> Any:
    fault = _fault("history_deals_get")
    return fault[0] if fault else ()


def order_calc_margin(type_: int, name: str, volume: float, price: float, /) -> Any:
    fault = _fault("order_calc_margin")
    return fault[0] if fault else volume * price * 1000


def order_calc_profit(type_: int, name: str, volume: float, start: float, end: float, /) -> Any:
    fault = _fault("order_calc_profit")
    return fault[0] if fault else (end - start) * (1 if type_ == 0 else -1) * volume * 100000


def order_check(request: dict[str, Any]) -> Any:
    if fault := _fault("order_check"):
        return fault[0]
    good = int(_settings.get("TAKES_FILLING", request.get("type_filling", 0))) == request.get("type_filling", 0)
    return SimpleNamespace(retcode=0 if good else 10030, comment="Done" if good else "Unsupported filling mode")


def order_send(request: dict[str, Any]) -> Any:
    if fault := _fault("order_send"):
        return fault[0]
    _sent.append(request)
    return SimpleNamespace(
        retcode=int(_settings.get("RETCODE", "10009")),
        deal=len(_sent),
        order=len(_sent),
        volume=request.get("volume", 0.0),
        price=request.get("price", 0.0),
        bid=1.1,
        ask=1.1001,
        comment=repr(request),
    )
