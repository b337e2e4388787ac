import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.eventually import eventually
from support.gateway import JWT_KEY, TOKEN, bearer, jwt_for
from support.simulated import simulated

from mt5_bridge.gateway.audit import Audit
from mt5_bridge.gateway.auth import Authenticator, Scope
from mt5_bridge.gateway.config import GatewayConfig
from mt5_bridge.gateway.rates import BAD_TOKENS_A_MINUTE, Rates
from mt5_bridge.gateway.shield import BODY_WITHIN_S, Shield, ShieldStats, _host_of
from mt5_bridge.journal import changes

HOST = "127.0.0.1:8001"
CONFIG = GatewayConfig(token=TOKEN, jwt_key=JWT_KEY, rate_limit_requests=1_000_000, body_limit=100)


class Notes:
    """A journal that keeps the audit."""

    def __init__(self) -> None:
        self.kept: list[changes.Audited] = []

    async def commit(self, *batch: changes.Change) -> None:
        self.kept += [one for one in batch if isinstance(one, changes.Audited)]


class Inner:
    """The app behind it: answers with what it read; `/boom` and `/late` fail."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["path"] == "/boom":
            raise ZeroDivisionError
        headers = [(b"content-security-policy", b"mine")] if scope["path"] == "/page" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["path"] == "/late":
            raise ZeroDivisionError
        await send({"type": "http.response.body", "body": body})


class Kit:
    def __init__(self, config: GatewayConfig = CONFIG) -> None:
        self.inner = Inner()
        self.notes = Notes()
        self.audit = Audit(self.notes, lambda: 7)
        self.stats = ShieldStats()
        self.shield = Shield(
            self.inner,
            config,
            Authenticator(config.token, config.jwt_key),
            Rates(config.rate_limit_requests),
            self.audit,
            self.stats,
            ["/health"],
        )

    async def ask(
        self, method: str = "GET", path: str = "/x", *, content: Any = None, scheme: str = "http", **headers: str
    ) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in {**bearer(), **headers}.items()}
        transport = httpx.ASGITransport(self.shield)
        async with httpx.AsyncClient(transport=transport, base_url=f"{scheme}://{HOST}") as client:
            return await client.request(method, path, content=content, headers=given)


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    made = Kit()
    made.audit.start()
    yield made
    await made.audit.stop(1.0)


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["instance"] == answer.headers["x-request-id"]
    assert set(body) >= {"type", "title", "status", "detail", "code", "instance"}
    return answer.status_code, body["code"]


# --- what every answer carries


async def test_every_answer_has_its_headers_and_its_id(kit: Kit) -> None:
    for answer in (await kit.ask(), await kit.ask(Authorization="nothing"), await kit.ask("POST", "/boom")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert "access-control-allow-origin" not in answer.headers
        assert "strict-transport-security" not in answer.headers
        assert len(answer.headers["x-request-id"]) == 32
    assert (await kit.ask("GET", "/page")).headers.get_list("content-security-policy") == ["mine"]


async def test_with_tls_it_stays_with_tls(tmp_path: Any) -> None:
    secure = Kit(GatewayConfig(token=TOKEN, tls_cert=tmp_path))
    assert (await secure.ask(scheme="https")).headers["strict-transport-security"]


async def test_the_clients_id_is_kept_where_it_is_one(kit: Kit) -> None:
    assert (await kit.ask(X_Request_ID="desk:7.a_b-c")).headers["x-request-id"] == "desk:7.a_b-c"
    for strange in ("", "a b", "x" * 65, "<script>", "a\tb"):
        assert len((await kit.ask(X_Request_ID=strange)).headers["x-request-id"]) == 32


# --- whom it is meant for


@pytest.mark.parametrize("host", ["127.0.0.1", HOST, "localhost:8001", "LOCALHOST.", "[::1]:8001", "[::1]"])
async def test_our_own_names(kit: Kit, host: str) -> None:
    assert (await kit.ask(Host=host)).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8001", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "", "10.0.0.1", "a b",
     "localhost:8001:1", "localhost:99999999", "127.0.0.1, evil.example", "[::2]", "0.0.0.1", "localhost/x"],
)  # fmt: skip
async def test_dns_rebinding(kit: Kit, host: str) -> None:
    for path in ("/x", "/health", "/emergency-stop"):
        assert problem(await kit.ask("POST", path, Host=host)) == (400, "host_not_allowed")
    assert not kit.inner.scopes


async def test_two_hosts_or_none(kit: Kit) -> None:
    for headers in ([], [(b"host", b"localhost"), (b"host", b"localhost")]):
        sent = await raw(kit, headers=[*headers, (b"authorization", f"Bearer {TOKEN}".encode())])
        assert sent[0]["status"] == 400


async def test_names_that_are_allowed() -> None:
    named = Kit(GatewayConfig(token=TOKEN, host="10.0.0.5", allowed_hosts=("Desk.example",)))
    for host, status in (("10.0.0.5:8001", 200), ("desk.EXAMPLE", 200), ("10.0.0.6", 400), ("x.desk.example", 400)):
        assert (await named.ask(Host=host)).status_code == status
    everywhere = Kit(GatewayConfig(token=TOKEN, host="0.0.0.0"))  # noqa: S104  nothing is bound
    for host, status in (("10.0.0.6", 200), ("[fe80::1]:8001", 200), ("desk.example", 400)):
        assert (await everywhere.ask(Host=host)).status_code == status


@given(st.text(max_size=40))
def test_any_text_is_a_host_or_none(text: str) -> None:
    name, port = _host_of(text)
    assert not name or name.strip("[]").replace(".", "").replace("-", "").replace("_", "").replace(":", "").isalnum()
    assert port is None or name


# --- from which page


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8001", "HTTP://127.0.0.1:8001"])
async def test_our_own_pages(kit: Kit, origin: str) -> None:
    assert (await kit.ask("POST", Origin=origin)).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["null", "http://evil.example", "http://127.0.0.1:8002", "https://127.0.0.1:8001", "http://localhost:8001",
     "http://127.0.0.1:8001.evil.example", "file://", "http://[", "", "http://127.0.0.1:8001@evil.example",
     "chrome-extension://127.0.0.1:8001", "http://127.0.0.1:x"],
)  # fmt: skip
async def test_strange_pages(kit: Kit, origin: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        assert problem(await kit.ask(method, Origin=origin)) == (403, "origin_not_allowed")
    assert problem(await kit.ask("GET", "/health", Origin=origin)) == (403, "origin_not_allowed")
    assert not kit.inner.scopes
    assert kit.stats.refused["origin_not_allowed"] == 4


async def test_pages_that_are_allowed() -> None:
    kit = Kit(GatewayConfig(token=TOKEN, allowed_origins=("https://Desk.example",)))
    assert (await kit.ask("POST", Origin="https://desk.example")).status_code == 200
    assert (await kit.ask("POST", Origin="https://desk.example:444")).status_code == 403


# --- who


async def test_no_token_no_answer(kit: Kit) -> None:
    for path in ("/x", "/nothing/here", "/emergency-stop", "/health/", "//health"):
        assert problem(await kit.ask("GET", path, Authorization="")) == (401, "invalid_token")
    assert not kit.inner.scopes
    assert problem(await kit.ask("POST", "/health", Authorization="Bearer x")) == (401, "invalid_token")
    assert (await kit.ask("GET", "/health", Authorization="Bearer x")).status_code == 200


async def test_two_tokens_are_none(kit: Kit) -> None:
    token = (b"authorization", f"Bearer {TOKEN}".encode())
    sent = await raw(kit, headers=[(b"host", HOST.encode()), token, token])
    assert sent[0]["status"] == 401


async def test_a_token_in_the_address_is_none(kit: Kit) -> None:
    answer = await kit.ask("GET", f"/x?token={TOKEN}&access_token={TOKEN}", Authorization="")
    assert answer.status_code == 401
    assert TOKEN not in answer.text


async def test_who_asks_is_told_to_the_routes(kit: Kit) -> None:
    await kit.ask(Authorization=f"Bearer {jwt_for(Scope.STOP)}", X_Request_ID="r1")
    state = kit.inner.scopes[0]["state"]
    assert (state["principal"].subject, state["request_id"]) == ("ann", "r1")
    await kit.ask("GET", "/health", Authorization="")
    assert kit.inner.scopes[1]["state"]["principal"] is None


async def test_a_path_that_would_forge_lines_of_the_log(kit: Kit) -> None:
    for path in ("/x%0A2026-01-01 ERROR", "/x%1b[31m", "/x%00", "/x%E2%80%AE"):
        assert problem(await kit.ask("POST", path)) == (400, "bad_request")
    assert not kit.inner.scopes


# --- how often


async def test_a_token_has_its_rate_and_the_stop_has_none() -> None:
    kit = Kit(GatewayConfig(token=TOKEN, jwt_key=JWT_KEY, rate_limit_requests=3))
    other = f"Bearer {jwt_for(Scope.READ)}"
    assert [(await kit.ask()).status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = await kit.ask()
    assert problem(refused) == (429, "rate_limited")
    assert 0 < int(refused.headers["retry-after"]) <= 120
    assert (await kit.ask(Authorization=other)).status_code == 200, "another's rate is another's"
    for _ in range(10):
        assert (await kit.ask("POST", "/emergency-stop")).status_code == 200
    assert (await kit.ask("GET", "/health", Authorization="")).status_code == 200


async def test_who_guesses_is_slowed_and_who_knows_is_not() -> None:
    kit = Kit()
    answers = [(await kit.ask(Authorization=f"Bearer {n}")).status_code for n in range(BAD_TOKENS_A_MINUTE + 2)]
    assert answers == [401] * BAD_TOKENS_A_MINUTE + [429] * 2
    assert (await kit.ask()).status_code == 200
    assert (await kit.ask("POST", "/emergency-stop")).status_code == 200


# --- how much


async def test_a_body_has_bounds_said_or_not(kit: Kit) -> None:
    assert (await kit.ask("POST", content=b"x" * 100)).text == "x" * 100

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 10

    for content in (b"x" * 101, pieces()):
        answer = await kit.ask("POST", content=content)
        assert problem(answer) == (413, "too_large")
        assert answer.headers["connection"] == "close"


async def test_no_length_keeps_a_stop_back(kit: Kit) -> None:
    answer = await kit.ask("POST", "/emergency-stop", content=b"x" * 101)
    assert problem(answer) == (413, "too_large")
    assert [scope["path"] for scope in kit.inner.scopes] == ["/emergency-stop"], "it was asked, and latches"


def test_a_body_that_does_not_come() -> None:
    @simulated
    async def run() -> None:
        kit = Kit()
        began = asyncio.get_running_loop().time()

        async def receive() -> Any:
            await asyncio.Event().wait()

        token = (b"authorization", f"Bearer {TOKEN}".encode())
        sent = await raw(kit, headers=[(b"host", HOST.encode()), token], receive=receive)
        assert sent[0]["status"] == 408
        assert asyncio.get_running_loop().time() - began == pytest.approx(BODY_WITHIN_S, abs=1)

    run()


# --- what goes wrong


async def test_a_defect_is_a_problem_and_no_end(kit: Kit) -> None:
    assert problem(await kit.ask("POST", "/boom")) == (500, "defect")
    assert "ZeroDivision" not in (await kit.ask("POST", "/boom")).text
    assert kit.stats.defects == 2
    assert (await kit.ask()).status_code == 200


async def test_a_defect_in_the_middle_of_an_answer_ends_it(kit: Kit) -> None:
    sent = await raw(
        kit, path="/late", headers=[(b"host", HOST.encode()), (b"authorization", f"Bearer {TOKEN}".encode())]
    )
    assert [message["type"] for message in sent] == ["http.response.start"]


# --- what is remembered


async def test_what_acts_is_audited_and_nothing_else(kit: Kit) -> None:
    await kit.ask("GET")
    await kit.ask("POST", Authorization="Bearer x")
    await kit.ask("POST", "/order", X_Request_ID="r9", Authorization=f"Bearer {jwt_for(Scope.TRADE)}")
    await kit.ask("DELETE", "/boom")
    await eventually(lambda: len(kit.notes.kept) == 2)
    first, second = kit.notes.kept
    assert (first.who, first.what, first.detail, first.at_msc) == ("gateway:ann", "POST /order", "200 request r9", 7)
    assert (second.who, second.what, second.detail[:3]) == ("gateway:token", "DELETE /boom", "500")


# --- WebSocket


async def websocket(kit: Kit, *headers: tuple[bytes, bytes], denies: bool = False) -> list[Any]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket", "path": "/websocket/ws", "scheme": "ws", "headers": list(headers), "client": ("::1", 1),
        "query_string": b"", "extensions": {"websocket.http.response": {}} if denies else {},
    }  # fmt: skip
    await kit.shield(scope, receive, send)
    return sent


OWN = (b"host", HOST.encode())


async def test_a_websocket_of_a_strange_page_is_refused_before_it_is_one(kit: Kit) -> None:
    for origin in (b"http://evil.example", b"null"):
        (closed,) = await websocket(kit, OWN, (b"origin", origin))
        assert (closed["type"], closed["code"]) == ("websocket.close", 1008)
        start, body = await websocket(kit, OWN, (b"origin", origin), denies=True)
        assert start["status"] == 403
        assert json.loads(body["body"])["code"] == "origin_not_allowed"
    assert not kit.inner.scopes


async def test_a_websocket_for_another_host_or_with_a_bad_token_is_refused(kit: Kit) -> None:
    assert (await websocket(kit, (b"host", b"evil.example"), denies=True))[0]["status"] == 400
    assert (await websocket(kit, OWN, (b"authorization", b"Bearer x"), denies=True))[0]["status"] == 401
    assert not kit.inner.scopes


async def test_a_websocket_may_tell_who_it_is_later(kit: Kit) -> None:
    assert (await websocket(kit, OWN))[0]["type"] == "websocket.accept"
    assert kit.inner.scopes[0]["state"]["principal"] is None
    await websocket(kit, OWN, (b"authorization", f"Bearer {TOKEN}".encode()), (b"origin", b"http://127.0.0.1:8001"))
    assert kit.inner.scopes[1]["state"]["principal"].subject == "token"


async def test_other_matters_of_the_server_pass(kit: Kit) -> None:
    with pytest.raises(TypeError):
        await kit.shield({"type": "lifespan"}, None, None)  # type: ignore[arg-type]  # the app behind has no use for it
    assert kit.inner.scopes


async def raw(kit: Kit, *, headers: list[tuple[bytes, bytes]], path: str = "/x", receive: Any = None) -> list[Any]:
    """A request as no client library would send it."""
    sent: list[Any] = []

    async def nothing() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "scheme": "http", "headers": headers, "client": None}
    await kit.shield(scope, receive or nothing, send)
    return sent
