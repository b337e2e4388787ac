"""A call that faults have hit."""

from collections.abc import Callable
from typing import Any

import msgspec

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.core.rules import Request
from mt5_bridge.simulator.faults.effects import Call
from mt5_bridge.simulator.faults.injector import Fault
from mt5_bridge.simulator.functions import arguments
from mt5_bridge.simulator.functions.manners import TEXTS
from mt5_bridge.simulator.terminal import TerminalError


class Struck(msgspec.Struct):
    """A call and what the faults that hit it have made of it."""

    call: Call
    hits: list[Fault]
    answer: Callable[[], Any] | None = None
    """Given instead of the terminal's."""
    changed: Request | None = None
    """What reaches the server, where a fault has changed the request on its way."""
    undo: list[Callable[[], None]] = []
    """Done when the call is over, however it ended."""

    @property
    def request(self) -> Request:
        """What the caller asked for."""
        return arguments.request(self.call.args, self.call.kwargs)

    def work(self) -> Any:
        """What the terminal itself answers."""
        functions = self.call.functions
        if self.changed is not None:
            return functions.send(self.changed)
        return getattr(functions, self.call.name)(*self.call.args, **self.call.kwargs)


def error(call: Call, fault: Fault, code: int | None = None) -> TerminalError:
    """What the call fails with: the fault's code (or `code`), in the fault's words or those known for it."""
    code = fault.code if code is None else code
    known = TEXTS.get(code, TEXTS[c.RES_E_FAIL])
    if code == c.RES_E_AUTO_TRADING_DISABLED and call.name != "order_send":
        known = TEXTS[c.RES_E_FAIL]  # only order_send has words for it
    return TerminalError(code, fault.text or known)


def until(struck: Struck, fault: Fault) -> int:
    """When a fault ends that lasts (UTC, ms)."""
    return struck.call.now + round(fault.seconds * 1000)
