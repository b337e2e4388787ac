"""Faults on the way of a request: what reaches the server, what it does, and what it says it did."""

import math
from typing import Any

import msgspec

from mt5_bridge.simulator.core.rules import COMMENTS, Request
from mt5_bridge.simulator.faults.injector import Fault
from mt5_bridge.simulator.faults.struck import Struck
from mt5_bridge.simulator.functions import arguments, views
from mt5_bridge.simulator.structs import OrderSendResult
from mt5_bridge.simulator.terminal import NOT_FOUND, TerminalError
from mt5_bridge.simulator.trading.dealer import Outcome


def _read(struck: Struck) -> Request:
    """The request as asked for."""
    if struck.request is None:
        struck.request = arguments.request(struck.call.args, struck.call.kwargs)
    return struck.request


def _change(struck: Struck, **changes: Any) -> None:
    """Lets another request reach the server; the answer still echoes the caller's."""
    _read(struck)
    now = arguments.request(struck.call.args, struck.call.kwargs)
    struck.call.args = (msgspec.structs.asdict(msgspec.structs.replace(now, **changes)),)
    struck.call.kwargs = {}


def echo(struck: Struck, _fault: Fault, result: Any) -> Any:
    """The answer shows the request as the caller made it."""
    assert struck.request is not None, "a request was changed before"
    return OrderSendResult.of({**result._asdict(), "request": views.request(struck.request)})


def false_retcode(struck: Struck, fault: Fault) -> None:
    """Answers with a retcode that may be a lie, the request executed or not."""
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


def requote(struck: Struck, fault: Fault) -> None:
    """Refuses, with the prices of now."""
    false_retcode(struck, fault)
    refuse = struck.answer
    assert refuse is not None, "a requote strikes order_send"
    terminal, symbol = struck.call.terminal, _read(struck).symbol

    def answer() -> Any:
        quote = terminal.market.quote(symbol) if symbol in terminal.market.feeds else None
        prices = {} if quote is None else {"bid": quote.bid, "ask": quote.ask}
        return OrderSendResult.of({**refuse()._asdict(), **prices})

    struck.answer = answer


def fill_late(struck: Struck, fault: Fault) -> None:
    """Refuses, and executes later."""
    request = _read(struck)
    terminal = struck.call.terminal
    if not terminal.autotrading:
        return  # it never leaves the terminal
    false_retcode(struck, fault)
    refuse = struck.answer
    assert refuse is not None, "a late fill strikes order_send"

    def answer() -> Any:
        session, now = terminal.synced()
        if request.symbol and request.symbol not in terminal.market.feeds:
            raise TerminalError(*NOT_FOUND)
        session.late.add(now + round(fault.seconds * 1000), request)
        return refuse()

    struck.answer = answer


def fill_part(struck: Struck, fault: Fault) -> None:
    """Lets the market give only a share of the volume."""
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


def rewrite_comment(struck: Struck, fault: Fault) -> None:
    """The server puts a comment of its own in place of the caller's."""
    _change(struck, comment=fault.text)


def truncate_comment(struck: Struck, fault: Fault) -> None:
    """The server keeps the beginning of the comment."""
    _change(struck, comment=_read(struck).comment[: fault.length])
