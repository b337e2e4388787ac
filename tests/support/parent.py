"""A daemon reduced to its terminal session, in a process of its own that a test may kill, stop or send home.

    python parent.py CONFIG      # CONFIG: a TerminalConfig as JSON

It tells what happens as words on stdout: `connected PID`, `lost`. Words on stdin say what to do: `ticks` asks for much
and stops this process before the answer is read, `symbols` calls and waits for nothing, `count` tells `positions N`,
`fail` ends without a bye, `leave` in order.
"""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import msgspec

from mt5_bridge.core.errors import MT5Error
from mt5_bridge.core.times import DAY
from mt5_bridge.terminal.config import TerminalConfig
from mt5_bridge.terminal.port import TerminalState
from mt5_bridge.terminal.session import MT5SessionManager


async def main(config: TerminalConfig) -> None:
    session = MT5SessionManager(config)

    def changed(state: TerminalState, detail: str) -> None:
        if state is TerminalState.CONNECTED:
            say(f"connected {session.host_pid}")
        elif state is TerminalState.DISCONNECTED:
            say("lost")

    session.on_state(changed)
    await session.connect()
    calls: set[asyncio.Task[object]] = set()
    while word := (await asyncio.to_thread(sys.stdin.readline)).strip():
        if word == "count":
            say(f"positions {len(await session.get_positions())}")
        elif word in ("ticks", "symbols"):
            now = time.time_ns() // 1_000_000
            call = session.get_ticks("AUDUSD", now - DAY, now) if word == "ticks" else session.get_symbols()
            calls.add(asyncio.create_task(quietly(call)))
            await asyncio.sleep(0)  # until it is handed to the host
            say(word)
            if word == "ticks":
                os.kill(os.getpid(), signal.SIGSTOP)
        else:
            await session.disconnect(bye=word == "leave", timeout=20)
            break
    await asyncio.gather(*calls)


async def quietly(call: object) -> None:
    try:
        await call  # type: ignore[misc]  # one coroutine or the other
    except MT5Error as error:
        say(f"failed {error}")


def say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=TerminalConfig)))
