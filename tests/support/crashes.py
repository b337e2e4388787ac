"""A daemon that dies where it is told to, again and again, and what the paper account's own books say it has done."""

import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from support.crash_points import CRASH_AT, PROGRAM
from support.crash_points import RECORD as RECORD
from support.eventually import eventually
from support.topics import unique
from support.world import MakeWorld, World, price

Row = dict[str, Any]
SYMBOL = "XAUUSD"
LOTS = 0.02
DONE = frozenset({"filled", "partial", "placed", "modified", "cancelled", "closed"})
UNDONE = (("abandoned", "not_found"), ("rejected", "terminal_refused"))
ENTRY_OUT = 1
STATE_CANCELLED = 2
_DIES_S = 2.0
"""How long a daemon has to come to its point once its work is done and told."""


class Books:
    """The paper account as its file has it, whatever a bridge may say."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def rows(self, table: str, **where: Any) -> list[Row]:
        """The rows of a table whose columns have these values."""
        (file,) = self._data.rglob("*.sqlite")
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            found = [dict(row) for row in db.execute(f"SELECT * FROM {table}")]  # noqa: S608  the tests' own words
        return [row for row in found if all(row[name] == value for name, value in where.items())]

    def deals(self, **where: Any) -> list[Row]:
        """The deals of traders: deposits are none."""
        return [deal for deal in self.rows("deals", **where) if deal["symbol"]]

    def closed(self, ticket: int) -> list[float]:
        """The volumes in which a position was closed."""
        return [deal["volume"] for deal in self.deals(position_id=ticket, entry=ENTRY_OUT)]

    def held(self, ticket: int) -> Row | None:
        """A position, None when there is none of that ticket."""
        return next(iter(self.rows("positions", ticket=ticket)), None)


class Crashing:
    """A world whose daemon dies at points.

    Attributes:
        passed: the points of the life that has ended, in their order.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.books = Books(world.daemon.data)
        self.passed: list[str] = []
        self._file = world.daemon.folder / "crash"
        world.daemon.env[CRASH_AT] = str(self._file)

    async def start(self) -> Row:
        """The next life; the `data` of its hello."""
        return await self.world.start()

    async def until(self, point: str, act: Callable[[], Awaitable[object]], told: Callable[[], bool]) -> bool:
        """Lets the daemon work until it dies at the point.

        Args:
            point: where, `RECORD` for nowhere.
            act: asks for the work.
            told: whether all of it is done and told.

        Returns:
            False when it was done without coming to the point: then it is killed now.
        """
        notes = self._file.with_name(self._file.name + ".passed")
        notes.unlink(missing_ok=True)
        draft = self._file.with_name("draft")
        draft.write_text(point, encoding="utf-8")
        draft.replace(self._file)
        daemon = self.world.daemon
        await act()
        await eventually(lambda: daemon.ended is not None or told(), 15.0, f"the work done, or the end at {point}")
        # What follows the telling is not awaited by anybody: acknowledged events leave the journal.
        with contextlib.suppress(AssertionError):
            await eventually(lambda: daemon.ended is not None, 1.0 if point == RECORD else _DIES_S)
        reached = daemon.ended is not None
        daemon.kill()
        self._file.unlink()
        self.passed = notes.read_text(encoding="utf-8").splitlines()
        assert reached == self.died_at(point), (point, self.passed[-3:], daemon.console[-2000:])
        return reached

    def died_at(self, point: str) -> bool:
        """Whether the last place that was passed has this name."""
        return point in " ".join(self.passed[-1:]).split()

    def was_at(self, name: str) -> bool:
        """Whether the life that has ended passed such a point."""
        return any(point.startswith(f"{name}:") for place in self.passed for point in place.split())

    # --- what signals do

    async def opened(self) -> Row:
        """A position to work on."""
        return await self.world.open(SYMBOL, volume=LOTS)

    async def far(self, part: float) -> float:
        """A price so far below the market."""
        return price((await self.world.topics.quote(SYMBOL))["bid"] * (1 - part), SYMBOL)

    async def placed(self) -> Row:
        """A pending order to work on."""
        fields: Row = {"volume": LOTS, "price": await self.far(0.1), "stop_loss": await self.far(0.2)}
        result = await self.world.signal(SYMBOL, "BUY_LIMIT", **fields)
        assert result["status"] == "placed", result
        return result

    async def signal_until(self, point: str, action: str, **fields: Any) -> Row:
        """A signal whose bridge dies at the point; its one final result, by the next life if need be."""
        signal_id, topics = unique("x"), self.world.topics
        told = lambda: bool(topics.finals(signal_id))  # noqa: E731  no name says more
        await self.until(point, lambda: topics.signal(signal_id, SYMBOL, action, **fields), told)
        await self.start()
        result = await topics.result(signal_id, timeout=15.0)
        assert len({frame["event_id"] for frame in topics.finals(signal_id)}) == 1, topics.finals(signal_id)
        done = result["status"] in DONE
        assert done or (result["status"], result["reason"]) in UNDONE, result
        # Only an order that was durable and not handed over is given up; a commit that was under way may be either.
        durable, handed = self.was_at("journal.IntentOpened.after"), self.was_at("terminal.send.sent")
        if handed or durable or not self.was_at("journal.IntentOpened.before"):
            assert done is (handed or not durable), (result, self.passed[-10:])
        return result


@contextlib.asynccontextmanager
async def crashing(new_world: MakeWorld, **env: str) -> Any:
    """A world as above, its first life begun; ends with the block."""
    settings = {"SIGNAL_MAX_AGE_MS": "60000", "SETTLE_WINDOW": "1", **env}
    async with new_world(command=PROGRAM, **settings) as world:
        crashes = Crashing(world)
        await crashes.start()
        yield crashes
        await world.daemon.stop()


def every(passed: list[str]) -> list[str]:
    """The points to die at: one of each place of a recorded life, of what it repeats the first two times."""
    points = dict.fromkeys(place.split()[0] for place in passed)
    return [point for point in points if int(point.rpartition(":")[2]) <= 2]
