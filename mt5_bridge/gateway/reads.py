"""What the REST readers get, as bytes that were encoded once for all of them.

Account, positions and orders come from the bridge's own picture, which it keeps fresh anyway: no reader costs the
terminal a call. Symbols, ticks, bars and history are asked for once for everyone who wants the same at that time.
"""

import asyncio
import hashlib
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from mt5_bridge.core.errors import MT5Error
from mt5_bridge.core.snapshot import AccountSnapshot
from mt5_bridge.core.symbols import match_symbol
from mt5_bridge.core.times import iso, parse_time
from mt5_bridge.gateway import statuses
from mt5_bridge.gateway.cache import TTL_S, WRITTEN, Cache
from mt5_bridge.gateway.port import BridgePort
from mt5_bridge.gateway.problems import Problem

STALE_MS = 5000
"""A picture older than this is told as such: the terminal cannot be read."""
REFRESH_S = 2.0
"""How long the first reader after a write waits for a new picture."""
TICK_COUNTS = (10, 100, 1000)
"""Newest ticks are asked for in these numbers, so that readers of nearly as many share them."""

encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

Row = Mapping[str, Any]
Rows = Sequence[Row]


def refusal(answer: Mapping[str, Any]) -> Problem:
    """The problem that tells of a command's failed answer."""
    error = answer["error"]
    status = statuses.of_code(error["code"])
    return problem(status, error["code"], error["message"])


def problem(status: int, code: str, detail: str, **more: Any) -> Problem:
    """A problem that says when to try again, where that is a remedy."""
    wait = statuses.retry_after_s(status)
    headers = None if wait is None else {"Retry-After": str(wait)}
    return Problem(status, code, detail, headers=headers, **more)


class Reads:
    """Answers readers out of the cache.

    Args:
        port: the bridge.
        cache: where answers are kept.
        now_ms: UTC.
    """

    def __init__(self, port: BridgePort, cache: Cache, now_ms: Callable[[], int]) -> None:
        self._port = port
        self._cache = cache
        self._now_ms = now_ms
        self._written = False
        self._outdated = -1
        """The picture from before a write that could not be read anew since."""
        self._refreshing = asyncio.Lock()

    def written(self) -> None:
        """An order may have changed the account: who reads from now on gets no older picture."""
        self._written = True
        self._cache.drop(*WRITTEN)

    def begun_anew(self) -> None:
        """The session with the terminal ended or began: nothing of before holds for certain."""
        self._written = True
        self._cache.drop(*TTL_S)

    # --- from the bridge's picture

    async def account(self) -> bytes:
        """`GET /account`."""
        return await self._cache.get("account", "", self._load_account)

    async def positions(self, symbol: str | None, cursor: int | None, limit: int) -> bytes:
        """`GET /positions`; by ticket, behind that of the cursor."""
        name = await self._name(symbol)

        async def load() -> bytes:
            snapshot = await self._picture()
            return _listed("positions", snapshot.positions, snapshot, self._now_ms(), name, cursor, limit)

        return await self._cache.get("positions", f"{name}:{cursor}:{limit}", load)

    async def orders(self, symbol: str | None, cursor: int | None, limit: int) -> bytes:
        """`GET /orders`; by ticket, behind that of the cursor."""
        name = await self._name(symbol)

        async def load() -> bytes:
            snapshot = await self._picture()
            return _listed("orders", snapshot.orders, snapshot, self._now_ms(), name, cursor, limit)

        return await self._cache.get("orders", f"{name}:{cursor}:{limit}", load)

    async def _load_account(self) -> bytes:
        snapshot = await self._picture()
        return encode({"success": True, "account": snapshot.account, **_as_of(snapshot, self._now_ms())})

    async def _picture(self) -> AccountSnapshot:
        """The bridge's picture, read anew where something was written since.

        Raises:
            Problem: 503 `not_ready`: there is none yet.
        """
        async with self._refreshing:
            if self._written:
                self._written = False
                self._outdated = self._port.snapshot().read
                # Where it cannot be read anew, what was read last is told as what it is: stale.
                with suppress(MT5Error, TimeoutError):
                    async with asyncio.timeout(REFRESH_S):
                        await self._port.refresh()
                    self._outdated = -1
        snapshot = self._port.snapshot()
        if snapshot.read == self._outdated:
            snapshot = msgspec.structs.replace(snapshot, reconciled=False)
        if snapshot.account is None:
            raise problem(statuses.UNAVAILABLE, "not_ready", "the terminal has not been read yet")
        return snapshot

    # --- symbols

    async def symbols(self, cursor: str | None, limit: int) -> bytes:
        """`GET /symbols`; by name, behind that of the cursor."""

        async def load() -> bytes:
            rows = _decode(await self._all_symbols())
            names = [row["name"] for row in rows]
            first = 0 if cursor is None else bisect_right(names, cursor)
            page = rows[first : first + limit]
            more = first + limit < len(rows)
            return _page("symbols", page, page[-1]["name"] if more and page else None)

        return await self._cache.get("symbols", f"page:{limit}:{cursor}", load)

    async def symbol(self, wanted: str) -> bytes:
        """`GET /symbols/{s}`; by the broker's name or the one people use.

        Raises:
            Problem: 404 `unknown_symbol`, 422 `ambiguous_symbol`.
        """

        async def load() -> bytes:
            name = await self._name(wanted)
            rows = _decode(await self._all_symbols())
            return encode({"success": True, "symbol": next(row for row in rows if row["name"] == name)})

        return await self._cache.get("symbols", f"one:{wanted}", load)

    async def _all_symbols(self) -> bytes:
        return await self._cache.get("symbols", "all", self._load_symbols)

    async def _load_symbols(self) -> bytes:
        rows: list[Row] = []
        cursor = None
        while True:
            answer = await self._ask("get_symbols", {} if cursor is None else {"cursor": cursor})
            rows += answer["data"]
            cursor = answer.get("next")
            if cursor is None:
                return encode(sorted(rows, key=lambda row: str(row["name"])))

    async def _name(self, wanted: str | None) -> str | None:
        """The broker's name of a symbol; a misspelt one must not read as "nothing held".

        Raises:
            Problem: 404 `unknown_symbol`, 422 `ambiguous_symbol`.
        """
        if wanted is None:
            return None
        names = await self._cache.get("symbols", "names", self._load_names)
        found = match_symbol(wanted, _decode(names))
        if not found:
            raise Problem(404, "unknown_symbol", f"the terminal has no symbol {wanted}")
        if len(found) > 1:
            raise Problem(422, "ambiguous_symbol", f"{wanted} may be any of {', '.join(found[:20])}")
        return found[0]

    async def _load_names(self) -> bytes:
        return encode([row["name"] for row in _decode(await self._all_symbols())])

    # --- the past

    async def rates(self, asked: Mapping[str, Any]) -> bytes:
        """`GET /rates`: bars, oldest first."""

        async def load() -> bytes:
            answer = await self._ask("get_rates", asked)
            return _page("rates", answer["data"], answer.get("next"))

        return await self._cache.get("rates", _key(asked), load)

    async def history(self, asked: Mapping[str, Any], limit: int) -> bytes:
        """`GET /history/deals`: deals or orders of the past, oldest first."""
        name = "orders" if asked.get("kind") == "orders" else "deals"

        async def load() -> bytes:
            answer = await self._ask("get_history", asked)
            rows, following = answer["data"], answer.get("next")
            if len(rows) > limit:
                rows = rows[:limit]
                following = f"{parse_time(rows[-1]['time'])}:{rows[-1]['ticket']}"
            return _page(name, rows, following)

        return await self._cache.get("history", _key({**asked, "limit": limit}), load)

    async def ticks(self, asked: Mapping[str, Any]) -> bytes:
        """`POST /ticks`: the newest ones, or those of a time; oldest first."""
        count = int(asked["count"])
        newest = {"symbol", "count"} >= asked.keys()
        shared = next((most for most in TICK_COUNTS if count <= most), count) if newest else count

        async def load() -> bytes:
            answer = await self._ask("get_ticks", {**asked, "count": shared})
            return encode([answer["data"], answer.get("next")])

        kept = await self._cache.get("ticks", _key({**asked, "count": shared}), load)
        rows, following = _decode(kept)
        return _page("ticks", rows[-count:] if newest else rows, following)

    async def _ask(self, command: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """A command that reads.

        Raises:
            Problem: it was refused.
        """
        answer = await self._port.command(command, data, by="reader")
        if not answer["success"]:
            raise refusal(answer)
        return answer


def _key(asked: Mapping[str, Any]) -> str:
    """Names what was asked; of one length, whatever was written in it."""
    return hashlib.sha256(encode(sorted(asked.items()))).hexdigest()[:32]


def _as_of(snapshot: AccountSnapshot, now_ms: int) -> dict[str, Any]:
    stale = not snapshot.reconciled or now_ms - snapshot.at_msc > STALE_MS
    return {"as_of": iso(snapshot.at_msc), "stale": stale}


def _listed(
    name: str,
    rows: Rows,
    snapshot: AccountSnapshot,
    now_ms: int,
    symbol: str | None,
    cursor: int | None,
    limit: int,
) -> bytes:
    """A page of what the picture shows; its rows are in the order of their tickets."""
    left = [
        row
        for row in rows
        if (symbol is None or row["symbol"] == symbol) and (cursor is None or row["ticket"] > cursor)
    ]
    page = left[:limit]
    following = str(page[-1]["ticket"]) if len(left) > limit else None
    return _page(name, page, following, **_as_of(snapshot, now_ms))


def _page(name: str, rows: Rows, following: str | None, **more: Any) -> bytes:
    return encode({"success": True, name: rows, "count": len(rows), "next": following, **more})
