"""The embedded broker: librdkafka's mock cluster, which speaks the Kafka protocol on a loopback port.

For the demo and for tests. It keeps about 5 MB a partition in memory, makes topics when they are first asked for, and
forgets everything when it ends. Own process: `python -m mt5_bridge.demo.broker [--port N]` prints one JSON line
`{"bootstrap": "127.0.0.1:…"}` once it can be used, and ends on SIGINT, SIGTERM, or when its standard
input, if that is a pipe, closes.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable
from types import TracebackType

from confluent_kafka import KafkaException, Producer

from mt5_bridge.core.errors import BrokerError
from mt5_bridge.demo.relay import Relay, readdress

_START_SECONDS = 10.0


class EmbeddedBroker:
    """A broker inside this process, on a port the library picks.

    Raises:
        BrokerError: the mock cluster did not come up.
    """

    def __init__(self) -> None:
        # The cluster lives as long as the client that made it; the client itself is never used to send.
        self._client: Producer | None = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        try:
            broker = next(iter(self._client.list_topics(timeout=_START_SECONDS).brokers.values()))
        except (KafkaException, StopIteration) as error:
            self._client = None
            raise BrokerError(f"the embedded broker did not start: {error}") from error
        self.port = int(broker.port)

    @property
    def bootstrap(self) -> str:
        """What a client needs: `host:port`."""
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        """Ends the broker; its clients lose their connections."""
        self._client = None

    def __enter__(self) -> "EmbeddedBroker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def serve(port: int, stop: asyncio.Event) -> None:
    """Runs a broker until `stop`, announced on standard output.

    Args:
        port: the port to listen on; 0 takes the library's own, without a relay between.

    Raises:
        OSError: the port is taken.
        BrokerError: the broker did not come up.
    """
    async with contextlib.AsyncExitStack() as stack:
        broker = stack.enter_context(await asyncio.to_thread(EmbeddedBroker))
        address = broker.bootstrap
        if port:
            relay = Relay(broker.port, readdress("127.0.0.1", broker.port, port))
            await relay.start(port)
            stack.push_async_callback(relay.close)
            address = f"127.0.0.1:{port}"
        sys.stdout.write(json.dumps({"bootstrap": address}) + "\n")
        sys.stdout.flush()
        await stop.wait()


async def _run(port: int) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def ask_to_stop(*_: object) -> None:
        loop.call_soon_threadsafe(stop.set)

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), ask_to_stop)
    if _is_pipe(0):
        # A daemon thread: a blocked read of standard input cannot be cancelled on every system.
        threading.Thread(target=_wait_for_eof, args=(ask_to_stop,), daemon=True).start()
    await serve(port, stop)


def _is_pipe(fd: int) -> bool:
    """True when a parent holds the other end: a terminal or the null device says nothing about anyone's life."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _wait_for_eof(ask_to_stop: Callable[[], None]) -> None:
    # Not sys.stdin: its buffer's lock, held by a blocked read, would abort the interpreter's exit.
    while os.read(0, 4096):
        continue
    ask_to_stop()


def main(argv: list[str] | None = None) -> int:
    """The command's entry. Exit codes: 0 ended as asked, 1 the broker or its port could not be had."""
    parser = argparse.ArgumentParser(prog="mt5-bridge broker", description="The embedded broker, for demo and tests")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    port = parser.parse_args(argv).port
    try:
        asyncio.run(_run(port))
    except (BrokerError, OSError) as error:
        sys.stderr.write(f"broker: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
