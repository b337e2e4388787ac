"""Pages of the past, made ready in the host: the daemon has more to do than to turn a day's ticks into text."""

from mt5_bridge.core.model import TICK_RECORD_SIZE
from mt5_bridge.core.ticks import TickFramer
from mt5_bridge.terminal import convert
from mt5_bridge.terminal.clock import BrokerClock
from mt5_bridge.terminal.raw import PageArgs, RawBlock, RawPage


def framed(block: RawBlock, args: PageArgs) -> RawPage:
    """A block as records for the broker, each tick with the UTC time that the daemon's clock would give it."""
    clock = BrokerClock(timezone=args.timezone, timeline=args.timeline)
    data, first_seq = block.data, block.first_seq
    if args.latest_only and data:
        data, first_seq = data[-TICK_RECORD_SIZE:], block.count - 1
    framer = TickFramer(args.label, first_seq=first_seq, now_msc=args.now_msc)
    batches = [batch for run, offset in convert.runs(data, clock, args.epoch) for batch in framer.frame(run, offset)]
    return RawPage(
        batches,
        len(block.data) // TICK_RECORD_SIZE,
        framer.unusable,
        clock.to_utc(convert.raw_time_at(data, -1), args.epoch) if data else None,
        block.more,
        block.time_msc,
        block.count,
        block.lost,
    )
