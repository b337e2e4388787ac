"""What the commands answer that only read: the account, symbols, the past. Long answers come in pages."""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from mt5_bridge.control import params as p
from mt5_bridge.control.commands import Command, Page
from mt5_bridge.core.errors import JournalError, MT5Error
from mt5_bridge.core.messages import Reason, account_message, position_message
from mt5_bridge.core.model import Bar, Deal, Order
from mt5_bridge.core.times import DAY, iso
from mt5_bridge.flows import pages, past
from mt5_bridge.flows.answers import Handler, Refusal
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.lookup import Lookup, unavailable
from mt5_bridge.flows.pages import Mark
from mt5_bridge.flows.shapes import bar_data, deal_data, order_data, symbol_data, tick_data
from mt5_bridge.flows.stories import signal_row, story_data
from mt5_bridge.journal.journal import Journal
from mt5_bridge.terminal.port import Priority, Terminal


class Reads:
    """The `get_*` commands.

    Args:
        status: the health report, for `get_status`.
    """

    def __init__(
        self,
        terminal: Terminal,
        lookup: Lookup,
        journal: Journal,
        clock: Clock,
        *,
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self._terminal = terminal
        self._lookup = lookup
        self._book = lookup.book
        self._journal = journal
        self._clock = clock
        self._status = status

    def table(self) -> dict[str, Handler]:
        """Name → function."""
        return {
            "get_status": self._get_status,
            "get_account": self._get_account,
            "get_positions": self._get_positions,
            "get_orders": self._get_orders,
            "get_symbols": self._get_symbols,
            "get_rates": self._get_rates,
            "get_ticks": self._get_ticks,
            "get_history": self._get_history,
            "get_signals": self._get_signals,
            "get_signal": self._get_signal,
            "heartbeat": self._heartbeat,
        }

    async def _get_status(self, command: Command) -> Any:
        return self._status()

    async def _heartbeat(self, command: Command) -> Any:
        return {"time": iso(self._clock.now_ms())}

    async def _get_account(self, command: Command) -> Any:
        try:
            account = await self._terminal.get_account_info()
        except MT5Error as error:
            raise unavailable(error) from error
        return msgspec.to_builtins(account_message(account))

    async def _get_positions(self, command: Command) -> Page:
        wanted = command.of(p.OfSymbol)
        symbol = await self._lookup.listed(wanted.symbol)
        held = [position for position in self._book.positions.values() if symbol is None or position.symbol == symbol]
        rows, after = await pages.page_of(
            held,
            None if wanted.cursor is None else int(wanted.cursor),
            key=lambda position: position.ticket,
            shape=lambda position: msgspec.to_builtins(position_message(position)),
            write=str,
        )
        return Page(rows, after)

    async def _get_orders(self, command: Command) -> Page:
        wanted = command.of(p.OfSymbol)
        symbol = await self._lookup.listed(wanted.symbol)
        waiting = [order for order in self._book.orders.values() if symbol is None or order.symbol == symbol]
        after = None if wanted.cursor is None else int(wanted.cursor)
        return Page(*await pages.page_of(waiting, after, key=lambda order: order.ticket, shape=order_data, write=str))

    async def _get_symbols(self, command: Command) -> Page:
        try:
            symbols = await self._terminal.get_symbols()
        except MT5Error as error:
            raise unavailable(error) from error
        after = command.of(p.GetSymbols).cursor
        return Page(*await pages.page_of(symbols, after, key=lambda symbol: symbol.name, shape=symbol_data, write=str))

    async def _get_rates(self, command: Command) -> Page:
        wanted = command.of(p.GetRates)
        try:
            symbol = await self._book.resolve(wanted.symbol)
            if wanted.from_msc is None:
                bars = await self._terminal.get_rates(symbol, wanted.timeframe, wanted.count)
            else:
                bars = await past.bars_from(
                    self._terminal, symbol, wanted.timeframe, wanted.from_msc, wanted.count, self._clock.now_ms()
                )
        except MT5Error as error:
            raise unavailable(error) from error
        return await _page_of_bars(bars, goes_on=wanted.from_msc is not None and len(bars) == wanted.count)

    async def _get_ticks(self, command: Command) -> Page:
        wanted = command.of(p.GetTicks)
        try:
            symbol = await self._book.resolve(wanted.symbol)
            info = await self._book.symbol(symbol)
            if info is None:
                raise Refusal(Reason.UNKNOWN_SYMBOL.value, f"the terminal has no symbol {wanted.symbol}")
            if self._terminal.clock.offset_ms is None:
                raise Refusal(Reason.NOT_READY.value, "the time of the broker's server is not known yet")
            rows, after = await self._ticks(symbol, wanted)
        except MT5Error as error:
            raise unavailable(error) from error
        page = await pages.fitting(rows, partial(tick_data, symbol, info.point))
        if len(page) < len(rows):
            after = Mark(*rows[len(page) - 1][:2])
        return Page(page, None if after is None else pages.write_mark(after))

    async def _ticks(self, symbol: str, wanted: p.GetTicks) -> tuple[list[past.Row], Mark | None]:
        """The rows asked for, and where those that follow begin; None where none of them are asked for."""
        after = _where_ticks_go_on(wanted)
        if after is not None:
            until = p.LATEST_MSC if wanted.to_msc is None else p.askable(wanted.to_msc)
            rows = await past.ticks_after(self._terminal, symbol, after, until, wanted.count)
            ended = wanted.to_msc is not None and len(rows) < wanted.count
        else:
            until = self._clock.now_ms() if wanted.to_msc is None else p.askable(wanted.to_msc)
            rows = await past.ticks_before(self._terminal, symbol, until, wanted.count)
            ended = wanted.to_msc is not None
            # None of a whole day: the next may still be timed a little before now, by the broker's clock.
            after = Mark(until - DAY, -1)
        if ended:
            return rows, None
        return rows, Mark(*rows[-1][:2]) if rows else after

    async def _get_history(self, command: Command) -> Page:
        wanted = command.of(p.GetHistory)
        since, until = wanted.range_msc(self._clock.now_ms())
        after = None if wanted.cursor is None else pages.read_mark(wanted.cursor)
        try:
            symbol = None if wanted.symbol is None else await self._book.resolve(wanted.symbol)
            if wanted.kind == "orders":
                read = partial(self._terminal.get_history_orders, priority=Priority.LOW)
                orders = await past.in_pieces(read, since, until)
                asked = [order for order in orders if symbol is None or order.symbol == symbol]
                return Page(*await pages.page_of(asked, after, _mark_of_order, order_data, pages.write_mark))
            read_deals = partial(self._terminal.get_history_deals, priority=Priority.LOW)
            if after is not None:
                # What was told is not read again; a day before it, whatever the broker's clock did in between.
                since = max(since, p.askable(after.time_msc - DAY))
            deals = await past.in_pieces(read_deals, since, until)
        except MT5Error as error:
            raise unavailable(error) from error
        found = [deal for deal in deals if symbol is None or deal.symbol == symbol]
        return Page(*await pages.page_of(found, after, _mark_of_deal, deal_data, pages.write_mark))

    async def _get_signals(self, command: Command) -> Page:
        wanted = command.of(p.GetSignals)
        before = None if wanted.cursor is None else int(wanted.cursor)
        try:
            found = await self._journal.newest(wanted.count, before=before, symbol=wanted.symbol)
        except JournalError as error:
            raise Refusal(Reason.JOURNAL_UNAVAILABLE.value, str(error)) from error
        rows = await pages.fitting(found, lambda each: signal_row(each[1]))
        more = rows and (len(rows) < len(found) or len(found) == wanted.count)
        return Page(rows, str(found[len(rows) - 1][0]) if more else None)

    async def _get_signal(self, command: Command) -> Any:
        wanted = command.of(p.GetSignal).signal_id
        try:
            story = await self._journal.signal(wanted)
        except JournalError as error:
            raise Refusal(Reason.JOURNAL_UNAVAILABLE.value, str(error)) from error
        if story is None:
            raise Refusal(Reason.NOT_FOUND.value, f"no signal {wanted} in the journal")
        return story_data(story)


async def _page_of_bars(bars: list[Bar], *, goes_on: bool) -> Page:
    rows = await pages.fitting(bars, bar_data)
    more = goes_on or len(rows) < len(bars)
    return Page(rows, str(bars[len(rows) - 1].time_msc) if more and rows else None)


def _where_ticks_go_on(wanted: p.GetTicks) -> Mark | None:
    if wanted.cursor is not None:
        mark = pages.read_mark(wanted.cursor)
        return Mark(p.askable(mark.time_msc), mark.rank)
    return None if wanted.from_msc is None else Mark(p.askable(wanted.from_msc), -1)


def _mark_of_deal(deal: Deal) -> Mark:
    return Mark(deal.time_msc, deal.ticket)


def _mark_of_order(order: Order) -> Mark:
    return Mark(order.time_setup_msc, order.ticket)
