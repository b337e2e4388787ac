"""A burst of signals, and what must be in the books when all is over."""

import itertools
from collections import Counter

from support.daemon import SYMBOLS
from support.eventually import eventually
from support.topics import trading_signal, unique
from support.world import World, price


async def burst(world: World, count: int) -> list[str]:
    """So many signals for all symbols, as fast as the broker takes them; their ids."""
    quotes = {symbol: (await world.topics.quote(symbol))["bid"] for symbol in SYMBOLS}
    ids = []
    for symbol, action in itertools.islice(itertools.cycle(itertools.product(SYMBOLS, ("BUY", "SELL"))), count):
        stop = price(quotes[symbol] * (0.9 if action == "BUY" else 1.1), symbol)
        ids.append(unique("k"))
        value = trading_signal(ids[-1], symbol, action, volume=0.01, stop_loss=stop)
        await world.topics.send(value, key=symbol)
    return ids


async def check_books(world: World, ids: list[str], timeout: float = 20.0) -> None:
    """One final result a signal, one deal a filled signal, and no deal of nobody."""
    await eventually(lambda: all(world.topics.finals(i) for i in ids), timeout, "a final result of every signal")
    filled = []
    for signal_id in ids:
        finals = {frame["event_id"]: frame["data"] for frame in world.topics.finals(signal_id)}
        assert len(finals) == 1, (signal_id, list(finals.values()))
        result = next(iter(finals.values()))
        if result["status"] == "filled":
            filled.append(result["magic"])
        else:
            # Behind an order whose fate was open, or killed between the intent's commit and the send.
            assert (result["status"], result["reason"]) in (("denied", "unknown_outcome"), ("abandoned", "not_found"))
    deals = Counter(d["magic"] for d in await world.ask("get_history", kind="deals") if d["magic"])
    assert deals == Counter(filled)
