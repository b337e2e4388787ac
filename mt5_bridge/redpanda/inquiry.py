"""Finding out why the broker cannot be used: one more connection to each address, looked at step by step.

aiokafka's own bootstrap tells "unable to bootstrap" and keeps the cause to its log.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka import errors as kafka
from aiokafka.conn import create_conn
from aiokafka.protocol.admin import SaslHandShakeRequest
from aiokafka.protocol.metadata import MetadataRequest

from mt5_bridge.redpanda import causes
from mt5_bridge.redpanda.causes import Cause
from mt5_bridge.redpanda.certificate import valid_until
from mt5_bridge.redpanda.config import RedpandaConfig
from mt5_bridge.redpanda.faults import describe

UNREACHABLE = (kafka.KafkaError, OSError, ValueError, AssertionError)
"""What connecting raises: the last two where a name or the broker's part of SCRAM is malformed."""
STEP_S = 4.0
_ALERT_S = 1.0
"""With TLS 1.3 a client certificate is judged when the handshake is over for us."""
_MOST_NODES = 8

Node = tuple[str, int]


async def inquire(config: RedpandaConfig, options: dict[str, Any]) -> Cause | None:
    """Connects to each address given and to each that the broker tells; None when that went well.

    Bounded in time: some steps of `STEP_S`, all addresses side by side.

    Args:
        options: those of `security.client_options`, for that config.
    """
    visit = _Visit(config, options)
    given = [_split(server) for server in options["bootstrap_servers"]]
    if not given:
        return Cause("no address given", "set REDPANDA_BOOTSTRAP_SERVERS")
    answers = await asyncio.gather(*(visit.see(host, port) for host, port in given))
    told: set[Node] = set()
    failed: list[tuple[str, Cause]] = []
    for server, answer in zip(options["bootstrap_servers"], answers, strict=True):
        if isinstance(answer, Cause):
            failed.append((server, answer))
        else:
            told |= answer
    if len(failed) == len(given):
        return causes.together(failed)
    return await _follow(visit, told - set(given))


async def diagnose(error: BaseException, config: RedpandaConfig, options: dict[str, Any], timeout: float) -> Cause:
    """Why a connection failed.

    Args:
        error: what connecting, or using the connection, raised.
        options: those of `security.client_options`, for that config.
        timeout: seconds to find out more than the error says.
    """
    if cause := causes.denied_by(error, config):
        return cause
    try:
        async with asyncio.timeout(timeout):
            found = await inquire(config, options)
    except TimeoutError:
        found = None
    return found or Cause(describe(error), lasting=False)


async def _follow(visit: "_Visit", told: set[Node]) -> Cause | None:
    """The addresses that the broker tells: what is given only leads to them."""
    nodes = sorted(told)[:_MOST_NODES]
    answers = await asyncio.gather(*(visit.see(host, port) for host, port in nodes))
    failed = [
        causes.elsewhere(f"{host}:{port}", answer)
        for (host, port), answer in zip(nodes, answers, strict=True)
        if isinstance(answer, Cause)
    ]
    return failed[0] if failed else None


class _Visit:
    def __init__(self, config: RedpandaConfig, options: dict[str, Any]) -> None:
        self._config = config
        self._options = {name: value for name, value in options.items() if name != "bootstrap_servers"}
        self._options["request_timeout_ms"] = int(STEP_S * 1000)
        self._tls: ssl.SSLContext | None = options.get("ssl_context")

    async def see(self, host: str, port: int) -> set[Node] | Cause:
        """The nodes that the broker there tells, or why it tells none."""
        if not port:
            return Cause("not host:port", "mend REDPANDA_BOOTSTRAP_SERVERS")
        try:
            connection = await create_conn(host, port, **self._options)
        except UNREACHABLE as error:
            return await self._judge(host, port, error)
        try:
            answer = await connection.send(MetadataRequest([]))
        except (kafka.KafkaError, TimeoutError) as error:
            return await self._judge_silence(host, port, error)
        finally:
            connection.close()
        return {(str(node[1]), int(node[2])) for node in answer.brokers}

    async def _judge(self, host: str, port: int, error: BaseException) -> Cause:
        offered: Sequence[str] = ()
        if isinstance(error, kafka.UnsupportedSaslMechanismError):
            offered = await self._mechanisms(host, port)
        for each in causes.chain(error):
            cause = causes.of_network(each) or causes.of_certificate(each, self._config)
            if cause := cause or self._of_alert(each):
                return cause
        # Last: what aiokafka raises as ValueError is a bad handshake only if it is nothing else.
        if cause := causes.of_login(error, self._config, offered):
            return cause
        return await self._judge_end(host, port)

    def _of_alert(self, error: BaseException) -> Cause | None:
        return causes.of_alert(error, self._config, expired=_is_over(self._config.cert_file))

    async def _judge_end(self, host: str, port: int) -> Cause:
        """The connection was closed: because of what we spoke?"""
        if self._tls is None:
            return causes.wants_tls(self._config) if await _speaks_tls(host, port) else causes.hung_up(self._config)
        if await self._speaks_plain(host, port):
            return causes.wants_no_tls(self._config)
        alert = await _alert(host, port, self._tls)
        return (self._of_alert(alert) if alert else None) or causes.hung_up(self._config)

    async def _judge_silence(self, host: str, port: int, error: BaseException) -> Cause:
        """It says which protocol versions it speaks, and no more."""
        named = "SASL" in self._config.security_protocol.upper()
        if not named and (offered := await self._mechanisms(host, port)):
            return causes.wants_login(self._config, offered)
        for each in causes.chain(error):
            if cause := causes.of_network(each) or self._of_alert(each):
                return cause
        return causes.hung_up(self._config)

    async def _mechanisms(self, host: str, port: int) -> list[str]:
        """The SASL mechanisms that a port takes; none where it takes no user."""
        try:
            connection = await create_conn(host, port, **self._nameless(self._tls))
        except UNREACHABLE:
            return []
        try:
            answer = await connection.send(SaslHandShakeRequest("PLAIN"))
            return [str(name) for name in answer.enabled_mechanisms]
        except (kafka.KafkaError, TimeoutError):
            return []
        finally:
            connection.close()

    async def _speaks_plain(self, host: str, port: int) -> bool:
        try:
            connection = await create_conn(host, port, **self._nameless(None))
        except UNREACHABLE:
            return False
        connection.close()
        return True

    def _nameless(self, tls: ssl.SSLContext | None) -> dict[str, Any]:
        """A connection that gives no user and no password."""
        options = {name: value for name, value in self._options.items() if not name.startswith("sasl_")}
        return options | {"security_protocol": "SSL" if tls else "PLAINTEXT", "ssl_context": tls}


async def _speaks_tls(host: str, port: int) -> bool:
    """Whether anything that looks like TLS comes back; it is trusted with nothing."""
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without the system's CAs, which take long to read
    anyone.check_hostname = False
    anyone.verify_mode = ssl.CERT_NONE
    error = await _alert(host, port, anyone, patience=0.0)
    return error is None or "ALERT" in str(getattr(error, "reason", ""))


async def _alert(host: str, port: int, tls: ssl.SSLContext, patience: float = _ALERT_S) -> BaseException | None:
    """A handshake, and then only listening: what we wrote would drown the broker's last word."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(STEP_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=tls)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await reader.read(1)
    except (OSError, ValueError) as error:
        return error
    else:
        return None
    finally:
        if writer is not None:
            writer.transport.abort()


def _is_over(cert_file: str | None) -> bool:
    """Whether our own certificate has expired; False where that cannot be read."""
    if cert_file is None:
        return False
    try:
        return valid_until(Path(cert_file).read_text(encoding="ascii", errors="replace")) <= datetime.now(UTC)
    except (OSError, ValueError):
        return False


def _split(server: str) -> Node:
    host, _, port = server.rpartition(":")
    return host.strip("[]"), int(port) if port.isdecimal() else 0
