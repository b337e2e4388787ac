"""The cache: one look-up for many, nothing from before a write, failures kept by nobody."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.eventually import eventually

from mt5_bridge.gateway import cache as module
from mt5_bridge.gateway.cache import TTL_S, WRITTEN, Cache


class Source:
    """Counts look-ups; `gate` holds them up."""

    def __init__(self) -> None:
        self.calls = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self) -> bytes:
        self.calls += 1
        mine = self.calls
        await self.gate.wait()
        return b"%d" % mine


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_an_answer_is_kept_for_its_time() -> None:
    time, source = Time(), Source()
    cache = Cache({"account": 0.5}, monotonic=time)
    assert await cache.get("account", "k", source.load) == b"1"
    time.now += 0.49
    assert await cache.get("account", "k", source.load) == b"1"
    time.now += 0.02
    assert await cache.get("account", "k", source.load) == b"2"
    assert await cache.get("account", "other", source.load) == b"3"


async def test_a_thousand_at_once_look_up_once() -> None:
    source = Source()
    cache = Cache({"account": 60.0})
    source.gate.clear()
    readers = [asyncio.create_task(cache.get("account", "k", source.load)) for _ in range(1000)]
    await eventually(lambda: source.calls == 1, 5.0, "the look-up")
    readers[0].cancel()
    source.gate.set()
    assert set(await asyncio.gather(*readers[1:])) == {b"1"}
    assert source.calls == 1
    stats = cache.stats()["account"]
    assert (stats["misses"], stats["joined"], stats["hits"]) == (1, 999, 0)
    assert stats["hit_rate"] == 0.999
    assert readers[0].cancelled()


async def test_what_was_looked_up_before_a_write_is_given_to_nobody_after_it() -> None:
    source = Source()
    cache = Cache({"positions": 60.0})
    source.gate.clear()
    before = asyncio.create_task(cache.get("positions", "k", source.load))
    await eventually(lambda: source.calls == 1, 5.0, "the look-up")
    cache.drop("positions")
    after = asyncio.create_task(cache.get("positions", "k", source.load))
    await eventually(lambda: source.calls == 2, 5.0, "the second look-up")
    source.gate.set()
    assert (await before, await after) == (b"1", b"2")
    assert await cache.get("positions", "k", source.load) == b"2"
    assert cache.stats()["positions"]["drops"] == 1


async def test_a_failure_goes_to_all_who_wait_and_is_not_kept() -> None:
    cache = Cache({"ticks": 60.0})
    gate = asyncio.Event()

    async def fail() -> bytes:
        await gate.wait()
        raise RuntimeError("no terminal")

    readers = [asyncio.create_task(cache.get("ticks", "k", fail)) for _ in range(3)]
    await asyncio.sleep(0)
    gate.set()
    for answer in await asyncio.gather(*readers, return_exceptions=True):
        assert isinstance(answer, RuntimeError)
    assert await cache.get("ticks", "k", Source().load) == b"1"


async def test_a_tier_is_bounded_by_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ENTRIES", 2)
    source = Source()
    cache = Cache({"ticks": 60.0})
    for key in ("a", "b", "a", "c"):
        await cache.get("ticks", key, source.load)
    assert source.calls == 3
    assert cache.stats()["ticks"]["entries"] == 2
    assert await cache.get("ticks", "a", source.load) == b"1"
    assert await cache.get("ticks", "b", source.load) == b"4"


async def test_close_ends_a_look_up_under_way() -> None:
    source = Source()
    cache = Cache({"ticks": 60.0})
    source.gate.clear()
    reader = asyncio.create_task(cache.get("ticks", "k", source.load))
    await eventually(lambda: source.calls == 1, 5.0, "the look-up")
    await cache.close()
    with pytest.raises(asyncio.CancelledError):
        await reader


def test_every_tier_that_a_write_makes_untrue_exists() -> None:
    assert set(WRITTEN) <= TTL_S.keys()


def test_a_rate_before_the_first_reader_is_none() -> None:
    assert Cache().stats()["symbols"]["hit_rate"] is None


class Shared:
    """A second tier in memory, as two gateways share it."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.fault: Exception | None = None

    async def _answer(self, work: Callable[[], bytes | None]) -> bytes | None:
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        return work()

    async def get(self, key: str) -> bytes | None:
        return await self._answer(lambda: self.kept.get(key))

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        await self._answer(lambda: self.kept.update({key: value}))

    async def drop(self, tier: str) -> None:
        await self._answer(lambda: None)
        for key in [key for key in self.kept if key.startswith(f"{tier}:")]:
            del self.kept[key]


async def test_a_second_tier_is_shared() -> None:
    shared, source = Shared(), Source()
    one, other = Cache({"symbols": 60.0}, second=shared), Cache({"symbols": 60.0}, second=shared)
    assert await one.get("symbols", "k", source.load) == b"1"
    assert await other.get("symbols", "k", source.load) == b"1"
    assert (other.stats()["symbols"]["second"], other.stats()["symbols"]["misses"]) == (1, 0)
    one.drop("symbols")
    await eventually(lambda: not shared.kept, 5.0, "dropped")
    assert await one.get("symbols", "k", source.load) == b"2"


async def test_a_second_tier_that_has_not_heard_of_a_write_is_not_asked() -> None:
    shared, source = Shared(), Source()
    cache = Cache({"symbols": 60.0}, second=shared)
    assert await cache.get("symbols", "k", source.load) == b"1"
    cache.drop("symbols")
    assert await cache.get("symbols", "k", source.load) == b"2", "at once, while the second tier still has the first"
    before = asyncio.create_task(cache.get("symbols", "other", source.load))
    await asyncio.sleep(0)  # it asks the second tier
    shared.kept["symbols:other"] = b"old"
    cache.drop("symbols")
    assert await before == b"3"
    await cache.close()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("read"), st.sampled_from("ab")),
            st.tuples(st.just("write"), st.just("")),
            st.tuples(st.just("wait"), st.sampled_from(["0", "0.3", "2"])),
            st.tuples(st.just("land"), st.just("")),
        ),
        max_size=25,
    ),
    st.booleans(),
)
def test_nobody_who_reads_after_a_write_gets_what_was_before_it(steps: list[tuple[str, str]], second: bool) -> None:
    """Whatever the order of readers, writes, look-ups that land late, and time."""

    async def play() -> None:
        played = Play(second=second)
        for step, detail in steps:
            getattr(played, step)(detail)
            for _ in range(5):
                await asyncio.sleep(0)
        await played.end()

    asyncio.run(play())


class Play:
    """Readers and writers of one tier; each reader knows how often was written before it asked."""

    def __init__(self, *, second: bool) -> None:
        self.time = Time()
        self.written = 0
        self.gates: list[asyncio.Event] = []
        self.readers: list[tuple[int, asyncio.Task[bytes]]] = []
        self.cache = Cache({"t": 1.0}, second=Shared() if second else None, monotonic=self.time)

    async def load(self) -> bytes:
        seen, gate = self.written, asyncio.Event()
        self.gates.append(gate)
        await gate.wait()
        return b"%d" % seen

    def read(self, key: str) -> None:
        self.readers.append((self.written, asyncio.create_task(self.cache.get("t", key, self.load))))

    def write(self, _: str) -> None:
        self.written += 1
        self.cache.drop("t")

    def wait(self, seconds: str) -> None:
        self.time.now += float(seconds)

    def land(self, _: str) -> None:
        for gate in self.gates:
            gate.set()

    async def end(self) -> None:
        while not all(task.done() for _, task in self.readers):
            self.land("")
            await asyncio.sleep(0)
        for at_least, task in self.readers:
            assert int(await task) >= at_least
        await self.cache.close()


async def test_a_second_tier_that_fails_is_no_readers_matter() -> None:
    shared, source = Shared(), Source()
    shared.fault = ConnectionError("gone")
    cache = Cache({"symbols": 60.0}, second=shared)
    assert await cache.get("symbols", "k", source.load) == b"1"
    cache.drop("symbols")
    assert await cache.get("symbols", "k", source.load) == b"2"
    await cache.close()
