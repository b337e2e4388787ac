"""Faults of the program and of the line to it: it waits, dies, says nothing, restarts, is another's."""

from typing import Any

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.faults.effects import AutotradingOff, Restarting
from mt5_bridge.simulator.faults.injector import Fault
from mt5_bridge.simulator.faults.struck import Struck, error, until
from mt5_bridge.simulator.functions.manners import TEXTS
from mt5_bridge.simulator.terminal import TerminalError


def _wait(struck: Struck, fault: Fault) -> None:
    faults = struck.call.terminal.faults
    if fault.kind == "delay":
        faults.wait(fault.seconds, gil=fault.gil)
    elif fault.kind == "hang":
        faults.hang(gil=fault.gil)
    else:
        faults.die()


def wait_before(struck: Struck, fault: Fault) -> None:
    """Waits or dies before the terminal worked on the call."""
    if fault.when == "before":
        _wait(struck, fault)


def wait_after(struck: Struck, fault: Fault, result: Any) -> Any:
    """Waits or dies with the work done."""
    if fault.when == "after":
        _wait(struck, fault)
    return result


def no_answer(struck: Struck, fault: Fault) -> None:
    """Fails the call, nothing done."""
    raise error(struck.call, fault)


def lost_answer(struck: Struck, fault: Fault, _result: Any) -> Any:
    """Fails the call, all done."""
    raise error(struck.call, fault)


def switch_autotrading(struck: Struck, fault: Fault) -> None:
    """Presses the AutoTrading button."""
    terminal = struck.call.terminal
    terminal.autotrading = fault.kind == "autotrading_on"
    if fault.kind == "autotrading_off" and fault.seconds:
        terminal.faults.effects.append(AutotradingOff(until(struck, fault)))


def change_offset(struck: Struck, fault: Fault) -> None:
    """Puts the server's clock forward or back."""
    struck.call.terminal.market.change_offset(round(fault.seconds))


def swap_account(struck: Struck, fault: Fault) -> None:
    """Lets another account answer the pipe."""
    struck.call.terminal.admit_impostor(fault.login, fault.server)


def restart_before(struck: Struck, fault: Fault) -> None:
    """The terminal updates itself before it worked on the call."""
    if fault.when == "before":
        _restart(struck, fault, c.RES_E_INTERNAL_FAIL_SEND)


def restart_after(struck: Struck, fault: Fault, result: Any) -> Any:
    """The terminal updates itself with the work done."""
    if fault.when == "after":
        _restart(struck, fault, c.RES_E_INTERNAL_FAIL_RECEIVE)
    return result


def _restart(struck: Struck, fault: Fault, code: int) -> None:
    """The pipe breaks under this call; later ones find no connection, and `initialize` waits in vain for a while."""
    call = struck.call
    call.terminal.restart()
    call.terminal.faults.effects.append(Restarting(until(struck, fault), error(call, fault)))
    raise TerminalError(code, TEXTS[code])
