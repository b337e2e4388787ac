"""The command table: every name of the contract, what is accepted, what is refused, and stops that always count."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.control import params
from mt5_bridge.control.commands import (
    ALIASES,
    CAPABILITIES,
    COMMANDS,
    Command,
    StopFrame,
    capabilities,
    decode_answer,
    decode_command,
    encode_answer,
    failed,
    is_answer,
    is_command,
    meant,
    stop_of,
    succeeded,
)
from mt5_bridge.core.errors import WireError
from mt5_bridge.core.permission import Permission
from mt5_bridge.core.wire import decode

NOON = 1_577_880_000_000


def frame(type: str, data: Any = None, **beside: Any) -> bytes:
    return msgspec.json.encode({"type": type, "data": {} if data is None else data, **beside})


def command(type: str, data: Any = None, **beside: Any) -> Command:
    return decode_command(decode(frame(type, data, **beside)))


def stop(raw: bytes) -> StopFrame:
    found = stop_of(raw)
    assert found is not None
    return found


VALID: list[tuple[str, dict[str, Any]]] = [
    ("close_position", {"ticket": 1}),
    ("close_position", {"ticket": 1, "volume": 0.5, "unknown": "ignored"}),
    ("modify_position", {"ticket": 1, "stop_loss": 0}),
    ("modify_position", {"ticket": 1, "take_profit": 1.1}),
    ("cancel_order", {"ticket": 2**53}),
    ("modify_order", {"ticket": 1, "price": 1.5}),
    ("modify_order", {"ticket": 1, "expiration": "2020-01-01T12:00:00Z"}),
    ("close_all", {}),
    ("close_all", {"symbol": "EURUSD", "scope": "mine"}),
    ("reduce_only", {}),
    ("resume_trading", {"reason": "all clear", "by": "ann"}),
    ("get_status", {}),
    ("get_account", {}),
    ("get_positions", {}),
    ("get_orders", {"symbol": "EURUSD"}),
    ("get_symbols", {}),
    ("get_rates", {"symbol": "EURUSD", "timeframe": "M1"}),
    ("get_ticks", {"symbol": "EURUSD", "from_msc": 1, "to_msc": 1}),
    ("get_history", {}),
    ("get_signals", {"symbol": "EURUSD", "count": 5, "cursor": "7"}),
    ("get_signal", {"signal_id": "s-1"}),
    ("subscribe", {"symbols": ["EURUSD"]}),
    ("unsubscribe", {"symbols": ["EURUSD", "GBPUSD"]}),
    ("heartbeat", {}),
    ("emergency_stop", {"reason": "test", "scope": "all", "close_positions": False}),
]

INVALID: list[tuple[str, Any, str]] = [
    ("close_position", {}, "ticket"),
    ("close_position", {"ticket": 0}, "ticket"),
    ("close_position", {"ticket": "7"}, "ticket"),
    ("close_position", {"ticket": 1, "volume": 0}, "volume"),
    ("close_position", [1], "object"),
    ("modify_position", {"ticket": 1}, "needs stop_loss or take_profit"),
    ("modify_position", {"ticket": 1, "stop_loss": -1}, "stop_loss"),
    ("modify_order", {"ticket": 1}, "needs price"),
    ("modify_order", {"ticket": 1, "expiration": "tomorrow"}, "expiration is not a time"),
    ("modify_order", {"ticket": 1, "expiration": 1e300}, "expiration is not a time"),
    ("close_all", {"scope": "some"}, "scope"),
    ("resume_trading", {}, "reason"),
    ("resume_trading", {"reason": "x"}, "by"),
    ("resume_trading", {"reason": "", "by": "ann"}, "reason"),
    ("get_rates", {"symbol": "EURUSD", "timeframe": "M7"}, "timeframe"),
    ("get_rates", {"symbol": "EURUSD", "timeframe": "M1", "count": 0}, "count"),
    ("get_rates", {"symbol": "EURUSD", "timeframe": "M1", "from": "soon"}, "from is not a time"),
    ("get_ticks", {"symbol": "EURUSD", "count": 1_000_000}, "count"),
    ("get_ticks", {"symbol": "EURUSD", "from_msc": 2, "to_msc": 1}, "later"),
    ("get_history", {"kind": "trades"}, "kind"),
    ("get_history", {"from": 2, "to": 1}, "later"),
    ("get_signals", {"count": 0}, "count"),
    ("get_signals", {"cursor": "x"}, "cursor"),
    ("get_signal", {}, "signal_id"),
    ("get_signal", {"signal_id": ""}, "signal_id"),
    ("subscribe", {}, "symbols"),
    ("subscribe", {"symbols": []}, "symbols"),
    ("subscribe", {"symbols": [""]}, "symbols"),
    ("mt5_command", {}, "command"),
    ("mt5_command", {"command": "close_position", "params": {}}, "ticket"),
]


@pytest.mark.parametrize(("name", "data"), VALID)
def test_accepts(name: str, data: dict[str, Any]) -> None:
    decoded = command(name, data, request_id="r-1")
    assert (decoded.name, decoded.request_id, decoded.acts) == (name, "r-1", COMMANDS[name].acts)
    assert isinstance(decoded.params, COMMANDS[name].params)


def test_every_command_is_tried() -> None:
    assert {name for name, _ in VALID} == set(COMMANDS)


@pytest.mark.parametrize(("name", "data", "said"), INVALID)
def test_refuses_with_the_field_named(name: str, data: Any, said: str) -> None:
    with pytest.raises(WireError, match=said) as caught:
        command(name, data)
    assert caught.value.reason == "invalid_params"


@pytest.mark.parametrize(
    ("name", "data"), [("buy_everything", {}), ("mt5_command", {"command": "order_send"}), ("trading_signal", {})]
)
def test_unknown_commands(name: str, data: Any) -> None:
    with pytest.raises(WireError) as caught:
        command(name, data)
    assert caught.value.reason == "unknown_command"


def test_what_acts_is_remembered_and_what_reads_is_not() -> None:
    acting = {name for name, spec in COMMANDS.items() if spec.acts}
    assert acting == {
        "close_position", "modify_position", "cancel_order", "modify_order", "close_all",
        "emergency_stop", "reduce_only", "resume_trading",
    }  # fmt: skip


def test_mt5_command_is_another_way_to_the_same_table() -> None:
    assert set(ALIASES.values()) == set(COMMANDS)
    closing = command("mt5_command", {"command": " Close_Position ", "params": {"ticket": 5}}, request_id=7)
    assert closing == Command(name="close_position", params=params.ClosePosition(ticket=5), acts=True, request_id=7)
    assert command("mt5_command", {"command": "account_info"}).name == "get_account"


def test_data_may_be_null() -> None:
    assert decode_command(decode(b'{"type":"get_status","data":null}')).name == "get_status"


def test_typed_access() -> None:
    decoded = command("get_history", {"from": "2020-01-01T00:00:00Z", "to": NOON})
    assert decoded.of(params.GetHistory).range_msc(0) == (NOON - 12 * 3_600_000, NOON)
    assert command("get_history").of(params.GetHistory).range_msc(NOON) == (NOON - 24 * 3_600_000, NOON)
    with pytest.raises(AssertionError):
        decoded.of(params.GetTicks)


def test_rates_from_a_time() -> None:
    base = {"symbol": "EURUSD", "timeframe": "H1"}
    assert command("get_rates", base).of(params.GetRates).from_msc is None
    assert command("get_rates", base | {"from": NOON // 1000}).of(params.GetRates).from_msc == NOON


def test_which_frames_are_commands_and_which_are_never_answered() -> None:
    assert all(is_command(name) for name in (*COMMANDS, "mt5_command"))
    assert not is_command("trading_signal")
    assert set(CAPABILITIES) >= {"emergency_stop", "mt5_command", "trading_signal"}
    assert all(is_answer(t) for t in ("error", "command_result", "account_info_processed", "heartbeat_response"))
    assert not is_answer("heartbeat")


def test_answers() -> None:
    assert succeeded("get_status", {"a": 1}) == {"command": "get_status", "success": True, "data": {"a": 1}}
    assert failed("x", "unknown_command", "no") == {
        "command": "x",
        "success": False,
        "error": {"code": "unknown_command", "message": "no"},
    }


def test_a_stop_with_everything() -> None:
    data = {"reason": "fire", "by": "ann", "close_positions": True, "cancel_orders": False, "scope": "mine", "x": 1}
    found = stop(frame("emergency_stop", data, request_id=3))
    assert found.request_id == 3
    assert not found.faults
    assert found.params == params.EmergencyStop(
        reason="fire", by="ann", close_positions=True, cancel_orders=False, scope="mine"
    )


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type":"emergency_stop","data":{}}',
        b'{"type":"emergency_stop"}',
        b'{"type":"emergency_stop","data":null,"request_id":null}',
        frame("mt5_command", {"command": "emergency_stop"}),
        frame("mt5_command", {"command": "STOP", "params": {}}),
        b'{"type":"\\u0065mergency_stop"}',
    ],
)
def test_the_type_alone_is_a_stop(raw: bytes) -> None:
    assert stop(raw) == StopFrame(params.EmergencyStop())


def test_bad_fields_are_reported_and_the_good_ones_kept() -> None:
    data = {"reason": 5, "by": "ann", "close_positions": "yes", "scope": "mine"}
    found = stop(frame("emergency_stop", data, request_id={"a": 1}))
    assert found.params == params.EmergencyStop(by="ann", scope="mine")
    assert found.request_id is None
    assert len(found.faults) == 3
    assert stop(frame("emergency_stop", request_id=True)).request_id is None


def test_bad_data_is_still_a_stop() -> None:
    found = stop(frame("emergency_stop", [1, 2]))
    assert (found.params, found.faults) == (params.EmergencyStop(), ("data must be an object",))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type": "emergency_stop", "data": {"loss": NaN}}',
        b'{"type":"emergency_stop","data":{"reason":"\xff"}',
        b'{"type":"mt5_command","data":{"command":"emergency_stop","params":{"loss":Infinity}}}',
        b'\xef\xbb\xbf{"type":"emergency_stop","data":{}}',
    ],
)
def test_broken_json_of_that_type_is_still_a_stop(raw: bytes) -> None:
    assert stop(raw).faults


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"stop",
        b"[]",
        frame("trading_signal", {"comment": '"type":"emergency_stop"'}),
        frame("trading_signal", {"type": "emergency_stop"}),
        frame("mt5_command", {"command": "get_status", "params": {"stop": 1}}),
        frame("mt5_command", ["stop"]),
        frame("mt5_command", {"command": 5, "stop": 1}),
        frame("command_result", {"command": "emergency_stop"}),
    ],
)
def test_what_is_no_stop(raw: bytes) -> None:
    assert stop_of(raw) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(data=json_values, request_id=json_values)
def test_a_stop_latches_whatever_else_is_in_the_frame(data: Any, request_id: Any) -> None:
    assert stop_of(frame("emergency_stop", data, request_id=request_id)) is not None


@given(name=st.sampled_from(sorted(COMMANDS)), data=json_values)
def test_a_command_is_valid_or_refused_with_a_reason(name: str, data: Any) -> None:
    reason = None
    try:
        command(name, data)
    except WireError as error:
        reason = error.reason
    assert reason in (None, "invalid_params")


@given(raw=st.binary(max_size=60))
def test_no_frame_upsets_the_search_for_a_stop(raw: bytes) -> None:
    assert stop_of(b"emergency_stop" + raw) is None


def test_an_answer_is_remembered_as_it_was() -> None:
    answer = succeeded("close_position", {"order": 5})
    assert decode_answer(encode_answer(answer)) == answer


def test_capabilities_are_what_is_permitted() -> None:
    assert capabilities(frozenset(Permission)) == list(CAPABILITIES)
    assert capabilities(frozenset()) == ["emergency_stop", "heartbeat", "mt5_command"]
    assert set(capabilities(frozenset({Permission.SIGNAL}))) - set(capabilities(frozenset())) == {"trading_signal"}
    reading = set(capabilities(frozenset({Permission.READ})))
    assert {"get_status", "get_ticks"} <= reading
    assert not reading & {"close_all", "subscribe", "resume_trading", "trading_signal"}


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ({"type": "get_status", "data": {}}, "get_status"),
        ({"type": "mt5_command", "data": {"command": "Close"}}, "close_position"),
        ({"type": "mt5_command", "data": {"command": "dance"}}, None),
        ({"type": "mt5_command", "data": 5}, None),
        ({"type": "dance", "data": {}}, None),
    ],
)
def test_which_command_is_meant(sent: dict[str, Any], name: str | None) -> None:
    assert meant(decode(msgspec.json.encode(sent))) == name
