"""Looking closer at an address: what listens there, and what it wants. Real brokers: tests/kafka."""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import errors as kafka
from support.broker import free_port
from support.certificates import Authority
from support.eventually import eventually

from mt5_bridge.redpanda import Producer, RedpandaConfig, inquiry
from mt5_bridge.redpanda.inquiry import diagnose, inquire
from mt5_bridge.redpanda.security import client_options

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def ask(config: RedpandaConfig) -> str:
    return str(await inquire(config, client_options(config)))


@asynccontextmanager
async def listening(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except OSError:
            return  # who asks may go at any moment
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_a_broker_that_is_well(bootstrap: str) -> None:
    assert await ask(RedpandaConfig(bootstrap=bootstrap)) == "None"


async def test_nobody_and_nonsense() -> None:
    closed = f"127.0.0.1:{free_port()}"
    told = await ask(RedpandaConfig(bootstrap=f"{closed},nonsense"))
    assert told.startswith(f"{closed}: nobody listens there; start the broker")
    assert " | nonsense: not host:port; mend REDPANDA_BOOTSTRAP_SERVERS" in told
    assert await ask(RedpandaConfig(bootstrap=",")) == "no address given; set REDPANDA_BOOTSTRAP_SERVERS"


async def test_one_address_of_two_is_enough(bootstrap: str) -> None:
    assert await ask(RedpandaConfig(bootstrap=f"127.0.0.1:{free_port()},{bootstrap}")) == "None"


async def test_tls_to_a_port_without(bootstrap: str) -> None:
    told = await ask(RedpandaConfig(bootstrap=bootstrap, security_protocol="SSL"))
    assert "does not speak TLS, and REDPANDA_SECURITY_PROTOCOL=SSL does" in told


async def test_plain_text_to_a_tls_port(tmp_path: Path) -> None:
    async with listening(say_nothing, server_tls(tmp_path)) as address:
        told = await ask(RedpandaConfig(bootstrap=address))
    assert "speaks TLS, and REDPANDA_SECURITY_PROTOCOL=PLAINTEXT does not; set it to SSL" in told


async def test_a_tls_port_that_is_no_broker(tmp_path: Path) -> None:
    tls = server_tls(tmp_path)
    async with listening(hang_up, tls) as address:
        config = RedpandaConfig(bootstrap=address, security_protocol="SSL", ca_file=str(tmp_path / "a/ca.pem"))
        told = await ask(config)
    assert "closed without a word; is it a Kafka port" in told
    assert "REDPANDA_SSL_CERT_FILE" in told


async def test_a_port_that_hangs_up_or_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(hang_up) as address:
        assert "closed without a word" in await ask(RedpandaConfig(bootstrap=address))
    monkeypatch.setattr(inquiry, "STEP_S", 0.2)
    async with listening(say_nothing) as address:
        assert "no answer; look at the network" in await ask(RedpandaConfig(bootstrap=address))


async def test_what_the_error_says_itself_is_not_asked_for_again() -> None:
    config = RedpandaConfig(bootstrap=f"127.0.0.1:{free_port()}")
    options = client_options(config)
    denied = await diagnose(kafka.ClusterAuthorizationFailedError(), config, options, 5.0)
    assert "IDEMPOTENT_WRITE" in str(denied)
    assert denied.lasting
    refused = await diagnose(kafka.KafkaConnectionError(), config, options, 5.0)
    assert "nobody listens" in str(refused)
    assert not refused.lasting
    assert "KafkaConnectionError" in str(await diagnose(kafka.KafkaConnectionError(), config, options, 0.0))


async def test_what_passed_meanwhile_is_told_as_it_was(bootstrap: str) -> None:
    config = RedpandaConfig(bootstrap=bootstrap)
    cause = await diagnose(TimeoutError(), config, client_options(config), 5.0)
    assert (str(cause), cause.lasting) == ("the broker does not answer", False)


def test_our_own_certificate_is_looked_at(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    assert inquiry._is_over(str(authority.issue("gone", expired=True).certificate))
    assert not inquiry._is_over(str(authority.issue("young").certificate))
    assert not inquiry._is_over(str(tmp_path / "none.pem"))
    assert not inquiry._is_over(None)


def server_tls(folder: Path) -> ssl.SSLContext:
    authority = Authority(folder / "a")
    shown = authority.issue("broker", "IP:127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(shown.certificate, shown.key)
    return context


class Guard:
    """As much of a broker as stands before the login: versions, then SASL, and nothing to who has no name.

    Args:
        mechanisms: those it takes; empty: it takes no user.
        verdict: its error code for whoever says a password.
        inside: the port that it says it is to be reached at, on 127.0.0.1; None: it says nothing of that.
    """

    def __init__(self, mechanisms: list[str], verdict: int = 0, inside: int | None = None) -> None:
        self.mechanisms, self.verdict, self.inside = mechanisms, verdict, inside

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while size := await reader.read(4):
            request = await reader.readexactly(struct.unpack(">i", size)[0])
            api, _, number = struct.unpack(">hhi", request[:8])
            answer = self.answer(api, request)
            if answer is None:
                return
            writer.write(struct.pack(">ii", len(answer) + 4, number) + answer)

    def answer(self, api: int, request: bytes) -> bytes | None:
        if api == VERSIONS:
            spoken = [(VERSIONS, 0, 0), (METADATA, 0, 0), (HANDSHAKE, 0, 1), (AUTHENTICATE, 0, 0)]
            return struct.pack(">hi", 0, len(spoken)) + b"".join(struct.pack(">hhh", *row) for row in spoken)
        if api == HANDSHAKE:
            asked = request.rpartition(b"\0")[2][1:].decode()  # behind the length of the name
            names = b"".join(struct.pack(">h", len(name)) + name.encode() for name in self.mechanisms)
            error = 34 if not self.mechanisms else 0 if asked in self.mechanisms else 33
            return struct.pack(">hi", error, len(self.mechanisms)) + names
        if api == AUTHENTICATE:
            return struct.pack(">hhi", self.verdict, -1, 0)
        if api == METADATA and self.inside is not None:
            host = b"127.0.0.1"
            return struct.pack(f">iih{len(host)}sii", 1, 0, len(host), host, self.inside, 0)
        return None


VERSIONS, METADATA, HANDSHAKE, AUTHENTICATE = 18, 3, 17, 36


@pytest.mark.parametrize(
    ("guard", "mechanism", "words"),
    [
        (Guard(["PLAIN"], verdict=58), "PLAIN", "refused the credentials of user 'bridge' (PLAIN); check"),
        (
            Guard(["PLAIN", "GSSAPI"]),
            "SCRAM-SHA-256",
            "take SCRAM-SHA-256; set REDPANDA_SASL_MECHANISM to PLAIN",
        ),
        (Guard([]), "PLAIN", "takes no user and password"),
        (Guard(["PLAIN"]), "PLAIN", "closed without a word"),
        (Guard(["SCRAM-SHA-256"]), "SCRAM-SHA-256", "did not prove that it knows the password"),
        (Guard(["PLAIN"]), None, "wants a user and a password; set REDPANDA_SECURITY_PROTOCOL=SASL_PLAINTEXT"),
        (Guard([]), None, "closed without a word"),
    ],
)
async def test_a_guard_at_the_door(guard: Guard, mechanism: str | None, words: str) -> None:
    async with listening(guard) as address:
        config = RedpandaConfig(bootstrap=address)
        if mechanism is not None:
            config = RedpandaConfig(
                bootstrap=address,
                security_protocol="SASL_PLAINTEXT",
                sasl_mechanism=mechanism,
                username="bridge",
                password="bridge-secret",
            )
        told = await ask(config)
    assert words in told
    assert "secret" not in told


async def test_an_address_that_only_the_broker_tells() -> None:
    """As behind a router, or in a container: the address given is right, the advertised one leads nowhere."""
    guard = Guard([], inside=free_port())
    async with listening(guard) as address:
        producer = Producer(RedpandaConfig(bootstrap=address, request_timeout=1.0))
        producer.start()
        try:
            await eventually(lambda: "to be reached" in producer.detail, 20.0)
            told = producer.detail
        finally:
            await producer.stop(0.0)
    assert told.startswith(f"the broker says that it is to be reached at 127.0.0.1:{guard.inside}, and there: nobody")
    assert "advertised.listeners" in told
