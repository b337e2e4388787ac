"""The daemon dies at every durable write and around every call of the terminal; what was asked for is done once.

What was done is read from the paper account's own file. Which points there are is not written down here: a life that
dies nowhere tells them. The plain run samples them, `.ci/deep` dies at all.
"""

from collections.abc import Awaitable, Callable

import pytest
from support.crashes import LOTS, RECORD, STATE_CANCELLED, SYMBOL, Crashing, crashing, every
from support.eventually import eventually
from support.topics import unique
from support.world import MakeWorld, World

Deed = Callable[[Crashing, str], Awaitable[None]]


async def buys(crashes: Crashing, point: str) -> None:
    stop = await crashes.far(0.02)
    result = await crashes.signal_until(point, "BUY", volume=LOTS, stop_loss=stop)
    deals = crashes.books.deals(magic=result["magic"])
    assert [deal["volume"] for deal in deals] == ([LOTS] if result["status"] == "filled" else []), (point, result)


async def closes(crashes: Crashing, point: str) -> None:
    ticket = (await crashes.opened())["position"]
    result = await crashes.signal_until(point, "CLOSE", position=ticket)
    done = result["status"] == "closed"
    assert crashes.books.closed(ticket) == ([LOTS] if done else []), (point, result)
    assert (crashes.books.held(ticket) is None) is done


async def closes_a_part(crashes: Crashing, point: str) -> None:
    ticket = (await crashes.opened())["position"]
    result = await crashes.signal_until(point, "CLOSE", position=ticket, volume=LOTS / 2)
    done = result["status"] == "closed"
    assert crashes.books.closed(ticket) == ([LOTS / 2] if done else []), (point, result)
    held = crashes.books.held(ticket)
    assert held is not None
    assert held["volume"] == (LOTS / 2 if done else LOTS)


async def modifies(crashes: Crashing, point: str) -> None:
    opened = await crashes.opened()
    stop = await crashes.far(0.015)
    result = await crashes.signal_until(point, "MODIFY", position=opened["position"], stop_loss=stop)
    held = crashes.books.held(opened["position"])
    assert held is not None
    assert held["sl"] == (stop if result["status"] == "modified" else opened["stop_loss"]), (point, result)
    assert len(crashes.books.deals(position_id=opened["position"])) == 1


async def places(crashes: Crashing, point: str) -> None:
    fields = {"volume": LOTS, "price": await crashes.far(0.1), "stop_loss": await crashes.far(0.2)}
    result = await crashes.signal_until(point, "BUY_LIMIT", **fields)
    orders = crashes.books.rows("orders", magic=result["magic"])
    assert len(orders) == (result["status"] == "placed"), (point, result)


async def cancels(crashes: Crashing, point: str) -> None:
    ticket = (await crashes.placed())["order"]
    result = await crashes.signal_until(point, "CANCEL", order=ticket)
    done = result["status"] == "cancelled"
    ended = [order["state"] for order in crashes.books.rows("history", ticket=ticket)]
    assert ended == ([STATE_CANCELLED] if done else []), (point, result)
    assert bool(crashes.books.rows("orders", ticket=ticket)) is not done


async def stops(crashes: Crashing, point: str) -> None:
    """A stop by command, asked for again after the crash as a backend would; resumed at the end."""
    request = unique("stop")
    frame = {"reason": "drill", "by": "ops"}

    async def act() -> None:
        await crashes.world.backend.send("emergency_stop", frame, request_id=request)

    await _flat_after(
        crashes, point, act, lambda: crashes.world.backend.send("emergency_stop", frame, request_id=request)
    )


async def stops_by_file(crashes: Crashing, point: str) -> None:
    """A stop by the file in DATA_DIR, which nobody has to ask for again."""
    file = crashes.world.daemon.data / "EMERGENCY_STOP"

    async def act() -> None:
        file.write_text("")

    await _flat_after(crashes, point, act, None)


async def _flat_after(
    crashes: Crashing, point: str, act: Callable[[], Awaitable[None]], again: Callable[[], Awaitable[None]] | None
) -> None:
    world, books = crashes.world, crashes.books
    position, order = (await crashes.opened())["position"], (await crashes.placed())["order"]
    mark = len(world.backend.frames)

    def done() -> bool:
        frames = [f for f in world.backend.frames[mark:] if f["type"] == "halt_changed"]
        return any(f["data"]["phase"] == "done" and f["data"]["state"] == "halted" for f in frames)

    def answered() -> bool:
        found = (f for f in world.backend.frames[mark:] if f["type"] == "command_result")
        return any((f["data"].get("data") or {}).get("durable") for f in found)

    await crashes.until(point, act, done)
    hello = await crashes.start()
    durable = crashes.was_at("latch.after") or crashes.was_at("journal.HaltChanged.after")
    if again is None or durable or answered():
        assert hello["halt"]["state"] == "halted", (point, hello)
    if again is not None:
        await again()
    await eventually(lambda: not books.rows("positions") and not books.rows("orders"), 10.0, f"flat after {point}")
    assert books.closed(position) == [LOTS], point
    assert [row["state"] for row in books.rows("history", ticket=order)] == [STATE_CANCELLED], point
    await eventually(lambda: not (world.daemon.data / "EMERGENCY_STOP").exists(), 5.0, "the file set aside")
    # Nothing opens, and nobody but a person lifts it.
    denied = await world.signal(SYMBOL, "BUY", volume=LOTS, stop_loss=await crashes.far(0.02))
    assert (denied["status"], denied["reason"]) == ("denied", "halted"), (point, denied)
    await _resume(crashes)


async def _resume(crashes: Crashing) -> None:
    word = {"reason": "go on", "by": "me", "force": True}

    async def resumed() -> bool:
        return bool((await crashes.world.command("resume_trading", word))["success"])

    await eventually(resumed, 10.0, "resumed")


async def resumes(crashes: Crashing, point: str) -> None:
    """A resume that the crash took away leaves the stop; one that was durable everywhere holds; never half of it."""
    world = crashes.world
    await world.command("emergency_stop", {"reason": "drill", "by": "ops"})
    await eventually(lambda: _settled(world), 10.0, "the stop done")
    word, request = {"reason": "over", "by": "me"}, unique("resume")
    mark = len(world.backend.frames)

    async def act() -> None:
        await world.backend.send("resume_trading", word, request_id=request)

    def answered() -> bool:
        return any(f.get("request_id") == request for f in world.backend.frames[mark:])

    await crashes.until(point, act, answered)
    hello = await crashes.start()
    lifted = hello["halt"]["state"] == "active"
    written, begun = crashes.was_at("latch.after"), crashes.was_at("latch.torn") and not point.startswith("latch.torn")
    if written or not begun:  # a write that was under way may be either
        assert lifted is written, (point, crashes.passed)
    assert not lifted or crashes.was_at("journal.HaltChanged.after")
    if not lifted:
        denied = await world.signal(SYMBOL, "BUY", volume=LOTS, stop_loss=await crashes.far(0.02))
        assert denied["reason"] == "halted"
        await _resume(crashes)
    magic = (await crashes.opened())["magic"]
    assert len(crashes.books.deals(magic=magic)) == 1


async def _settled(world: World) -> bool:
    frames = [f["data"] for f in world.backend.frames if f["type"] == "halt_changed"]
    return bool(frames) and frames[-1]["phase"] == "done"


SAMPLES: dict[Deed, tuple[str, ...]] = {
    buys: ("journal.IntentOpened.after:1", "terminal.send.sent:1", "terminal.send.after:1"),
    closes: ("terminal.send.sent:1",),
    closes_a_part: ("terminal.send.after:1",),
    modifies: ("terminal.send.sent:1",),
    places: ("terminal.send.sent:1",),
    cancels: ("terminal.send.after:1",),
    stops: ("latch.after:1", "terminal.send.sent:1"),
    stops_by_file: ("stop_file.before:1",),
    resumes: ("latch.before:1", "latch.torn:1"),
}


def by_name(deed: Deed) -> str:
    return deed.__name__


@pytest.mark.timeout(300)
async def test_killed_at_the_moments_that_matter_most(new_world: MakeWorld) -> None:
    settings = {"RESUME_REMOTE": "true"}
    async with crashing(new_world, **settings) as crashes:
        for deed, points in SAMPLES.items():
            for point in points:
                await deed(crashes, point)
                assert crashes.died_at(point), f"{by_name(deed)} does not come to {point}: {crashes.passed}"


@pytest.mark.deep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("deed", SAMPLES, ids=by_name)
async def test_killed_everywhere(new_world: MakeWorld, deed: Deed) -> None:
    async with crashing(new_world, RESUME_REMOTE="true") as crashes:
        await deed(crashes, RECORD)
        points = every(crashes.passed)
        assert {"before", "after"} <= {point.rpartition(":")[0].rpartition(".")[2] for point in points}
        reached = 0
        for point in points:
            await deed(crashes, point)
            reached += crashes.died_at(point)
        # What else the bridge does meanwhile (ticks, account) falls in its own time; the deed's own steps all come.
        assert reached >= len(points) * 0.7, (reached, points)
