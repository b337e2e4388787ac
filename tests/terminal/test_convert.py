import struct

from mt5_bridge.core.model import TICK_RECORD, MarginMode, Side, TickBlock
from mt5_bridge.terminal import convert
from mt5_bridge.terminal.clock import BrokerClock, Segment
from mt5_bridge.terminal.raw import (
    RawAccount,
    RawDeal,
    RawOrder,
    RawPosition,
    RawResult,
    RawSymbol,
    RawTerminal,
    RawTick,
)

HOUR = 3_600_000
CLOCK = BrokerClock(offset_ms=2 * HOUR)
RAW = 1_700_000_000_000 + 2 * HOUR
UTC = 1_700_000_000_000


def packed(*times: int, volume: int = 0, real: float = 0.0) -> bytes:
    record = struct.Struct(TICK_RECORD)
    return b"".join(record.pack(t // 1000, 1.1, 1.2, 0.0, volume, t, 6, real) for t in times)


def test_ticks_get_utc_times_and_numbers_within_the_ms() -> None:
    block = TickBlock("EURUSD", packed(RAW, RAW, RAW + 1, RAW + 1, RAW + 5), first_seq=3)
    assert [(t[0], t[1]) for t in convert.ticks(block, CLOCK)] == [
        (UTC, 3),
        (UTC, 4),
        (UTC + 1, 0),
        (UTC + 1, 1),
        (UTC + 5, 0),
    ]


def test_the_finer_volume_is_taken_where_there_is_one() -> None:
    (coarse,) = convert.ticks(TickBlock("X", packed(RAW, volume=3)), CLOCK)
    (fine,) = convert.ticks(TickBlock("X", packed(RAW, volume=3, real=3.25)), CLOCK)
    assert coarse[2:] == (1.1, 1.2, 0.0, 3, 6)
    assert fine[5] == 3.25


def test_an_empty_block_has_no_ticks() -> None:
    assert list(convert.ticks(TickBlock("X", b""), CLOCK)) == []


def test_a_block_across_a_step_uses_the_offset_valid_at_each_tick() -> None:
    clock = BrokerClock(timeline=[Segment(0, 0, 2 * HOUR), Segment(0, RAW + HOUR, 3 * HOUR)])
    times = [t[0] for t in convert.ticks(TickBlock("X", packed(RAW, RAW + HOUR, RAW + HOUR + 1)), clock)]
    assert times == [UTC, UTC, UTC + 1]


def test_bars_are_unpacked() -> None:
    data = struct.pack("<qddddQiQ", RAW // 1000, 1.0, 2.0, 0.5, 1.5, 7, 3, 9)
    (bar,) = convert.bars("X", "M1", data, CLOCK)
    assert (bar.time_msc, bar.open, bar.high, bar.low, bar.close) == (UTC, 1.0, 2.0, 0.5, 1.5)
    assert (bar.tick_volume, bar.spread, bar.real_volume, bar.timeframe) == (7, 3, 9, "M1")


def test_structs_become_the_bridges_own() -> None:
    account = convert.account(
        RawAccount(1, "S", "USD", 100, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0, True, True, 0.0, "n", "c", False)
    )
    assert (account.free_margin, account.margin_mode) == (4.0, MarginMode.NETTING)
    terminal = convert.terminal(RawTerminal(True, False, True, "n", "c", 5, "p", 9))
    assert (terminal.trade_allowed, terminal.tradeapi_disabled, terminal.ping_last_us) == (False, True, 9)
    symbol = convert.symbol(
        RawSymbol(
            "X",
            5,
            1e-5,
            0.0,
            1.0,
            1e5,
            0.01,
            1.0,
            0.01,
            0.0,
            10,
            5,
            4,
            2,
            3,
            127,
            15,
            0,
            "E",
            "U",
            "E",
            "",
            "",
            2,
            True,
        )
    )
    assert (symbol.tick_size, symbol.stops_level, symbol.freeze_level, symbol.filling_bits) == (1e-5, 10, 5, 3)
    position = convert.position(RawPosition(9, "X", 1, 0.1, 1.0, 1.1, 0.9, 1.2, 0.0, -5.0, RAW, 7, "c", 8), CLOCK)
    assert (position.side, position.stop_loss, position.time_msc, position.identifier) == (Side.SELL, 0.9, UTC, 8)
    order = convert.order(
        RawOrder(9, "X", 2, 1, 0.1, 0.1, 1.0, 0.0, 0.9, 1.2, RAW, 0, RAW // 1000, 7, "c", 0, 0), CLOCK
    )
    assert (order.time_setup_msc, order.time_done_msc, order.expiration_msc) == (UTC, 0, UTC)
    deal = convert.deal(RawDeal(1, 2, 3, "X", 0, 1, 0.1, 1.0, 5.0, 0.0, -1.0, 0.0, RAW, 7, 3, "c"), CLOCK)
    assert (deal.net, deal.time_msc) == (4.0, UTC)
    assert convert.quote("X", RawTick(RAW, 1.0, 1.1, 0.0, 3.0, 0.0), CLOCK).time_msc == UTC
    assert convert.result(RawResult(10009, 1, 2, 0.1, 1.0, 1.0, 1.1, "ok")).order == 2
