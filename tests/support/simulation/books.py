"""The paper terminal's own books and prices, as they are, whatever the terminal shows of them."""

from random import Random
from typing import Any

from support.simulation.world import World

import mt5_bridge.simulator as paper
from mt5_bridge.simulator import api


def own_ledger() -> Any:
    """The books of the own account as they are now; None while another account answers, or none."""
    terminal = api._state.functions.terminal
    session = terminal._ousted or terminal._session
    return None if session is None else session.account.ledger


def quote_of(symbol: str) -> tuple[float, float] | None:
    """Bid and ask now."""
    quote = api._state.functions.terminal.market.quote(symbol)
    return None if quote is None else (quote.bid, quote.ask)


def symbol_of(ticket: int) -> str:
    """A position's symbol."""
    return str(own_ledger().positions[ticket].symbol)


def stop_of(ticket: int) -> float | None:
    """How near the stop of a position is, higher being nearer, least of all where there is none; None: no position."""
    ledger = own_ledger()
    position = None if ledger is None else ledger.positions.get(ticket)
    if position is None:
        return None
    return float(position.sl if position.type == 0 else -position.sl) if position.sl else float("-inf")


def tickets() -> tuple[list[int], list[int]]:
    """Of the positions and the pending orders there are."""
    ledger = own_ledger()
    return ([], []) if ledger is None else (list(ledger.positions), list(ledger.orders))


def close_by_hand(world: World, random: Random) -> None:
    """A person closes a position in the terminal's window."""
    ledger = own_ledger()
    if ledger is None or not ledger.positions or api._state.functions.terminal._ousted is not None:
        return
    position = random.choice(list(ledger.positions.values()))
    answer = paper.order_send(
        {
            "action": paper.TRADE_ACTION_DEAL,
            "symbol": position.symbol,
            "position": position.ticket,
            "type": 1 - position.type,
            "volume": position.volume,
            "deviation": 100,
        }
    )
    world.note("by_hand", position.ticket, None if answer is None else answer.retcode)
