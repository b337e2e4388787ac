"""The doctor's checks, each against something well and something ill."""

import http.server
import importlib.machinery
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.backend import Backend
from support.certificates import Authority
from support.door import Door

from mt5_bridge.cli import doctor
from mt5_bridge.cli.doctor import Finding, examine, knock
from mt5_bridge.core.errors import MT5AuthError
from mt5_bridge.core.model import AccountInfo, MarginMode, TerminalInfo
from mt5_bridge.demo.broker import EmbeddedBroker
from mt5_bridge.settings import SecretStr, Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        terminal="paper", data_dir=tmp_path / "data", redpanda_bootstrap_servers="127.0.0.1:9", mode="standard"
    )


def changed(settings: Settings, **values: Any) -> Settings:
    return Settings(**{**{name: getattr(settings, name) for name in settings.__struct_fields__}, **values})


async def test_a_healthy_paper_bridge(settings: Settings) -> None:
    async with Backend("t") as backend:
        found = {f.name: f for f in await examine(changed(settings, backend_ws_url=backend.url))}
    assert found["python"].ok
    assert found["data folder"].ok
    assert found["terminal"].ok, found["terminal"]
    assert found["terminal"].detail.startswith("account 5000001 at Paper-Demo")
    assert {name for name, finding in found.items() if finding.ok is None} == {
        "bridge", "MetaTrader5", "dead-man's switch", "Redpanda", "backend API",
    }  # fmt: skip
    assert list(settings.data_dir.iterdir()) == []


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finding = await doctor._data_dir(Settings(data_dir=tmp_path / "file" / "x"))
    assert finding.ok is False
    assert finding.remedy.startswith("make it writable")


async def test_a_pc_that_lost_its_clock(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    finding = await doctor._clock(settings)
    assert (finding.ok, finding.detail) == (False, "1970-01-01 00:16:40 UTC")


async def test_a_full_machine(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"warnings": ["memory is 99 % used"], "status": "warning"}
    monkeypatch.setattr("mt5_bridge.cli.doctor.HealthChecker.check_system_resources", lambda self: figures)
    finding = await doctor._resources(settings)
    assert (finding.ok, finding.detail) == (False, "memory is 99 % used")


async def test_a_bridge_that_runs_and_one_that_hangs(settings: Settings) -> None:
    answer = b'{"success": true, "data": {"status": "degraded"}}\n'
    with Door(settings.control_path, lambda request: answer):
        assert (await doctor._daemon(settings)).detail == "runs, status degraded"
    finding = await doctor._daemon(settings)
    assert finding.ok is False
    assert "does not answer" in finding.detail


async def test_the_dead_mans_switch(settings: Settings) -> None:
    assert "stays open" in (await doctor._dead_man(settings)).detail
    armed = changed(settings, deadman_action="flatten")
    finding = await doctor._dead_man(armed)
    assert (finding.ok, finding.detail) == (True, "flatten when the bridge dies or is silent for 30 s")
    finding = await doctor._dead_man(changed(armed, deadman_after=None))
    assert finding.detail == "flatten when the bridge dies"
    finding = await doctor._dead_man(changed(armed, simulation_mode=True))
    assert (finding.ok, finding.detail) == (None, "not armed: SIMULATION_MODE sends nothing")
    settings.data_dir.mkdir()
    (settings.data_dir / "deadman-1.json").write_text("{}")
    finding = await doctor._dead_man(armed)
    assert finding.ok is False
    assert "1 reports wait" in finding.detail


@pytest.mark.parametrize(("status", "word"), [(401, "check BACKEND_AUTH_TOKEN"), (404, "check the path")])
async def test_a_backend_that_refuses(status: int, word: str) -> None:
    async with Backend() as backend:
        backend.refuse = status
        finding = await knock(backend.url, "t")
    assert finding.ok is False
    assert f"answered {status}" in finding.detail
    assert word in finding.remedy


async def test_a_backend_that_is_not_there() -> None:
    finding = await knock("ws://127.0.0.1:9/x", None)
    assert (finding.ok, finding.remedy) == (False, "start the backend or mend BACKEND_WS_URL")


@pytest.fixture
def api() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path[1:]))
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Not on the tests' output."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "ok"), [(200, True), (404, True), (503, False)])
async def test_the_backends_api(settings: Settings, api: str, status: int, ok: bool) -> None:
    finding = await doctor._backend_api(changed(settings, backend_api_url=f"{api}/{status}"))
    assert finding.ok is ok
    assert f"answered {status}" in finding.detail


async def test_the_backends_api_is_not_there(settings: Settings) -> None:
    finding = await doctor._backend_api(changed(settings, backend_api_url="http://127.0.0.1:9/"))
    assert finding.ok is False


async def test_a_broker_that_is_not_there(settings: Settings) -> None:
    finding = await doctor._broker(changed(settings, mode="hybrid"))
    assert finding.ok is False
    assert "127.0.0.1:9" in finding.detail


async def test_a_broker_that_answers(settings: Settings) -> None:
    with EmbeddedBroker() as broker:
        hybrid = changed(settings, mode="hybrid", redpanda_bootstrap_servers=broker.bootstrap)
        assert await doctor._broker(hybrid) == Finding("Redpanda", True, broker.bootstrap)


async def test_a_broker_that_cannot_be_told_what_it_wants(settings: Settings, tmp_path: Path) -> None:
    junk = tmp_path / "ca.pem"
    junk.write_text("no certificate")
    hybrid = changed(settings, mode="hybrid", redpanda_security_protocol="SSL", redpanda_ssl_ca_file=junk)
    finding = await doctor._broker(hybrid)
    assert finding.ok is False
    assert "REDPANDA_SSL_CA_FILE" in finding.detail
    assert "PEM" in finding.remedy


async def test_the_doctor_says_what_the_bridge_says(settings: Settings) -> None:
    with EmbeddedBroker() as broker:
        hybrid = changed(
            settings,
            mode="hybrid",
            redpanda_bootstrap_servers=broker.bootstrap,
            redpanda_security_protocol="SASL_SSL",
            redpanda_sasl_username="bridge",
            redpanda_sasl_password=SecretStr("bridge-secret"),
        )
        finding = await doctor._broker(hybrid)
    assert finding.ok is False
    assert "does not speak TLS, and REDPANDA_SECURITY_PROTOCOL=SASL_SSL does" in finding.detail
    assert "set it to SASL_PLAINTEXT" in finding.remedy
    assert "secret" not in str(finding)


def test_the_end_of_the_client_certificate_is_told_before_it_comes(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    assert doctor._ends(None) == ""
    assert doctor._ends(str(authority.issue("bridge").certificate)) == ", client certificate until 2070-01-01"
    assert "not known" in doctor._ends(str(tmp_path / "none.pem"))


class Terminal:
    """As much of a session as the doctor uses."""

    connected = True
    refusal: Exception | None = None

    def __init__(self, config: object) -> None:
        self.config = config

    async def connect(self, *, max_wait: float) -> None:
        if self.refusal:
            raise self.refusal

    async def disconnect(self) -> None:
        """Nothing is open."""

    async def get_account_info(self, **_: object) -> AccountInfo:
        return AccountInfo(
            login=1, server="S", currency="USD", leverage=1, balance=1, equity=1, margin=0, free_margin=1,
            margin_level=0, profit=0, margin_mode=MarginMode.HEDGING, trade_allowed=False,
        )  # fmt: skip

    async def get_terminal_info(self, **_: object) -> TerminalInfo:
        return TerminalInfo(connected=self.connected, trade_allowed=True, tradeapi_disabled=False)


async def test_terminals_in_all_states(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MT5SessionManager", Terminal)
    real = changed(settings, terminal="mt5")
    finding = await doctor._terminal(real)
    assert finding.ok
    assert finding.detail.endswith("trading is not allowed on this account")
    monkeypatch.setattr(Terminal, "connected", False)
    finding = await doctor._terminal(real)
    assert finding.ok is False
    assert "no connection to the broker" in finding.detail
    monkeypatch.setattr(Terminal, "refusal", MT5AuthError("wrong password", code=-6))
    finding = await doctor._terminal(real)
    assert (finding.ok, finding.detail) == (False, "wrong password")


async def test_the_terminals_package(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = changed(settings, terminal="mt5")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert (await doctor._package(real)).ok is False
    monkeypatch.undo()
    module = types.ModuleType("MetaTrader5")
    module.__spec__ = importlib.machinery.ModuleSpec("MetaTrader5", None)
    monkeypatch.setitem(sys.modules, "MetaTrader5", module)
    finding = await doctor._package(changed(real, mt5_path=tmp_path / "notepad.exe"))
    assert (finding.ok, finding.remedy) == (False, "let MT5_PATH name terminal64.exe")
    assert (await doctor._package(real)).ok
