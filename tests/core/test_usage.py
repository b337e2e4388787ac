"""How much of each limit is used: as the guards count it."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from support.facts import an_account

from mt5_bridge.core.decision import Day, Limits
from mt5_bridge.core.risk import daily_loss_breached
from mt5_bridge.core.usage import usage

ACCOUNT = an_account()
DAY = Day(date="2026-01-05", start_equity=10_000.0, trades=3, peak_equity=11_000.0)
ALL = Limits(max_drawdown_pct=20.0, max_simultaneous_trades=4, min_margin_level_pct=150.0)


def test_each_limit_that_is_on() -> None:
    account = msgspec.structs.replace(ACCOUNT, equity=9_900.0, margin=100.0, margin_level=9_900.0)
    found = {each.name: each for each in usage(ALL, DAY, account, [], [], [])}
    assert (found["max_daily_trades"].used, found["max_daily_trades"].limit) == (3.0, 10.0)
    assert (found["max_daily_loss_pct"].used, found["max_drawdown_pct"].used) == (1.0, 10.0)
    assert found["max_simultaneous_trades"].used == 0.0
    assert found["min_margin_level_pct"].least
    assert found["min_margin_level_pct"].used == 9_900.0


def test_what_is_off_is_left_out_and_what_is_not_known_is_none() -> None:
    assert usage(Limits(max_daily_trades=None, max_daily_loss_pct=None), DAY, ACCOUNT, [], [], []) == ()
    assert {each.used for each in usage(ALL, None, None, [], [], [])} == {None, 0.0}
    idle = msgspec.structs.replace(ACCOUNT, margin=0.0)
    assert usage(ALL, DAY, idle, [], [], [])[-1].used is None
    broke = msgspec.structs.replace(DAY, start_equity=0.0)
    assert usage(Limits(), broke, idle, [], [], [])[1].used == 100.0


@given(st.floats(1.0, 20_000.0), st.floats(1.0, 20_000.0))
def test_the_loss_is_used_up_exactly_where_the_guard_denies(start: float, equity: float) -> None:
    day = msgspec.structs.replace(DAY, start_equity=start)
    account = msgspec.structs.replace(ACCOUNT, equity=equity)
    limits = Limits(max_daily_loss_pct=5.0)
    [loss] = [each for each in usage(limits, day, account, [], [], []) if each.name == "max_daily_loss_pct"]
    assert loss.used is not None
    if abs(loss.used - 5.0) > 0.001:  # the figure is rounded
        assert (daily_loss_breached(day, equity, limits) is not None) == (loss.used > 5.0)
