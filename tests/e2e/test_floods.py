"""More than anyone should send: rates hold, poison passes, a stop is never late."""

import asyncio
import os
import time
from collections import Counter

from support.eventually import eventually
from support.topics import trading_signal, unique
from support.world import MakeWorld, price


async def test_two_thousand_signals_in_a_second(new_world: MakeWorld) -> None:
    """Five a second pass, the rest is throttled, and twenty of those latch REDUCING until a person resumes."""
    async with new_world(MAX_ORDERS_PER_SECOND="5", SIGNAL_MAX_AGE_MS="4000") as world:
        await world.start()
        stop = price((await world.topics.quote("AUDUSD"))["bid"] * 0.9, "AUDUSD")
        ids = [unique("flood") for _ in range(2000)]
        began = time.monotonic()
        await world.topics.send_all(
            [trading_signal(i, "AUDUSD", "BUY", volume=0.01, stop_loss=stop) for i in ids], key="AUDUSD"
        )
        results: dict[str, dict[str, object]] = {}

        def all_answered() -> bool:
            results.update((f["data"]["signal_id"], f["data"]) for f in world.topics.of("order_result"))
            return len(results) == len(ids)

        await eventually(all_answered, 90.0, "an answer to each")  # a busy machine takes its time
        took = time.monotonic() - began
        fates = Counter(r["reason"] or r["status"] for r in results.values())
        assert fates["filled"] <= 5 * (took + 1)
        assert fates["throttled"] >= 20, fates
        assert fates["reducing"] > 0, fates
        assert set(fates) <= {"filled", "throttled", "reducing", "stale"}
        assert await world.state() == "reducing"
        assert len(await world.ask("get_positions")) == fates["filled"]
        assert (await world.command("resume_trading", {"reason": "seen", "by": "me"}))["success"]
        assert (await world.signal("AUDUSD", "CLOSE"))["status"] == "closed"
        await world.daemon.stop()


async def test_garbage_on_the_topic(new_world: MakeWorld) -> None:
    """A good signal behind a thousand bad ones and a megabyte is heard."""
    async with new_world(SIGNAL_MAX_AGE_MS="20000") as world:
        await world.start()
        await world.topics.quote("AUDUSD")
        bad = [os.urandom(200) for _ in range(300)] + [b"[" * 50_000, b"x" * 900_000]
        await world.topics.send_all(bad, key="AUDUSD")
        await world.open("AUDUSD")
        await eventually(lambda: len(world.topics.dead) == len(bad), 20.0, "all in the DLQ")
        assert sorted(r.raw for r in world.topics.dead) == sorted(bad)
        await world.daemon.stop()


async def test_a_stop_among_garbage_on_the_socket(new_world: MakeWorld) -> None:
    async with new_world() as world:
        await world.start()
        await world.open("AUDUSD")
        frames = [b"no json", b'{"type":"x","data":{}}', b'{"type":"get_positions","data":{}}', b"[]" * 5000]

        async def garbage() -> None:
            while True:
                for frame in frames:
                    await world.backend.send_raw(frame)
                await asyncio.sleep(0.008)

        flood = asyncio.create_task(garbage())
        try:
            await world.flowing()
            answer = await world.command("emergency_stop")
            assert answer["data"]["state"] == "halted"
            done = await world.halted("done")
            assert len(done["closed"]) == 1
        finally:
            flood.cancel()
            await asyncio.gather(flood, return_exceptions=True)
        assert len(world.backend.sockets) == 1
        errors = [f for f in world.backend.frames if f["type"] == "error"]
        assert len(errors) <= 10
        await world.daemon.stop()
