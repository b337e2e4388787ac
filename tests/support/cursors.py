"""Where a block of ticks leaves off, found from the ticks themselves."""

from mt5_bridge.core.model import Cursor, TickBlock
from mt5_bridge.terminal.convert import raw_time_at


def cursor_after(block: TickBlock, epoch: int = 0) -> Cursor:
    """The cursor behind a block that is not empty."""
    data = block.data
    last = raw_time_at(data, -1)
    index = block.count - 1
    while index > 0 and raw_time_at(data, index - 1) == last:
        index -= 1
    count = block.count - index
    return Cursor(last, count + block.first_seq if index == 0 else count, epoch)
