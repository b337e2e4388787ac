"""The messages of the contract: their field names are what backends are written against."""

import msgspec
import pytest
from support.facts import NOW, a_position, an_account

from mt5_bridge.core.messages import (
    AccountMessage,
    BarMessage,
    ConnectionStatus,
    HaltChanged,
    OrderResult,
    PendingChanged,
    PositionClosed,
    PositionMessage,
    Reason,
    Status,
    TradingSignal,
    Urgency,
    account_message,
    position_message,
)

FIELDS = {
    AccountMessage: "login server currency leverage balance equity margin free_margin margin_level profit margin_mode "
    "trade_allowed",
    PositionMessage: "ticket symbol type side volume price_open price_current stop_loss take_profit swap profit time "
    "magic comment signal_id",
    PositionClosed: "price_close profit commission swap reason signal_id",
    BarMessage: "symbol timeframe time open high low close tick_volume spread real_volume corrected",
    PendingChanged: "ticket signal_id state",
    ConnectionStatus: "channel state since detail",
    HaltChanged: "state phase reason by at cancelled closed survivors",
    OrderResult: "signal_id request_id status reason retcode retcode_text order deal position symbol action "
    "volume_requested volume_filled price stop_loss take_profit magic comment attempts received_at sent_at done_at "
    "latency_ms detail legs supersedes",
    TradingSignal: "symbol action signal_id volume risk_percent price stop_limit_price stop_loss take_profit "
    "deviation_points expiration comment urgency strategy account position created_at ttl_ms order target_signal_id "
    "trailing_stop_points break_even_points",
}
REASONS = (
    "trading_disabled halted reducing not_ready stale from_future bad_signature unknown_symbol ambiguous_symbol "
    "market_closed invalid below_min_volume max_volume spread drift no_stop_loss risk margin daily_trades daily_loss "
    "positions throttled stops_level expired not_found account_mismatch"
)


@pytest.mark.parametrize("message", FIELDS)
def test_the_contracts_fields_are_there(message: type[msgspec.Struct]) -> None:
    assert set(FIELDS[message].split()) <= set(message.__struct_fields__)


def test_the_contracts_reasons_and_statuses_are_there() -> None:
    assert set(REASONS.split()) <= {reason.value for reason in Reason}
    statuses = "filled partial placed modified cancelled closed rejected denied unknown abandoned simulated"
    assert {status.value for status in Status} == set(statuses.split())


def test_urgency_orders_work() -> None:
    assert sorted(Urgency, key=lambda urgency: urgency.rank) == [
        Urgency.CRITICAL,
        Urgency.HIGH,
        Urgency.NORMAL,
        Urgency.LOW,
    ]


def test_absent_fields_are_sent_as_null() -> None:
    sent = msgspec.json.decode(msgspec.json.encode(OrderResult(signal_id="s1", status=Status.DENIED)))
    assert sent["retcode"] is None
    assert set(sent) == set(OrderResult.__struct_fields__)


def test_a_position_on_the_wire() -> None:
    message = position_message(a_position(time_msc=NOW), signal_id="s1")
    assert (message.type, message.side, message.time, message.time_msc) == (0, "buy", "2023-11-14T22:13:20.000Z", NOW)
    assert message.signal_id == "s1"
    assert position_message(a_position()).signal_id is None


def test_an_account_on_the_wire() -> None:
    message = account_message(an_account(equity=9.5))
    assert (message.login, message.equity, message.margin_mode) == (1001, 9.5, "hedging")
