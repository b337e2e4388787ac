"""Which positions and orders are the bridge's: by MT5_MAGIC, by the journal, and on netting by the sum of its deals."""

import asyncio
from collections.abc import Iterable

from loguru import logger

from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.intent import magic_base
from mt5_bridge.core.model import DealEntry, Position, Side
from mt5_bridge.journal.journal import Journal
from mt5_bridge.terminal.port import Priority, Terminal

_JOURNAL_S = 0.25
"""A stop waits no longer for the journal: magics that carry MT5_MAGIC are known without it."""


class Ownership:
    """Tells what is ours.

    Args:
        magic_base: MT5_MAGIC; magics of earlier ones stay ours by the journal.
    """

    def __init__(self, terminal: Terminal, journal: Journal, *, magic_base: int) -> None:
        self._terminal = terminal
        self._journal = journal
        self._base = magic_base

    async def ours(self, magics: Iterable[int]) -> set[int]:
        """Those of the magics that are ours; those of earlier MT5_MAGICs only while the journal answers."""
        asked = {magic for magic in magics if magic}
        mine = {magic for magic in asked if magic_base(magic) == self._base}
        if asked == mine:
            return mine
        try:
            async with asyncio.timeout(_JOURNAL_S):
                return mine | await self._journal.our_magics_among(asked - mine)
        except (JournalError, TimeoutError) as error:
            logger.bind(event="ownership_by_magic").warning(
                "The journal cannot say whose magics these are: {error!r}", error=error
            )
            return mine

    async def volumes(
        self,
        positions: Iterable[Position],
        *,
        netting: bool,
        opened_with: frozenset[int] | None = None,
        priority: Priority = Priority.HIGH,
    ) -> dict[int, float]:
        """By ticket, how many lots of each position are ours; 0: none.

        Args:
            positions: those asked about.
            netting: one position a symbol.
            opened_with: on netting no more than what was opened with these magics.
            priority: among the terminal's calls.

        Raises:
            MT5Error: the deals of a netting position cannot be read.
        """
        held = list(positions)
        if not netting:
            mine = await self.ours(position.magic for position in held)
            return {p.ticket: p.volume if p.magic in mine else 0.0 for p in held}
        return {position.ticket: await self._net(position, opened_with, priority) for position in held}

    async def _net(self, position: Position, opened_with: frozenset[int] | None, priority: Priority) -> float:
        deals = await self._terminal.get_history_deals(
            position=position.identifier or position.ticket, priority=priority
        )
        mine = await self.ours(deal.magic for deal in deals)
        signed = sum(
            deal.volume * (1 if deal.side is Side.BUY else -1)
            for deal in deals
            if deal.is_trade and deal.magic in mine and deal.entry is not DealEntry.OUT_BY
        )
        most = position.volume
        if opened_with is not None:
            opened = sum(d.volume for d in deals if d.magic in opened_with and d.side is position.side)
            most = min(most, round(opened, 8))
        return max(0.0, min(round(signed if position.side is Side.BUY else -signed, 8), most))
