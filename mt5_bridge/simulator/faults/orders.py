"""Faults on the way of a request: what reaches the server, what it does, and what it says it did."""

import math
import sqlite3
from typing import Any

import msgspec

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.core.rules import COMMENTS
from mt5_bridge.simulator.faults.injector import Fault
from mt5_bridge.simulator.faults.struck import Struck
from mt5_bridge.simulator.functions import views
from mt5_bridge.simulator.structs import OrderSendResult
from mt5_bridge.simulator.trading.dealer import Outcome

_EXECUTED = frozenset({c.TRADE_RETCODE_DONE, c.TRADE_RETCODE_PLACED, c.TRADE_RETCODE_DONE_PARTIAL})


def _change(struck: Struck, **changes: Any) -> None:
    struck.changed = msgspec.structs.replace(struck.changed or struck.request, **changes)


def echo(struck: Struck, _fault: Fault, result: Any) -> Any:
    """The answer shows the request as the caller made it."""
    return OrderSendResult.of({**result._asdict(), "request": views.request(struck.request)})


def false_retcode(struck: Struck, fault: Fault) -> None:
    """Answers with a retcode that may be a lie, the request executed or not."""
    call = struck.call

    def answer() -> Any:
        if call.name == "order_check" or fault.execute:
            real = struck.work()
        else:
            real = views.sent(Outcome(fault.retcode), struck.request, call.functions.next_request_id())
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
    terminal, symbol = struck.call.terminal, struck.request.symbol

    def answer() -> Any:
        quote = terminal.market.quote(symbol) if symbol in terminal.market.feeds else None
        prices = {} if quote is None else {"bid": quote.bid, "ask": quote.ask}
        return OrderSendResult.of({**refuse()._asdict(), **prices})

    struck.answer = answer


def fill_late(struck: Struck, fault: Fault) -> None:
    """Refuses, and executes later."""
    false_retcode(struck, fault)
    refuse = struck.answer
    assert refuse is not None, "a late fill strikes order_send"

    def answer() -> Any:
        functions = struck.call.functions
        session, now = functions.terminal.synced()
        try:
            session.account.delay(now + round(fault.seconds * 1000), struck.changed or struck.request)
        except sqlite3.Error:
            return views.sent(Outcome(c.TRADE_RETCODE_REJECT), struck.request, functions.next_request_id())
        return refuse()

    struck.answer = answer


def leave_bare(_struck: Struck, fault: Fault, result: Any) -> Any:
    """The answer to a request that was executed tells its order, and neither deal nor volume nor prices."""
    if result.retcode not in _EXECUTED:
        return result
    # What was filled in part is never said to be done.
    retcode = result.retcode if result.retcode == c.TRADE_RETCODE_DONE_PARTIAL else fault.retcode
    blank = {"deal": 0, **dict.fromkeys(("volume", "price", "bid", "ask"), 0.0)}
    return OrderSendResult.of({**result._asdict(), **blank, "retcode": retcode, "comment": COMMENTS.get(retcode, "")})


def fill_part(struck: Struck, fault: Fault) -> None:
    """Lets the market give only a share of the volume."""
    request = struck.request
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
    _change(struck, comment=(struck.changed or struck.request).comment[: fault.length])
