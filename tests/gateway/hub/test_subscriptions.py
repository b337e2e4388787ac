from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.core.channels import Channel
from mt5_bridge.gateway.hub.subscriptions import Subscriptions, Wanted

SYMBOLS = ["EURUSD", "GBPUSD", "USDJPY"]
wanted = st.builds(
    Wanted,
    channels=st.none() | st.lists(st.sampled_from(Channel), max_size=3),
    symbols=st.none() | st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=3),
)


def heard(subscriptions: Subscriptions) -> list[str]:
    return [symbol for symbol in SYMBOLS if subscriptions.wants(Channel.TICKS, symbol)]


def test_nothing_is_heard_at_first() -> None:
    assert Subscriptions().data() == {"channels": [], "symbols": None}
    assert not any(Subscriptions().wants(channel, "EURUSD") for channel in Channel)


def test_ticks_of_all_symbols_or_of_some() -> None:
    all_of_them = Subscriptions().added(Wanted(channels=[Channel.TICKS]))
    assert heard(all_of_them) == SYMBOLS
    some = all_of_them.added(Wanted(symbols=["EURUSD"]))
    assert heard(some) == ["EURUSD"]
    more = some.added(Wanted(symbols=["USDJPY"]))
    assert heard(more) == ["EURUSD", "USDJPY"]
    assert more.data() == {"channels": ["ticks"], "symbols": ["EURUSD", "USDJPY"]}
    assert heard(more.added(Wanted(channels=[Channel.TICKS]))) == SYMBOLS
    assert heard(more.added(Wanted(channels=[Channel.EVENTS]))) == ["EURUSD", "USDJPY"]


def test_symbols_are_left_out_until_none_is_left() -> None:
    some = Subscriptions().added(Wanted(symbols=["EURUSD", "GBPUSD"]))
    one = some.removed(Wanted(symbols=["EURUSD"]), SYMBOLS)
    assert heard(one) == ["GBPUSD"]
    assert one.removed(Wanted(symbols=["GBPUSD"]), SYMBOLS) == Subscriptions()


def test_all_but_some() -> None:
    all_of_them = Subscriptions().added(Wanted(channels=[Channel.TICKS, Channel.EVENTS]))
    left = all_of_them.removed(Wanted(symbols=["EURUSD"]), SYMBOLS)
    assert heard(left) == ["GBPUSD", "USDJPY"]
    assert left.wants(Channel.EVENTS, "")


def test_a_channel_that_ends_forgets_its_symbols() -> None:
    some = Subscriptions().added(Wanted(symbols=["EURUSD"]))
    none = some.removed(Wanted(channels=[Channel.TICKS]), SYMBOLS)
    assert none == Subscriptions()
    assert heard(none.added(Wanted(channels=[Channel.TICKS]))) == SYMBOLS


def test_symbols_named_with_channels_are_those_of_the_ticks() -> None:
    both = Wanted(channels=[Channel.TICKS, Channel.EVENTS], symbols=["EURUSD"])
    kept = Subscriptions().added(Wanted(channels=[*Channel])).removed(both, SYMBOLS)
    assert heard(kept) == ["GBPUSD", "USDJPY"]
    assert not kept.wants(Channel.EVENTS, "")
    assert kept.wants(Channel.ACCOUNT, "account_info")


@pytest.mark.parametrize("data", [{"channels": ["news"]}, {"channels": "ticks"}, {"symbols": [1]}])
def test_what_there_is_not_cannot_be_asked_for(data: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(data, Wanted)


@given(st.lists(st.tuples(st.booleans(), wanted), max_size=8), wanted)
def test_what_was_asked_for_is_heard_and_what_was_left_out_is_not(
    story: Sequence[tuple[bool, Wanted]], last: Wanted
) -> None:
    now = Subscriptions()
    for add, each in story:
        now = now.added(each) if add else now.removed(each, SYMBOLS)
        assert (Channel.TICKS in now.channels) == bool(heard(now))
    asked = now.added(last)
    assert last.named <= asked.channels
    assert set(last.symbols or ()) <= set(heard(asked))
    left = now.removed(last, SYMBOLS)
    assert left.channels <= now.channels
    assert not set(last.symbols or ()) & set(heard(left))
    if last.symbols is None:
        assert not last.named & left.channels
