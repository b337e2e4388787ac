"""What faults do to a call of the package, before the terminal works on it and after.

What the package answers by itself comes before all trouble: arguments that it cannot read, and calls without a
connection. What the terminal refuses by itself comes before all trouble that stands for the server's answer.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from mt5_bridge.simulator.faults import orders, program, shows
from mt5_bridge.simulator.faults.effects import Call
from mt5_bridge.simulator.faults.injector import Fault
from mt5_bridge.simulator.faults.struck import Struck
from mt5_bridge.simulator.functions.functions import Functions, read
from mt5_bridge.simulator.terminal import NO_CONNECTION, Terminal, TerminalError

_UNCONNECTED = frozenset({"initialize", "shutdown"})
"""What needs no connection."""
_OF_ACCOUNT = frozenset({"positions_lag", "orders_lag", "history_lag", "account_swap"})


def perform(functions: Functions, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call on which faults may strike.

    Raises:
        ArgumentError: as the function itself.
        TerminalError: as the function itself, or a fault's.
    """
    read(name, args, kwargs)
    call = Call(functions, name, args, kwargs)
    if not (functions.terminal.connected or name in _UNCONNECTED):
        raise TerminalError(*NO_CONNECTION)
    try:
        return _perform(call)
    except TerminalError:
        if name == "initialize":
            call.terminal.shutdown()  # it closes what it finds open, and leaves nothing open when it fails
        raise


def _perform(call: Call) -> Any:
    faults = call.terminal.faults
    _end_effects(call.terminal)
    struck = Struck(call, faults.strike(call.name, call.concerns))
    for effect in tuple(faults.effects):
        effect.before(call)
    try:
        for fault in struck.hits:
            if not _waits(struck, fault):
                _BEFORE.get(fault.kind, _nothing)(struck, fault)
        result = _work(struck)
    finally:
        for undo in struck.undo:
            undo()
    for fault in struck.hits:
        if _waits(struck, fault):
            _BEFORE[fault.kind](struck, fault)
        result = _AFTER.get(fault.kind, _unchanged)(struck, fault, result)
    return result


def _waits(struck: Struck, fault: Fault) -> bool:
    """Whether the fault needs an account, which there is when `initialize` is done."""
    return struck.call.name == "initialize" and fault.kind in _OF_ACCOUNT


def _work(struck: Struck) -> Any:
    call = struck.call
    # The oldest has the last word: what struck later has not shown through it yet.
    effects = call.terminal.faults.effects[::-1]
    with ExitStack() as stack:
        for effect in effects:
            stack.enter_context(effect.during(call))
        result = _answer(struck)
    for effect in effects:
        result = effect.show(call, result)
    return result


def _answer(struck: Struck) -> Any:
    """A fault's answer in the place of the server's, if the request gets as far as that."""
    if struck.answer is None or struck.call.functions.refuses(struck.request):
        return struck.work()
    return struck.answer()


def clear(terminal: Terminal) -> None:
    """Ends all faults and what they left."""
    terminal.faults.clear()
    terminal.autotrading = True
    terminal.dismiss_impostor()
    terminal.recall()


def _end_effects(terminal: Terminal) -> None:
    faults, now = terminal.faults, terminal.clock.now()
    for effect in [effect for effect in faults.effects if effect.over(now)]:
        effect.end(terminal)
        faults.effects.remove(effect)


def _nothing(_struck: Struck, _fault: Fault) -> None:
    pass


def _unchanged(_struck: Struck, _fault: Fault, result: Any) -> Any:
    return result


_BEFORE: dict[str, Callable[[Struck, Fault], None]] = {
    "delay": program.wait_before,
    "hang": program.wait_before,
    "crash": program.wait_before,
    "none": program.no_answer,
    **dict.fromkeys(
        ("retcode", "executed_then_timeout", "timeout", "no_connection", "server_error"), orders.false_retcode
    ),
    "requote": orders.requote,
    "late_fill": orders.fill_late,
    "partial_fill": orders.fill_part,
    "comment_rewritten": orders.rewrite_comment,
    "comment_truncated": orders.truncate_comment,
    **dict.fromkeys(("autotrading_off", "autotrading_on"), program.switch_autotrading),
    **dict.fromkeys(("positions_lag", "orders_lag"), shows.stale_list),
    "history_lag": shows.stale_history,
    "frozen_quotes": shows.freeze,
    "clock_offset": program.change_offset,
    "terminal_restart": program.restart_before,
    "account_swap": program.swap_account,
}
_AFTER: dict[str, Callable[[Struck, Fault, Any], Any]] = {
    "delay": program.wait_after,
    "hang": program.wait_after,
    "crash": program.wait_after,
    "executed_then_none": program.lost_answer,
    "comment_rewritten": orders.echo,
    "comment_truncated": orders.echo,
    "bare_done": orders.leave_bare,
    "zero_tick": shows.zero_tick,
    "duplicate_ticks": shows.duplicate_ticks,
    "shuffled_ticks": shows.shuffle_ticks,
    "terminal_restart": program.restart_after,
}
