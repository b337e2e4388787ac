import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fresh_fake import FakeModule, fresh_fake

from mt5_bridge.core.model import TICK_RECORD_SIZE
from mt5_bridge.terminal.convert import raw_time_at
from mt5_bridge.terminal.frames import HostError
from mt5_bridge.terminal.host_ops import Host
from mt5_bridge.terminal.host_ticks import TickReader
from mt5_bridge.terminal.raw import Passes, RawBlock, RawCursor

BASE = 1_700_000_000_000


def reader(module: FakeModule) -> TickReader:
    host = Host(module)
    return TickReader(module, host._pick, host._need)


def with_times(times: Sequence[int]) -> FakeModule:
    module = fresh_fake()
    module._ticks["EURUSD"] = [(t, 1.1 + i / 1e4, 1.2 + i / 1e4) for i, t in enumerate(times)]
    return module


def read(block: RawBlock) -> list[tuple[int, int]]:
    """(time, seq) of the ticks in a block."""
    found: list[tuple[int, int]] = []
    for i in range(len(block.data) // TICK_RECORD_SIZE):
        time = raw_time_at(block.data, i)
        before = found[-1] if found else (time, block.first_seq - 1)
        found.append((time, before[1] + 1 if before[0] == time else 0))
    return found


def numbered(times: Sequence[int]) -> list[tuple[int, int]]:
    return [(t, list(times[:i]).count(t)) for i, t in enumerate(times)]


def test_a_symbol_without_cursor_begins_behind_its_last_tick() -> None:
    blocks, quotes, unfinished, faults = reader(with_times([BASE, BASE, BASE + 1, BASE + 1])).poll(
        [RawCursor("EURUSD", None)], 1e6, 100, 0
    )
    assert blocks == [RawBlock("EURUSD", b"", 0, False, BASE + 1, 2)]
    assert quotes["EURUSD"].time_msc == BASE + 1
    assert not unfinished
    assert not faults


def test_a_backfill_begins_earlier_and_is_unfinished() -> None:
    blocks, _, unfinished, _ = reader(with_times([BASE])).poll([RawCursor("EURUSD", None)], 4.0, 100, 5000)
    assert blocks == [RawBlock("EURUSD", b"", 0, True, BASE - 5000, 0)]
    assert unfinished == ["EURUSD"]


def test_a_symbol_without_tick_waits_for_the_first() -> None:
    module = with_times([])
    ticks = reader(module)
    assert ticks.poll([RawCursor("EURUSD", None)], 1e6, 100, 0) == ([], {}, [], {})
    module._ticks["EURUSD"].append((BASE, 1.1, 1.2))
    assert ticks.poll([RawCursor("EURUSD", None)], 1e6, 100, 0)[0]


def test_only_what_is_new_is_read_and_quiet_symbols_are_not_copied() -> None:
    module = with_times([BASE, BASE + 1])
    ticks = reader(module)
    (block,), quotes, _, _ = ticks.poll([RawCursor("EURUSD", BASE, 1)], 1e6, 100, 0)
    assert read(block) == [(BASE + 1, 0)]
    assert "EURUSD" in quotes
    copies = module._calls["copy_ticks_from"]
    assert ticks.poll([RawCursor("EURUSD", BASE + 1, 1)], 1e6, 100, 0) == ([], {}, [], {})
    assert module._calls["copy_ticks_from"] == copies


def test_another_tick_in_the_same_ms_is_seen() -> None:
    module = with_times([BASE])
    ticks = reader(module)
    ticks.poll([RawCursor("EURUSD", BASE, 1)], 1e6, 100, 0)
    module._ticks["EURUSD"].append((BASE, 1.3, 1.4))
    (block,), *_ = ticks.poll([RawCursor("EURUSD", BASE, 1)], 1e6, 100, 0)
    assert read(block) == [(BASE, 1)]
    assert (block.time_msc, block.count) == (BASE, 2)


def test_history_that_lags_behind_the_quote_is_asked_again() -> None:
    module = with_times([BASE, BASE + 5])
    ticks = reader(module)
    hidden = module._ticks["EURUSD"].pop()
    shown = module._ticks["EURUSD"][:]
    module._ticks["EURUSD"] = [hidden]
    quote = module.symbol_info_tick("EURUSD")
    module._ticks["EURUSD"] = shown
    module.symbol_info_tick = lambda name: quote
    assert ticks.poll([RawCursor("EURUSD", BASE, 1)], 1e6, 100, 0)[0] == []
    module._ticks["EURUSD"].append(hidden)
    (block,), *_ = ticks.poll([RawCursor("EURUSD", BASE, 1)], 1e6, 100, 0)
    assert read(block) == [(BASE + 5, 0)]


@pytest.mark.parametrize("room", [100, 2])
def test_what_a_page_has_beyond_the_last_tick_that_was_seen_is_seen_too(room: int) -> None:
    """A step of the broker's clock in between: by the tick seen before, its offset would still be the old one."""
    module = with_times([BASE, BASE + 5])
    ticks, look = reader(module), module.symbol_info_tick

    def tick_comes(name: str) -> Any:
        seen = look(name)
        module.symbol_info_tick = look
        module._ticks[name] += [(BASE + 3_600_009, 1.3, 1.4), (BASE + 3_600_010, 1.3, 1.4)]
        return seen

    module.symbol_info_tick = tick_comes
    (block,), quotes, *_ = ticks.poll([RawCursor("EURUSD", BASE, 1)], 1e6, room, 0)
    assert (len(read(block)), block.more) == (min(room, 3), room == 2)
    assert quotes["EURUSD"].time_msc == BASE + 3_600_010


def test_a_page_that_ends_inside_the_cursors_second_is_asked_again_with_twice_the_count() -> None:
    times = [BASE + i // 10 for i in range(3000)] + [BASE + 1000]
    module = with_times(times)
    block = reader(module).page(RawCursor("EURUSD", BASE + 200, 10), 512, 100_000)
    assert read(block) == numbered(times)[2010:]
    assert module._calls["copy_ticks_from"] == 4


def test_a_terminal_of_endless_pages_is_not_asked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt5_bridge.terminal.host_ticks.MAX_PAGE", 2048)
    block = reader(with_times([BASE] * 5000)).page(RawCursor("EURUSD", BASE, 2048), 512, 100)
    assert not block.data


@given(
    st.lists(st.sampled_from([0, 0, 0, 1, 2, 400, 1500]), min_size=1, max_size=120),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_reading_page_by_page_loses_and_doubles_nothing(gaps: list[int], size: int, limit: int) -> None:
    times = [BASE + sum(gaps[: i + 1]) for i in range(len(gaps))]
    ticks = reader(with_times(times))
    cursor, found, more = RawCursor("EURUSD", BASE - 1, 0), [], True
    while more:
        block = ticks.page(cursor, size, limit)
        assert len(read(block)) <= limit
        found += read(block)
        cursor, more = RawCursor("EURUSD", block.time_msc, block.count), bool(block.data)
    assert found == numbered(times)


@given(st.lists(st.tuples(st.sampled_from(["tick", "poll", "restart"]), st.integers(0, 700)), max_size=60))
def test_polling_while_ticks_come_loses_and_doubles_nothing(events: list[tuple[str, int]]) -> None:
    module = with_times([BASE])
    ticks = reader(module)
    cursor, found, now = RawCursor("EURUSD", BASE, 1), [], BASE
    for event, gap in [*events, ("poll", 0)]:
        if event == "tick":
            now += gap
            module._ticks["EURUSD"].append((now, 1.0 + len(module._ticks["EURUSD"]) / 1e4, 2.0))
        elif event == "restart":
            ticks = reader(module)
        else:
            blocks, *_ = ticks.poll([cursor], 1e6, 1000, 0)
            for block in blocks:
                found += read(block)
                cursor = RawCursor("EURUSD", block.time_msc, block.count)
    assert found == numbered([t[0] for t in module._ticks["EURUSD"]])[1:]


def test_a_cursor_whose_tick_has_gone_is_told() -> None:
    module = with_times([BASE, BASE, BASE + 5])
    ticks = reader(module)
    assert ticks.page(RawCursor("EURUSD", BASE, 2), 512, 100).lost == 0
    module._ticks["EURUSD"] = [(BASE + 5, 1.1, 1.2), (BASE + 6, 1.1, 1.2)]
    block = ticks.page(RawCursor("EURUSD", BASE, 2), 512, 100)
    assert (read(block), block.lost) == ([(BASE + 5, 0), (BASE + 6, 0)], 2)
    assert ticks.page(RawCursor("EURUSD", BASE + 7, 1), 512, 100).lost == 0, "a history that lags tells nothing"


HOUR = 3_600_000
GAPS = st.lists(st.sampled_from([0, 0, 1, 700, 60_000, 500_000]), min_size=1, max_size=40)


@given(GAPS, GAPS, st.integers(1, 30), st.integers(1, 30))
def test_both_passes_of_a_clock_that_stepped_back_are_read_once(
    before: list[int], behind: list[int], size: int, limit: int
) -> None:
    """History has them one behind the other, most of the same times twice."""
    first = list(itertools.accumulate(before, initial=BASE))
    start = first[-1] - HOUR
    second = list(itertools.accumulate(behind, initial=start))
    ticks = reader(with_times(first + second))
    got = []
    cursor, last = RawCursor("EURUSD", BASE, 0, Passes.BEFORE), first[-1]
    while True:
        block = ticks.page(cursor, size, limit)
        got.append(read(block))
        if not block.more and cursor.passes == Passes.BEFORE:
            assert sum(got, []) == numbered(first)  # noqa: RUF017 - a few pages
            got, cursor = [], RawCursor("EURUSD", start, 0, Passes.BEHIND)
        elif block.data:
            passes = cursor.passes if cursor.passes == Passes.BEFORE or block.time_msc <= last else Passes.ONE
            cursor = RawCursor("EURUSD", block.time_msc, block.count, passes)
        else:
            break
    assert sum(got, []) == numbered(second)  # noqa: RUF017 - a few pages


def test_before_a_tick_behind_the_step_has_come_nothing_of_the_first_pass_is_taken_for_it() -> None:
    module = with_times([BASE + n * 1000 for n in range(3600)])
    quote = module.symbol_info_tick("EURUSD")
    quote.time_msc = BASE + 5
    module.symbol_info_tick = lambda name: quote
    block = reader(module).page(RawCursor("EURUSD", BASE + 1, 0, Passes.BEHIND), 512, 100_000)
    assert not block.data


def test_a_slice_ends_and_the_next_goes_on_behind_it() -> None:
    module = fresh_fake(SYMBOLS="EURUSD,GBPUSD,USDJPY")
    ticks = reader(module)
    cursors = [RawCursor(s, 0, 0) for s in ("EURUSD", "GBPUSD", "USDJPY")]
    blocks, _, unfinished, _ = ticks.poll(cursors, 0.0, 1000, 0)
    assert [b.symbol for b in blocks] == ["EURUSD"]
    assert unfinished == ["GBPUSD", "USDJPY"]
    blocks, _, unfinished, _ = ticks.poll(cursors, 0.0, 1000, 0)
    assert [b.symbol for b in blocks] == ["GBPUSD"]
    assert unfinished == ["USDJPY", "EURUSD"]


def test_a_slice_is_bounded_in_ticks_too() -> None:
    module = fresh_fake(SYMBOLS="EURUSD,GBPUSD", TICKS="2000")
    ticks = reader(module)
    blocks, _, unfinished, _ = ticks.poll([RawCursor("EURUSD", 0, 0), RawCursor("GBPUSD", 0, 0)], 1e6, 100, 0)
    assert [len(read(b)) for b in blocks] == [100]
    assert unfinished == ["EURUSD", "GBPUSD"]


def test_pages_grow_while_there_is_much_to_read() -> None:
    module = fresh_fake(TICKS="60000")
    ticks = reader(module)
    cursor, polls, more = RawCursor("EURUSD", 0, 0), 0, True
    while more:
        (block,), _, unfinished, _ = ticks.poll([cursor], 1e6, 20_000, 0)
        cursor, polls, more = RawCursor("EURUSD", block.time_msc, block.count), polls + 1, bool(unfinished)
    assert polls < 10


def test_what_ails_one_symbol_does_not_stop_the_others() -> None:
    blocks, _, _, faults = reader(fresh_fake()).poll([RawCursor("NOSUCH", 0), RawCursor("EURUSD", 0)], 1e6, 100, 0)
    assert [b.symbol for b in blocks] == ["EURUSD"]
    assert "Not found" in faults["NOSUCH"]


def test_a_broken_pipe_ends_the_poll() -> None:
    with pytest.raises(HostError) as caught:
        reader(fresh_fake(FAULT_copy_ticks_from="-10001")).poll([RawCursor("EURUSD", 0)], 1e6, 100, 0)
    assert caught.value.failure.code == -10001


def test_a_stretch_of_the_past() -> None:
    ticks = reader(fresh_fake(TICKS="40"))
    assert len(ticks.stretch("EURUSD", BASE // 1000 + 1, BASE // 1000 + 2, None)) == 12 * TICK_RECORD_SIZE
    assert len(ticks.stretch("EURUSD", BASE // 1000, None, 7)) == 7 * TICK_RECORD_SIZE
    assert len(ticks.stretch("EURUSD", BASE // 1000, None, None)) == 40 * TICK_RECORD_SIZE
