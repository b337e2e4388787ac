"""Orders, signals, positions, pending orders, the halt and the session over REST, on a bridge in memory."""

import asyncio
import inspect
from typing import Any, get_args

import pytest
from support.fake_bridge_port import FakePort, gateway, order_result
from support.gateway import bearer, jwt_for

from mt5_bridge.control import params
from mt5_bridge.core.claim import Claim
from mt5_bridge.core.messages import TradingSignal
from mt5_bridge.core.model import Action
from mt5_bridge.gateway import bodies, models
from mt5_bridge.gateway.auth import Scope
from mt5_bridge.gateway.port import BridgePort

ORDER = {"symbol": "EURUSD", "order_type": "BUY", "volume": 0.1, "sl": 1.0}
RESUME = {"reason": "over", "by": "Ana"}


def refused(code: str, **result: Any) -> Any:
    """A handler that refuses."""
    error = {"code": code, "message": "no", **({"result": order_result(**result)} if result else {})}
    return lambda asked: {"error": error}


async def test_an_order_is_a_signal() -> None:
    async with gateway() as client:
        body = {**ORDER, "order_type": "buy_limit", "price": 1.1, "tp": 1.2, "comment": "by hand", "unknown": 1}
        told = await client.ask("POST", "/order", body)
        models.ResultAnswer.model_validate(told, extra="forbid")
        assert (told["success"], told["result"]["status"]) == (True, "filled")
        assert client.port.asked == [
            (
                "trading_signal",
                {"symbol": "EURUSD", "action": "BUY_LIMIT", "volume": 0.1, "price": 1.1, "stop_loss": 1.0,
                 "take_profit": 1.2, "comment": "by hand"},
                "token",
                None,
            )
        ]  # fmt: skip


async def test_stop_and_target_by_their_long_names() -> None:
    async with gateway() as client:
        await client.ask("POST", "/order", {"symbol": "EURUSD", "order_type": "SELL", "stop_loss": 2, "take_profit": 1})
        assert client.port.asked[0][1] == {"symbol": "EURUSD", "action": "SELL", "stop_loss": 2.0, "take_profit": 1.0}


async def test_a_signal_goes_as_it_came_and_keeps_its_signature() -> None:
    async with gateway() as client:
        body = {"signal_id": "s", "symbol": "EURUSD", "action": "CLOSE"}
        await client.ask("POST", "/signal", body)
        assert client.port.asked[0][1] == body
        raw = b'{"symbol" : "EURUSD",  "action":"BUY"}'
        headers = {"X-Signature": "ab12", "Content-Type": "application/json"}
        assert (await client.http.post("/signal", content=raw, headers=headers)).status_code == 200
        assert client.port.signed == [(None, None), (raw, "ab12")]


@pytest.mark.parametrize(
    ("status", "reason", "http", "code"),
    [
        ("denied", "halted", 409, "halted"),
        ("denied", "no_stop_loss", 422, "no_stop_loss"),
        ("denied", "throttled", 429, "throttled"),
        ("denied", "not_ready", 503, "not_ready"),
        ("denied", "unknown_symbol", 404, "unknown_symbol"),
        ("denied", "bad_signature", 403, "bad_signature"),
        ("rejected", "terminal_refused", 409, "terminal_refused"),
        ("abandoned", "not_found", 409, "abandoned"),
    ],
)
async def test_what_is_not_done_is_a_problem_with_its_result(status: str, reason: str, http: int, code: str) -> None:
    async with gateway() as client:
        client.port.result = order_result(status, reason, detail="why")
        response = await client.http.post("/order", json=ORDER)
        told = response.json()
        assert (response.status_code, told["code"], told["detail"]) == (http, code, "why")
        assert told["result"]["status"] == status
        assert ("Retry-After" in response.headers) == (http in (429, 503))
        client.port.result = order_result(status, reason)
        assert (await client.ask("POST", "/order", ORDER, status=http))["detail"]


async def test_what_may_be_done_is_accepted_and_no_error() -> None:
    async with gateway() as client:
        client.port.result = order_result("unknown", "unknown_outcome")
        told = await client.ask("POST", "/order", ORDER, status=202)
        models.UnknownAnswer.model_validate(told, extra="forbid")
        assert told["success"] is False


@pytest.mark.parametrize(
    ("method", "path", "body", "asked"),
    [
        ("PATCH", "/positions/9", {"sl": 1.0}, ("modify_position", {"ticket": 9, "stop_loss": 1.0})),
        ("PATCH", "/positions/9", {"tp": 0}, ("modify_position", {"ticket": 9, "take_profit": 0})),
        ("DELETE", "/positions/9", None, ("close_position", {"ticket": 9})),
        ("DELETE", "/positions/9?volume=0.05", None, ("close_position", {"ticket": 9, "volume": 0.05})),
        ("PATCH", "/orders/7", {"price": 1.1, "expiration": "2026-01-06T10:00:00Z"},
         ("modify_order", {"ticket": 7, "price": 1.1, "expiration": "2026-01-06T10:00:00Z"})),
        ("DELETE", "/orders/7", None, ("cancel_order", {"ticket": 7})),
    ],
)  # fmt: skip
async def test_a_persons_commands(method: str, path: str, body: Any, asked: tuple[str, dict[str, Any]]) -> None:
    async with gateway() as client:
        assert (await client.ask(method, path, body))["result"]["status"] == "closed"
        assert [given[:2] for given in client.port.asked] == [asked]


async def test_a_result_names_the_request_as_its_asker_does() -> None:
    async with gateway() as client:
        client.port.answers["cancel_order"] = lambda asked: {"data": order_result("cancelled", request_id="token/x")}
        assert (await client.ask("DELETE", "/orders/7"))["result"]["request_id"] is None
        told = await client.ask("DELETE", "/orders/7", Idempotency_Key="mine")
        assert told["result"]["request_id"] == "mine"


async def test_a_resume_is_of_when_it_was_said_and_not_of_when_its_key_was_found() -> None:
    class Slow(FakePort):
        async def claim(self, request_id: str, fingerprint: str, *, by: str) -> Claim:
            self.latch(by="somebody")  # a stop comes while the journal is asked
            return await super().claim(request_id, fingerprint, by=by)

    async with gateway(Slow()) as client:
        client.port.answers["resume_trading"] = lambda asked: {
            "data": {"state": "active", "reason": "", "by": "", "at": ""}
        }
        await client.ask("POST", "/resume", RESUME, Idempotency_Key="k")
        assert (client.port.heard_last, client.port.latched) == (0, ["somebody"])


@pytest.mark.parametrize(
    ("handler", "http", "code"),
    [
        (refused("not_found"), 404, "not_found"),
        (refused("invalid_params"), 422, "invalid_params"),
        (refused("journal_unavailable"), 503, "journal_unavailable"),
        (refused("in_progress"), 409, "in_progress"),
        (refused("halted", status="denied", reason="halted"), 409, "halted"),
        (refused("not_found", status="abandoned", reason="not_found"), 409, "abandoned"),
        (refused("unknown_outcome", status="denied", reason="unknown_outcome"), 409, "unknown_outcome"),
    ],
)
async def test_a_command_that_is_refused(handler: Any, http: int, code: str) -> None:
    async with gateway() as client:
        client.port.answers["close_position"] = handler
        assert (await client.ask("DELETE", "/positions/9", status=http))["code"] == code


async def test_a_command_whose_outcome_is_unknown_is_accepted() -> None:
    async with gateway() as client:
        client.port.answers["close_position"] = refused("unknown_outcome", status="unknown", reason="unknown_outcome")
        told = await client.ask("DELETE", "/positions/9", status=202)
        assert (told["success"], told["result"]["status"]) == (False, "unknown")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/order", {}),
        ("POST", "/order", {**ORDER, "volume": "0.1"}),
        ("POST", "/order", {**ORDER, "volume": 0}),
        ("POST", "/order", {**ORDER, "order_type": "CLOSE"}),
        ("POST", "/order", {**ORDER, "order_type": 0}),
        ("POST", "/order", [ORDER]),
        ("POST", "/signal", {"symbol": "EURUSD"}),
        ("POST", "/signal", {"symbol": "EURUSD", "action": "buy"}),
        ("POST", "/signal", {"symbol": "EURUSD", "action": "CLOSE", "position": True}),
        ("PATCH", "/positions/x", {"sl": 1.0}),
        ("PATCH", "/positions/0", {"sl": 1.0}),
        ("DELETE", "/positions/-1", None),
        ("DELETE", "/positions/9?volume=0", None),
        ("DELETE", "/positions/9?volume=nan", None),
        ("DELETE", f"/orders/{1 << 63}", None),
        ("POST", "/ticks", {"symbol": "EURUSD", "count": 10_001}),
        ("POST", "/resume", {"by": "Ana"}),
        ("POST", "/connect", {"login": "x"}),
    ],
)
async def test_what_cannot_be_meant_reaches_nobody(method: str, path: str, body: Any) -> None:
    async with gateway() as client:
        assert (await client.ask(method, path, body, status=422))["code"] == "invalid"
        assert client.port.asked == client.port.sessions == []


async def test_nan_is_no_volume() -> None:
    async with gateway() as client:
        raw = b'{"symbol":"EURUSD","order_type":"BUY","volume":NaN}'
        response = await client.http.post("/order", content=raw, headers={"Content-Type": "application/json"})
        assert response.status_code == 422
        assert client.port.asked == []


# --- keys


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/order", ORDER),
        ("POST", "/signal", {"symbol": "EURUSD", "action": "CLOSE"}),
        ("PATCH", "/positions/9", {"sl": 1.0}),
        ("DELETE", "/positions/9", None),
        ("PATCH", "/orders/9", {"price": 1.0}),
        ("DELETE", "/orders/9", None),
        ("POST", "/resume", RESUME),
    ],
)
async def test_the_same_key_does_it_once_and_stands_for_nothing_else(method: str, path: str, body: Any) -> None:
    async with gateway() as client:
        client.port.answers["resume_trading"] = lambda asked: {
            "data": {"state": "active", "reason": "", "by": "", "at": None}
        }
        first = await client.ask(method, path, body, Idempotency_Key="k-1")
        response = await client.http.request(method, path, headers={"Idempotency-Key": "k-1"}, json=body)
        assert (response.json(), response.headers["Idempotency-Replayed"]) == (first, "true")
        assert len(client.port.asked) == 1
        other = await client.ask("POST", "/order", {**ORDER, "volume": 0.3}, status=422, Idempotency_Key="k-1")
        assert other["code"] == "idempotency_key_reused"
        assert len(client.port.asked) == 1


async def test_a_refusal_is_an_answer_too_and_a_new_try_needs_a_new_key() -> None:
    async with gateway() as client:
        client.port.result = order_result("denied", "not_ready", detail="wait")
        first = await client.http.post("/order", json=ORDER, headers={"Idempotency-Key": "k"})
        again = await client.http.post("/order", json=ORDER, headers={"Idempotency-Key": "k"})
        assert ("Idempotency-Replayed" in first.headers, again.headers["Idempotency-Replayed"]) == (False, "true")
        for response in (first, again):
            assert response.status_code == 503
            assert "Retry-After" not in response.headers, "who tries again by itself does so with the same key"
            assert response.json()["retry"] == "with a new Idempotency-Key"
        assert "retry" not in await client.ask("POST", "/order", ORDER, status=503)
        client.port.answers["close_position"] = client.port.answers["resume_trading"] = refused("journal_unavailable")
        for method, path, body in (("DELETE", "/positions/9", None), ("POST", "/resume", RESUME)):
            told = await client.ask(method, path, body, status=503, Idempotency_Key=f"k-{path}")
            assert told["retry"]


async def test_a_key_belongs_to_whom_the_token_names() -> None:
    async with gateway() as client:
        await client.ask("POST", "/order", ORDER, Idempotency_Key="k")
        token = jwt_for(Scope.TRADE, subject="bob")
        await client.ask(
            "POST", "/order", {**ORDER, "volume": 0.2}, Idempotency_Key="k", Authorization=f"Bearer {token}"
        )
        assert [by for _, _, by, _ in client.port.asked] == ["token", "bob"]


async def test_the_order_of_fields_and_spaces_make_no_other_request() -> None:
    async with gateway() as client:
        await client.ask("POST", "/order", ORDER, Idempotency_Key="k")
        await client.ask("POST", "/order", dict(reversed(ORDER.items())), Idempotency_Key="k")
        assert len(client.port.asked) == 1


@pytest.mark.parametrize("key", ["", "x" * 201, "a b", "ü"])
async def test_a_key_must_be_short_and_plain(key: str) -> None:
    async with gateway() as client:
        headers = [("Idempotency-Key", key.encode())]
        response = await client.http.post("/order", json=ORDER, headers=headers)  # type: ignore[arg-type]  # bytes
        assert (response.status_code, response.json()["code"]) == (422, "invalid")
        assert client.port.asked == []


async def test_a_key_that_cannot_be_looked_up_does_nothing() -> None:
    async with gateway() as client:
        client.port.broken = True
        told = await client.ask("POST", "/order", ORDER, status=503, Idempotency_Key="k")
        assert told["code"] == "journal_unavailable"
        assert client.port.asked == []
        await client.ask("POST", "/order", ORDER)


async def test_without_a_key_each_request_is_one() -> None:
    async with gateway() as client:
        await asyncio.gather(*(client.ask("POST", "/order", ORDER) for _ in range(3)))
        assert len(client.port.asked) == 3


# --- the halt and the session


async def test_resume_says_who() -> None:
    async with gateway() as client:
        latched = {"state": "active", "reason": "over", "by": "Ana", "at": "2026-01-05T10:00:00.000Z"}
        client.port.answers["resume_trading"] = lambda asked: {"data": latched}
        told = await client.ask("POST", "/resume", {**RESUME, "force": True})
        models.HaltAnswer.model_validate(told, extra="forbid")
        assert client.port.asked == [("resume_trading", {**RESUME, "force": True}, "token", None)]
        client.port.answers["resume_trading"] = refused("survivors")
        assert (await client.ask("POST", "/resume", RESUME, status=409))["code"] == "survivors"


async def test_connect_and_disconnect() -> None:
    async with gateway() as client:
        told = await client.ask("POST", "/connect", {"login": "123", "server": "S", "password": "geheim"})
        models.SessionAnswer.model_validate(told, extra="forbid")
        await client.ask("POST", "/connect")
        await client.ask("POST", "/disconnect", Idempotency_Key="d")
        assert client.port.sessions == [
            ("connect", 123, "S", "geheim", "token", None),
            ("connect", None, None, None, "token", None),
            ("disconnect", "token", "http:d"),
        ]


async def test_nothing_of_the_session_before_is_read_after_it() -> None:
    async with gateway() as client:
        client.port.answers["get_symbols"] = lambda asked: {"data": [{"name": "EURUSD"}], "next": None}
        for _ in range(2):
            await client.ask("GET", "/symbols")
        assert client.port.names().count("get_symbols") == 1
        await client.ask("POST", "/disconnect")
        await client.ask("GET", "/symbols")
        assert client.port.names().count("get_symbols") == 2


async def test_a_broadcast_is_told_once_for_its_key() -> None:
    async with gateway() as client:
        for _ in range(2):
            told = await client.ask("POST", "/websocket/ws/broadcast", {"message": "hello"}, Idempotency_Key="b")
            assert told == {"success": True, "clients": 0}
        assert client.app.state.gateway.hub.stats.broadcasts == 1
        other = {"message": "another"}
        refused = await client.ask("POST", "/websocket/ws/broadcast", other, status=422, Idempotency_Key="b")
        assert refused["code"] == "idempotency_key_reused"


async def test_going_over_to_another_account_is_accepted_and_its_password_is_in_no_fingerprint() -> None:
    async with gateway() as client:
        client.port.session = {**client.port.session, "connected": False, "begins_anew": True}
        body = {"login": 5, "password": "one"}
        told = await client.ask("POST", "/connect", body, status=202, Idempotency_Key="c")
        assert "begins_anew" not in told
        await client.ask("POST", "/connect", {**body, "password": "two"}, status=202, Idempotency_Key="c")
        assert len(set(client.port.claims.values())) == 1


@pytest.mark.parametrize(
    ("code", "http"), [("other_account", 403), ("open_intents", 409), ("login_refused", 409), ("in_progress", 409)]
)
async def test_a_session_that_stays_as_it_is(code: str, http: int) -> None:
    async with gateway() as client:
        client.port.refused = {"code": code, "message": "no"}
        for path in ("/connect", "/disconnect"):
            assert (await client.ask("POST", path, status=http))["code"] == code


# --- scopes


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        (Scope.READ, {"read"}),
        (Scope.TRADE, {"read", "trade"}),
        (Scope.STOP, set()),
        (Scope.ADMIN, {"read", "trade", "admin"}),
    ],
)
async def test_each_scope_opens_its_doors_only(scope: Scope, allowed: set[str]) -> None:
    doors = {
        "read": [("GET", "/account"), ("GET", "/positions"), ("GET", "/orders"), ("GET", "/symbols"),
                 ("GET", "/symbols/X"), ("GET", "/rates"), ("GET", "/history/deals"), ("GET", "/history/orders"),
                 ("POST", "/ticks")],
        "trade": [("POST", "/order"), ("POST", "/signal"), ("PATCH", "/positions/1"), ("DELETE", "/positions/1"),
                  ("PATCH", "/orders/1"), ("DELETE", "/orders/1")],
        "admin": [("POST", "/resume"), ("POST", "/connect"), ("POST", "/disconnect")],
    }  # fmt: skip
    async with gateway() as client:
        headers = bearer(jwt_for(scope))
        for name, routes in doors.items():
            for method, path in routes:
                response = await client.http.request(method, path, headers=headers)
                forbidden = response.status_code == 403 and response.json()["code"] == "missing_scope"
                assert forbidden != (name in allowed), (scope, method, path, response.text)


# --- what this stands on


def test_the_fake_is_a_port() -> None:
    port: BridgePort = FakePort()
    for name, wanted in inspect.getmembers(BridgePort, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.signature(getattr(FakePort, name)) == inspect.signature(wanted), name
    assert port is not None


def test_bodies_have_the_fields_of_signals_and_commands() -> None:
    assert set(bodies.NewSignal.model_fields) == set(TradingSignal.__struct_fields__)
    assert set(get_args(bodies.AnyAction)) == set(Action)
    assert set(get_args(bodies.Opening)) == {action for action in Action if action.opens}
    assert set(get_args(bodies.Timeframe)) == set(get_args(params.Timeframe))
    assert set(bodies.WantedTicks.model_fields) == set(params.GetTicks.__struct_fields__)
    assert set(bodies.Resume.model_fields) == set(params.ResumeTrading.__struct_fields__)
