"""`mt5-bridge doctor`: looks at everything the bridge needs and says what to do about what is wrong."""

import asyncio
import importlib.util
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiokafka.errors import KafkaError

from mt5_bridge.app import rooms
from mt5_bridge.cli.health import HealthChecker, validate_mt5_path
from mt5_bridge.cli.local import NotRunning, ask
from mt5_bridge.core.deadman import REPORTS
from mt5_bridge.core.errors import BridgeError, SettingsError
from mt5_bridge.redpanda.causes import Cause
from mt5_bridge.redpanda.certificate import valid_until
from mt5_bridge.redpanda.config import RedpandaConfig
from mt5_bridge.redpanda.faults import describe
from mt5_bridge.redpanda.inquiry import inquire
from mt5_bridge.redpanda.rights import missing_rights
from mt5_bridge.redpanda.security import client_options
from mt5_bridge.settings import Settings, prepare_data_dir
from mt5_bridge.terminal.probe import probe
from mt5_bridge.terminal.session import MT5SessionManager

CLOCK_LEAST = 1_735_689_600
"""2025-01-01: a PC that believes it is earlier has lost its clock."""
NET_S = 5.0
TERMINAL_S = 60.0


class Finding(msgspec.Struct, frozen=True):
    """One check. `ok` is None where there was nothing to check."""

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


Check = Callable[[Settings], Awaitable[Finding]]


async def examine(settings: Settings) -> list[Finding]:
    """All checks, the slow ones side by side, in a fixed order."""
    checks: list[Check] = [
        _python, _data_dir, _resources, _clock, _daemon, _package, _terminal, _dead_man, _broker, _backend,
        _backend_api,
    ]  # fmt: skip
    return list(await asyncio.gather(*(check(settings) for check in checks)))


async def _python(settings: Settings) -> Finding:
    bits = struct.calcsize("P") * 8
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", bits == 64, f"{version}, {bits} bit", "install a 64-bit Python" if bits != 64 else "")


async def _data_dir(settings: Settings) -> Finding:
    try:
        prepare_data_dir(settings.data_dir)
    except SettingsError as error:
        fault, _, remedy = str(error).partition("; ")
        return Finding("data folder", False, fault, remedy)
    return Finding("data folder", True, str(settings.data_dir))


async def _resources(settings: Settings) -> Finding:
    figures = await asyncio.to_thread(HealthChecker(settings.data_dir).check_system_resources)
    detail = "; ".join(figures["warnings"]) or (
        f"CPU {figures['cpu_percent']:.0f} %, memory {figures['memory_percent']:.0f} %, "
        f"{figures['disk_free'] // 2**20} MiB free"
    )
    return Finding("machine", figures["status"] == "ok", detail, "close other programs or free space")


async def _clock(settings: Settings) -> Finding:
    now = time.time()
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    return Finding("clock", now > CLOCK_LEAST, shown, "set the PC's clock and let it synchronise")


async def _daemon(settings: Settings) -> Finding:
    try:
        answer = await asyncio.to_thread(ask, settings.control_path, "status")
    except NotRunning as error:
        silent = settings.control_path.exists()
        remedy = "end that process; an order in flight is looked up at the next start" if silent else ""
        return Finding("bridge", False if silent else None, str(error), remedy)
    data = answer.data if isinstance(answer.data, dict) else {}
    return Finding("bridge", answer.success, f"runs, status {data.get('status', 'unknown')}", "see mt5-bridge status")


async def _package(settings: Settings) -> Finding:
    if settings.terminal == "paper":
        return Finding("MetaTrader5", None, "not needed: TERMINAL=paper")
    if importlib.util.find_spec("MetaTrader5") is None:
        return Finding("MetaTrader5", False, "the package is missing", "pip install MetaTrader5 (Windows only)")
    if settings.mt5_path and not validate_mt5_path(settings.mt5_path):
        return Finding("MetaTrader5", False, f"{settings.mt5_path} is no terminal", "let MT5_PATH name terminal64.exe")
    runs = await asyncio.to_thread(HealthChecker().check_mt5_process)
    return Finding("MetaTrader5", True, f"installed, a terminal {'runs' if runs else 'does not run yet'}")


async def _terminal(settings: Settings) -> Finding:
    config = rooms.terminal_config(settings)
    if settings.terminal == "paper":  # an account of its own, in memory: the daemon's must not be touched
        told = {name: value for name, value in config.settings.items() if name != "DATA_DIR"}
        config = msgspec.structs.replace(config, settings=told)
    mt5 = MT5SessionManager(config)
    try:
        await mt5.connect(max_wait=TERMINAL_S)
        account = await mt5.get_account_info()
        health = await probe(mt5)
    except BridgeError as error:
        return Finding("terminal", False, str(error), "start the terminal, log in, and check the MT5_… settings")
    finally:
        await mt5.disconnect()
    detail = f"account {account.login} at {account.server}, {health.latency_ms or 0:.1f} ms"
    if not health.data_feed_ok:
        return Finding("terminal", False, f"{detail}, no connection to the broker", "check the network and the login")
    terminal_ok = account.trade_allowed
    return Finding("terminal", True, detail + ("" if terminal_ok else ", trading is not allowed on this account"))


async def _dead_man(settings: Settings) -> Finding:
    name, waiting = "dead-man's switch", len(list(settings.data_dir.glob(REPORTS)))
    if waiting:
        detail = f"it acted, and {waiting} reports wait for the next start of the bridge"
        return Finding(name, False, detail, "look at the account, and start the bridge")
    if settings.deadman_action == "none":
        return Finding(name, None, "DEADMAN_ACTION=none: what is open stays open when the bridge dies")
    if rooms.deadman_args(settings) is None:
        return Finding(name, None, "not armed: SIMULATION_MODE sends nothing")
    silent = "" if settings.deadman_after is None else f" or is silent for {settings.deadman_after:g} s"
    return Finding(name, True, f"{settings.deadman_action} when the bridge dies{silent}")


async def _broker(settings: Settings) -> Finding:
    if settings.mode == "standard":
        return Finding("Redpanda", None, "not needed in standard mode")
    config = rooms.redpanda_config(settings)
    try:
        options = client_options(config)
    except SettingsError as error:
        fault, _, remedy = str(error).partition("; ")
        return Finding("Redpanda", False, fault, remedy)
    if cause := await inquire(config, options):
        return Finding("Redpanda", False, cause.what, cause.remedy)
    try:
        async with asyncio.timeout(4 * NET_S):
            missing = await _missing_rights(settings, config, options)
    except (KafkaError, OSError) as error:
        return Finding("Redpanda", False, f"{config.bootstrap}: {describe(error)}", "see the broker's log")
    if missing:
        whats, remedies = zip(*((cause.what, cause.remedy) for cause in missing), strict=True)
        return Finding("Redpanda", False, "; ".join(whats), "; ".join(remedies))
    return Finding("Redpanda", True, config.bootstrap + _ends(config.cert_file))


async def _missing_rights(settings: Settings, config: RedpandaConfig, options: dict[str, Any]) -> list[Cause]:
    """The rights on topics that are there; those which are not are made by the bridge where it may."""
    reads = settings.redpanda_signal_topic
    writes = [spec.name for spec in rooms.topic_specs(settings) if spec.name != reads]
    group = settings.redpanda_group_id or (f"mt5-bridge-{settings.mt5_login}" if settings.mt5_login else None)
    return await missing_rights(
        config, options, writes=writes, reads=reads, group=group, may_be_missing=settings.redpanda_create_topics
    )


def _ends(cert_file: str | None) -> str:
    """When our own certificate ends, which nobody tells before it has."""
    if cert_file is None:
        return ""
    try:
        until = valid_until(Path(cert_file).read_text(encoding="ascii", errors="replace"))
    except (OSError, ValueError) as error:
        return f", end of the client certificate not known ({error})"
    return f", client certificate until {until:%Y-%m-%d}"


async def _backend(settings: Settings) -> Finding:
    config = rooms.control_config(settings)
    if config is None:
        return Finding("backend", None, "no BACKEND_WS_URL: the bridge runs without")
    return await knock(config.url, config.token)


async def knock(url: str, token: str | None) -> Finding:
    """One WebSocket handshake with the backend, no `hello`."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    where = _where(url)
    try:
        async with connect(url, additional_headers=headers, proxy=None, open_timeout=NET_S, close_timeout=1):
            return Finding("backend", True, where)
    except InvalidStatus as error:
        code = error.response.status_code
        remedy = "check BACKEND_AUTH_TOKEN" if code in (401, 403) else "check the path in BACKEND_WS_URL"
        return Finding("backend", False, f"{where} answered {code}", remedy)
    except (OSError, TimeoutError, InvalidHandshake, InvalidURI) as error:
        return Finding("backend", False, f"{where}: {error}", "start the backend or mend BACKEND_WS_URL")


async def _backend_api(settings: Settings) -> Finding:
    if settings.backend_api_url is None:
        return Finding("backend API", None, "no BACKEND_API_URL")
    url = settings.backend_api_url
    try:
        status = await asyncio.to_thread(_http_status, url)
    except (OSError, ValueError) as error:
        return Finding("backend API", False, f"{_where(url)}: {error}", "start the backend or mend BACKEND_API_URL")
    return Finding("backend API", status < 500, f"{_where(url)} answered {status}", "look at the backend's own log")


def _http_status(url: str) -> int:
    from urllib.error import HTTPError
    from urllib.request import ProxyHandler, build_opener

    try:
        with build_opener(ProxyHandler({})).open(url, timeout=NET_S) as answer:
            return int(answer.status)
    except HTTPError as error:  # it answered, which is what was asked
        with error:
            return error.code


def _where(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
