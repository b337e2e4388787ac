"""What each kind of fault does to a call of the package, before the terminal works on it and after.

Client-side checks of arguments, as in the official package, come before all trouble that the terminal makes.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import msgspec
import numpy as np

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.core.rules import COMMENTS, Request
from mt5_bridge.simulator.faults.effects import AutotradingOff, Call, FrozenQuotes, Restarting, StaleHistory, StaleList
from mt5_bridge.simulator.faults.injector import Fault
from mt5_bridge.simulator.functions import arguments, views
from mt5_bridge.simulator.functions.functions import Functions
from mt5_bridge.simulator.functions.manners import TEXTS
from mt5_bridge.simulator.market.bars import Records
from mt5_bridge.simulator.structs import OrderSendResult, SymbolInfo, Tick
from mt5_bridge.simulator.terminal import NOT_FOUND, Terminal, TerminalError
from mt5_bridge.simulator.trading.dealer import Outcome

_Answer = Callable[[], Any]


class _Struck(msgspec.Struct):
    """A call and what the faults that hit it have made of it."""

    call: Call
    hits: list[Fault]
    answer: _Answer | None = None
    """Given instead of the terminal's."""
    request: Request | None = None
    """What the caller asked for, where a fault has changed it on its way."""
    undo: list[Callable[[], None]] = []
    """Done when the call is over, however it ended."""


def perform(functions: Functions, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call on which faults may strike.

    Raises:
        ArgumentError: as the function itself.
        TerminalError: as the function itself, or a fault's.
    """
    call = Call(functions, name, args, kwargs)
    try:
        return _perform(call)
    except TerminalError:
        if name == "initialize":
            call.terminal.shutdown()  # it closes what it finds open, and leaves nothing open when it fails
        raise


def _perform(call: Call) -> Any:
    faults = call.terminal.faults
    _end_effects(call.terminal)
    struck = _Struck(call, faults.strike(call.name))
    if call.name in ("order_send", "order_check"):
        arguments.request(call.args, call.kwargs)
    for effect in tuple(faults.effects):
        effect.before(call)
    try:
        for fault in struck.hits:
            _BEFORE.get(fault.kind, _nothing)(struck, fault)
        result = _work(struck)
    finally:
        for undo in struck.undo:
            undo()
    for fault in struck.hits:
        result = _AFTER.get(fault.kind, _unchanged)(struck, fault, result)
    return result


def _work(struck: _Struck) -> Any:
    call = struck.call
    # The oldest has the last word: what struck later has not shown through it yet.
    effects = call.terminal.faults.effects[::-1]
    with ExitStack() as stack:
        for effect in effects:
            stack.enter_context(effect.during(call))
        result = struck.answer() if struck.answer else getattr(call.functions, call.name)(*call.args, **call.kwargs)
    for effect in effects:
        result = effect.show(call, result)
    return result


def clear(terminal: Terminal) -> None:
    """Ends all faults and what they left."""
    terminal.faults.clear()
    terminal.autotrading = True
    terminal.dismiss_impostor()
    if terminal.connected:
        terminal.session.late.clear()


def _end_effects(terminal: Terminal) -> None:
    faults, now = terminal.faults, terminal.clock.now()
    for effect in [effect for effect in faults.effects if effect.over(now)]:
        effect.end(terminal)
        faults.effects.remove(effect)


def _nothing(_struck: _Struck, _fault: Fault) -> None:
    pass


def _unchanged(_struck: _Struck, _fault: Fault, result: Any) -> Any:
    return result


def _error(call: Call, fault: Fault, code: int | None = None) -> TerminalError:
    code = fault.code if code is None else code
    known = TEXTS.get(code, TEXTS[c.RES_E_FAIL])
    if code == c.RES_E_AUTO_TRADING_DISABLED and call.name != "order_send":
        known = TEXTS[c.RES_E_FAIL]  # only order_send has words for it
    return TerminalError(code, fault.text or known)


# Waiting, dying, saying nothing.


def _wait(struck: _Struck, fault: Fault) -> None:
    faults = struck.call.terminal.faults
    if fault.kind == "delay":
        faults.wait(fault.seconds, gil=fault.gil)
    elif fault.kind == "hang":
        faults.hang(gil=fault.gil)
    else:
        faults.die()


def _wait_before(struck: _Struck, fault: Fault) -> None:
    if fault.when == "before":
        _wait(struck, fault)


def _wait_after(struck: _Struck, fault: Fault, result: Any) -> Any:
    if fault.when == "after":
        _wait(struck, fault)
    return result


def _no_answer(struck: _Struck, fault: Fault) -> None:
    raise _error(struck.call, fault)


def _lost_answer(struck: _Struck, fault: Fault, _result: Any) -> Any:
    raise _error(struck.call, fault)


# Orders.


def _read(struck: _Struck) -> Request:
    """The request as asked for."""
    if struck.request is None:
        struck.request = arguments.request(struck.call.args, struck.call.kwargs)
    return struck.request


def _change(struck: _Struck, **changes: Any) -> None:
    """Lets another request reach the server; the answer still echoes the caller's."""
    _read(struck)
    now = arguments.request(struck.call.args, struck.call.kwargs)
    struck.call.args = (msgspec.structs.asdict(msgspec.structs.replace(now, **changes)),)
    struck.call.kwargs = {}


def _echo(struck: _Struck, _fault: Fault, result: Any) -> Any:
    assert struck.request is not None, "a request was changed before"
    return OrderSendResult.of({**result._asdict(), "request": views.request(struck.request)})


def _false_retcode(struck: _Struck, fault: Fault) -> None:
    call = struck.call

    def answer() -> Any:
        if call.name == "order_check" or fault.execute:
            real = getattr(call.functions, call.name)(*call.args, **call.kwargs)
        else:
            real = views.sent(Outcome(fault.retcode), _read(struck), call.functions.next_request_id())
        blank = {field: 0 * value for field, value in real._asdict().items() if isinstance(value, int | float)}
        known = {"request_id": real.request_id} if call.name == "order_send" else {}
        words = COMMENTS.get(fault.retcode, "")
        return type(real).of({**blank, **known, "retcode": fault.retcode, "comment": words, "request": real.request})

    if call.name in ("order_send", "order_check"):
        struck.answer = answer


def _requote(struck: _Struck, fault: Fault) -> None:
    _false_retcode(struck, fault)
    refuse = struck.answer
    assert refuse is not None, "a requote strikes order_send"
    terminal, symbol = struck.call.terminal, _read(struck).symbol

    def answer() -> Any:
        quote = terminal.market.quote(symbol) if symbol in terminal.market.feeds else None
        prices = {} if quote is None else {"bid": quote.bid, "ask": quote.ask}
        return OrderSendResult.of({**refuse()._asdict(), **prices})

    struck.answer = answer


def _fill_late(struck: _Struck, fault: Fault) -> None:
    request = _read(struck)
    terminal = struck.call.terminal
    if not terminal.autotrading:
        return  # it never leaves the terminal
    _false_retcode(struck, fault)
    refuse = struck.answer
    assert refuse is not None, "a late fill strikes order_send"

    def answer() -> Any:
        session, now = terminal.synced()
        if request.symbol and request.symbol not in terminal.market.feeds:
            raise TerminalError(*NOT_FOUND)
        session.late.add(now + round(fault.seconds * 1000), request)
        return refuse()

    struck.answer = answer


def _fill_part(struck: _Struck, fault: Fault) -> None:
    request = _read(struck)
    feed = struck.call.terminal.market.feeds.get(request.symbol)
    if feed is None or not math.isfinite(request.volume):
        return
    spec = feed.spec
    steps = math.floor(request.volume * fault.share / spec.volume_step + 1e-9)
    dealer = struck.call.terminal.session.dealer
    dealer.scarce = max(round(steps * spec.volume_step, 8), spec.volume_min)

    def undo() -> None:
        dealer.scarce = None

    struck.undo.append(undo)


def _rewrite_comment(struck: _Struck, fault: Fault) -> None:
    _change(struck, comment=fault.text)


def _truncate_comment(struck: _Struck, fault: Fault) -> None:
    _change(struck, comment=_read(struck).comment[: fault.length])


# The terminal.


def _switch_autotrading(struck: _Struck, fault: Fault) -> None:
    terminal = struck.call.terminal
    terminal.autotrading = fault.kind == "autotrading_on"
    if fault.kind == "autotrading_off" and fault.seconds:
        terminal.faults.effects.append(AutotradingOff(_until(struck, fault)))


def _change_offset(struck: _Struck, fault: Fault) -> None:
    struck.call.terminal.market.change_offset(round(fault.seconds))


def _swap_account(struck: _Struck, fault: Fault) -> None:
    struck.call.terminal.admit_impostor(fault.login, fault.server)


def _restart_before(struck: _Struck, fault: Fault) -> None:
    if fault.when == "before":
        _restart(struck, fault, c.RES_E_INTERNAL_FAIL_SEND)


def _restart_after(struck: _Struck, fault: Fault, result: Any) -> Any:
    if fault.when == "after":
        _restart(struck, fault, c.RES_E_INTERNAL_FAIL_RECEIVE)
    return result


def _restart(struck: _Struck, fault: Fault, code: int) -> None:
    """The pipe breaks under this call; later ones find no connection, and `initialize` waits in vain for a while."""
    call = struck.call
    call.terminal.restart()
    call.terminal.faults.effects.append(Restarting(_until(struck, fault), _error(call, fault)))
    raise TerminalError(code, TEXTS[code])


def _until(struck: _Struck, fault: Fault) -> int:
    return struck.call.now + round(fault.seconds * 1000)


# Lists and prices.


def _stale_list(struck: _Struck, fault: Fault) -> None:
    call = struck.call
    what = fault.kind.removesuffix("_lag")
    call.terminal.faults.effects.append(StaleList(_until(struck, fault), call.functions, what))


def _stale_history(struck: _Struck, fault: Fault) -> None:
    terminal = struck.call.terminal
    ledger = terminal.synced()[0].account.ledger
    terminal.faults.effects.append(StaleHistory(_until(struck, fault), ledger.next_ticket, frozenset(ledger.orders)))


def _freeze(struck: _Struck, fault: Fault) -> None:
    terminal = struck.call.terminal
    terminal.faults.effects.append(FrozenQuotes(_until(struck, fault), struck.call.now, fault.symbol))


def _zero_tick(struck: _Struck, fault: Fault, result: Any) -> Any:
    if not struck.call.concerns(fault.symbol):
        return result
    if isinstance(result, Tick):
        return Tick((0, 0.0, 0.0, 0.0, 0, 0, 0, 0.0))
    return SymbolInfo.of({**result._asdict(), "time": 0, "bid": 0.0, "ask": 0.0, "spread": 0})


def _duplicate_ticks(struck: _Struck, fault: Fault, result: Any) -> Any:
    if not _is_ticks(struck.call, fault):
        return result
    ticks = np.repeat(result, np.where(_chosen(result["time_msc"], fault, struck), 2, 1))
    return ticks[: len(result)] if struck.call.name == "copy_ticks_from" else ticks


def _shuffle_ticks(struck: _Struck, fault: Fault, result: Any) -> Any:
    """Swaps ticks with the one before, in the same millisecond: a pair within one second, so that no call splits it."""
    if not _is_ticks(struck.call, fault) or len(result) < 2:
        return result
    ticks: Records = result.copy()
    seconds = ticks["time"]
    chosen = np.flatnonzero(_chosen(ticks["time_msc"], fault, struck)[:-1] & (seconds[:-1] == seconds[1:]))
    after = -1
    for place in chosen.tolist():
        if place > after:
            ticks[[place, place + 1]] = ticks[[place + 1, place]]
            ticks["time_msc"][place] = ticks["time_msc"][place + 1]
            after = place + 1
    return ticks


def _is_ticks(call: Call, fault: Fault) -> bool:
    return call.name.startswith("copy_ticks_") and call.concerns(fault.symbol)


def _chosen(times: Any, fault: Fault, struck: _Struck) -> Any:
    """Which ticks are touched: by time and seed alone, so that asking again gives the same."""
    seed = np.uint64(struck.call.terminal.faults.seed & 0xFFFFFFFF)
    mixed = (times.astype(np.uint64) + seed) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    return (mixed >> np.uint64(40)).astype(np.float64) < fault.share * (1 << 24)


_BEFORE: dict[str, Callable[[_Struck, Fault], None]] = {
    "delay": _wait_before,
    "hang": _wait_before,
    "crash": _wait_before,
    "none": _no_answer,
    **dict.fromkeys(("retcode", "executed_then_timeout", "timeout", "no_connection", "server_error"), _false_retcode),
    "requote": _requote,
    "late_fill": _fill_late,
    "partial_fill": _fill_part,
    "comment_rewritten": _rewrite_comment,
    "comment_truncated": _truncate_comment,
    **dict.fromkeys(("autotrading_off", "autotrading_on"), _switch_autotrading),
    **dict.fromkeys(("positions_lag", "orders_lag"), _stale_list),
    "history_lag": _stale_history,
    "frozen_quotes": _freeze,
    "clock_offset": _change_offset,
    "terminal_restart": _restart_before,
    "account_swap": _swap_account,
}
_AFTER: dict[str, Callable[[_Struck, Fault, Any], Any]] = {
    "delay": _wait_after,
    "hang": _wait_after,
    "crash": _wait_after,
    "executed_then_none": _lost_answer,
    "comment_rewritten": _echo,
    "comment_truncated": _echo,
    "zero_tick": _zero_tick,
    "duplicate_ticks": _duplicate_ticks,
    "shuffled_ticks": _shuffle_ticks,
    "terminal_restart": _restart_after,
}
