"""`mt5-bridge demo`: embedded broker, reference backend and the bridge on the paper terminal, as real processes."""

import argparse
import asyncio
import contextlib
import importlib.util
import io
import os
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from mt5_bridge.client.browsing import open_page
from mt5_bridge.demo.backend import open_door, order
from mt5_bridge.demo.children import Child, Children
from mt5_bridge.demo.lifetime import asked_to_stop
from mt5_bridge.demo.screen import Display, Scene, display, summary
from mt5_bridge.demo.snapshot import Snapshot, proven, stopped, traded

SYMBOLS = "EURUSD,USDJPY,GBPUSD,XAUUSD,BTCUSD"
SIGNAL_INTERVAL = 0.7
READY_TIMEOUT = 30.0
DASHBOARD_NEEDS = "nicegui"
STOP_TIMEOUT = 40.0
"""A stop reports `done` after 30 s at the latest."""
PATIENCE = 20.0
"""How much later than planned the stop may come, while nothing was filled or denied yet."""
_STEP = 0.05
_BRIDGE = ("-m", "mt5_bridge.demo.child", "run", "--mode", "hybrid")
_KEPT_NAMES = {
    "PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV", "SYSTEMROOT", "SYSTEMDRIVE",
    "USERPROFILE", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "COMSPEC", "PATHEXT", "NUMBER_OF_PROCESSORS",
}  # fmt: skip
_KEPT_STARTS = ("LC_", "PYTHON", "COVERAGE", "WINE")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo is started with. `duration` in seconds, None: until Ctrl+C."""

    duration: float | None = None
    speed: float = 5.0
    seed: int = 1
    data_dir: Path | None = None
    plain: bool = False
    browser: bool = True
    bridge: Sequence[str] = _BRIDGE


class _Failed(Exception):
    """The demo cannot go on; the text says why."""


class _Stopped(Exception):
    """Somebody asked the demo to end."""


def run_demo(argv: list[str] | None = None, *, bridge: Sequence[str] = _BRIDGE) -> int:
    """The command's entry.

    Args:
        argv: arguments, default those of the program.
        bridge: Python arguments that start the bridge.

    Returns:
        0: ended as asked, and with `--duration` everything was really seen. 1: not. 130: interrupted before the
        duration was over.
    """
    parser = argparse.ArgumentParser(
        prog="mt5-bridge demo", description="The whole system on this machine, on paper: no terminal, no broker needed."
    )
    add = parser.add_argument
    add("--duration", type=float, metavar="SECONDS", help="end by itself, with an emergency stop near the end")
    add("--speed", type=float, default=5.0, help="how many times as fast as recorded ticks come (default %(default)g)")
    add("--seed", type=int, default=1, help="seed of prices and signals (default %(default)s)")
    add("--data-dir", type=Path, help="keep journal and logs here (default: a temporary folder)")
    add("--plain", action="store_true", help="lines instead of the live picture, as without a terminal")
    add("--no-browser", action="store_true", help="do not open the dashboard in a browser")
    given = parser.parse_args(argv)
    options = Options(
        duration=given.duration,
        speed=given.speed,
        seed=given.seed,
        data_dir=given.data_dir,
        plain=given.plain,
        browser=not given.no_browser,
        bridge=tuple(bridge),
    )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a pipe on Windows may not know every character
    return asyncio.run(_run(options))


async def _run(options: Options) -> int:
    stop = asked_to_stop()
    folder = options.data_dir or Path(tempfile.mkdtemp(prefix="mt5demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    demo = Demo(options, folder.resolve(), stop)
    try:
        code = await demo.run()
    finally:
        demo.end()
    if code == 0 and options.data_dir is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        _say(f"Logs and journal: {folder}")
    return code


class Demo:
    """One run.

    Args:
        options: see `Options`.
        folder: journal, logs; the bridge's DATA_DIR.
        stop: set when somebody asks the demo to end.
    """

    def __init__(self, options: Options, folder: Path, stop: asyncio.Event) -> None:
        self._options = options
        self._folder = folder
        self._stop = stop
        self._token = secrets.token_hex(16)
        self._children = Children(folder)
        self._backend = ""
        self._dashboard: Child | None = None
        self._page = ""
        self._plain = options.plain or not sys.stdout.isatty()
        self._seen = Snapshot(at_msc=0)
        self._began = time.monotonic()

    def end(self) -> None:
        """End every program that still runs."""
        for name in self._children.end():
            _say(f"{name} did not end by itself and was killed")

    async def run(self) -> int:
        """From first to last; returns the exit code."""
        try:
            await self._start()
            watcher = asyncio.create_task(self._watch(), name="demo-watch")
            try:
                await self._play()
            finally:
                watcher.cancel()
                await asyncio.gather(watcher, return_exceptions=True)
        except _Failed as failure:
            _say(str(failure))
            return 1
        except _Stopped:
            if not self._seen.at_msc:
                _say("Stopped while starting.")
        if self._seen.at_msc:
            columns = shutil.get_terminal_size((100, 24)).columns
            _say(summary(self._seen, columns, all_due=self._options.duration is not None))
        if self._options.duration is None:
            return 0
        if all(proven(self._seen).values()):
            return 0
        return 130 if self._stop.is_set() else 1

    async def _start(self) -> None:
        environment = _own_environment()
        _say("Starting the embedded broker …")
        broker = self._children.start("broker", ("-m", "mt5_bridge.demo.broker"), environment)
        bootstrap = await self._announced(broker, "bootstrap")
        _say("Starting the reference backend …")
        environment["BACKEND_AUTH_TOKEN"] = self._token
        backend = self._children.start("backend", self._backend_arguments(bootstrap), environment)
        self._backend = await self._announced(backend, "listening")
        _say("Starting the bridge on the paper terminal …")
        self._children.start("bridge", self._options.bridge, environment | self._bridge_settings(bootstrap))
        self._start_dashboard(environment)
        _say("Stop it from a second shell, as a trader would:")
        _say(f"    {self._stop_hint()}")

    def _start_dashboard(self, environment: dict[str, str]) -> None:
        if importlib.util.find_spec(DASHBOARD_NEEDS) is None:
            _say("For the dashboard as well: pip install 'mt5-bridge[dashboard]'")
            return
        place = ("--url", f"ws://{self._backend}/dashboard", "--listen", "127.0.0.1:0")
        arguments = ("-m", "mt5_bridge", "dashboard", *place, "--no-browser", "--until-eof")
        environment = environment | {"DASHBOARD_TOKEN": self._token}
        self._dashboard = self._children.start("dashboard", arguments, environment, needed=False)

    async def _look_for_page(self, dashboard: Child) -> None:
        """The page's address, as soon as it is there: nothing waits for it."""
        page = dashboard.announced("dashboard")
        if page is None:
            return
        self._page = page
        if self._plain:
            _say("Watch it, and stop it, in a browser:")
            _say(f"    {page}")
        if self._options.browser and sys.stdout.isatty():
            await asyncio.to_thread(open_page, page)

    def _backend_arguments(self, bootstrap: str) -> tuple[str, ...]:
        seed, interval = str(self._options.seed), str(SIGNAL_INTERVAL)
        asked = ("--listen", "127.0.0.1:0", "--bootstrap", bootstrap, "--demo-signals", interval, "--seed", seed)
        return ("-m", "mt5_bridge.demo.backend", *asked, "--until-eof")

    def _bridge_settings(self, bootstrap: str) -> dict[str, str]:
        """Room enough for a signal every 0.7 s; the guards that shall be seen at work keep their defaults."""
        return {
            "BRIDGE_ID": "demo",
            "DATA_DIR": str(self._folder),
            "TERMINAL": "paper",
            "TRADING_ENABLED": "true",
            "SYMBOLS": SYMBOLS,
            "PAPER_SPEED": f"{self._options.speed:g}",
            "PAPER_SEED": str(self._options.seed),
            "BACKEND_WS_URL": f"ws://{self._backend}/bridge",
            "REDPANDA_BOOTSTRAP_SERVERS": bootstrap,
            "MAX_DAILY_TRADES": "100000",
            "MAX_SIMULTANEOUS_TRADES": "1000",
            "MAX_POSITIONS_PER_SYMBOL": "1000",
            "ACCOUNT_INTERVAL": "1",
            "HEARTBEAT_INTERVAL": "1",
        }

    def _stop_hint(self) -> str:
        folder = str(self._folder)
        # Quoted as either kind of shell reads it.
        quoted = shlex.quote(folder) if os.name != "nt" else f'"{folder}"'
        return f"{_shortest_python()} -m mt5_bridge stop --data-dir {quoted}"

    async def _announced(self, child: Child, field: str) -> str:
        deadline = time.monotonic() + READY_TIMEOUT
        while (said := child.announced(field)) is None:
            await self._step()
            if time.monotonic() > deadline:
                raise _Failed(_obituary(child, f"was not ready within {READY_TIMEOUT:g} s"))
        return said

    async def _step(self) -> None:
        """A short pause in which it is noticed that a child died or that somebody wants to end."""
        dead = self._children.dead()
        if dead is not None:
            raise _Failed(_obituary(dead, f"ended unexpectedly with code {dead.ended}"))
        if self._stop.is_set():
            raise _Stopped
        if self._dashboard is not None and not self._page:
            await self._look_for_page(self._dashboard)
        await asyncio.sleep(_STEP)

    async def _watch(self) -> None:
        """Keep the newest snapshot of the backend."""
        while True:
            with contextlib.suppress(OSError, InvalidHandshake, ConnectionClosed):
                async with open_door(self._backend, self._token, "watch") as socket:
                    async for raw in socket:
                        self._seen = msgspec.json.decode(raw, type=Snapshot)
            await asyncio.sleep(_STEP)

    async def _play(self) -> None:
        with display(plain=self._plain) as screen:
            await self._until_joined(screen)
            if self._options.duration is None:
                while True:
                    await self._show(screen)
            stop_at = self._began + max(self._options.duration * 0.6, self._options.duration - 8.0)
            # On a slow machine the first fill may need longer than the duration asked for.
            while (now := time.monotonic()) < stop_at or (
                now < stop_at + PATIENCE and not all(traded(self._seen).values())
            ):
                await self._show(screen)
            await self._finale(screen)

    async def _until_joined(self, screen: Display) -> None:
        deadline = time.monotonic() + READY_TIMEOUT
        while not (self._seen.bridges and self._seen.quotes):
            await self._show(screen)
            if time.monotonic() > deadline:
                raise _Failed(f"The bridge did not come up within {READY_TIMEOUT:g} s. See {self._folder}")

    async def _finale(self, screen: Display) -> None:
        """The stop, its report, and what is left of the duration: what comes after it must be denied."""
        assert self._options.duration is not None
        stopping = asyncio.create_task(self._emergency_stop(), name="demo-stop")
        deadline = time.monotonic() + STOP_TIMEOUT
        try:
            while time.monotonic() < deadline:
                over = time.monotonic() - self._began >= self._options.duration
                if over and stopping.done() and all(stopped(self._seen).values()):
                    break
                await self._show(screen)
        finally:
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)

    async def _emergency_stop(self) -> Any:
        async with open_door(self._backend, self._token, "operator") as socket:
            return await order(socket, "emergency_stop", {"reason": "end of the demo", "by": "demo operator"})

    async def _show(self, screen: Display) -> None:
        screen.show(
            Scene(
                seen=self._seen,
                elapsed=time.monotonic() - self._began,
                duration=self._options.duration,
                hint=self._stop_hint(),
                page=self._page,
            )
        )
        await self._step()


def _own_environment() -> dict[str, str]:
    """What programs need to run, and none of the settings somebody may have for a real bridge."""
    kept = {k: v for k, v in os.environ.items() if k.upper() in _KEPT_NAMES or k.upper().startswith(_KEPT_STARTS)}
    # The children run in the demo's folder, so that a `.env` here is not read; they must still find the package.
    package = str(Path(__file__).resolve().parents[2])
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (package, kept.get("PYTHONPATH"))))
    kept["PYTHONUNBUFFERED"] = "1"
    kept["PYTHONUTF8"] = "1"
    return kept


def _shortest_python() -> str:
    """The Python that runs us, as one would type it here."""
    for name in ("python", "python3"):
        found = shutil.which(name)
        if found and Path(found).absolute() == Path(sys.executable).absolute():
            return name
    with contextlib.suppress(ValueError):
        return str(Path(sys.executable).absolute().relative_to(Path.cwd()))
    return sys.executable


def _obituary(child: Child, what: str) -> str:
    lines = "\n".join(f"    {line}" for line in child.last_lines(15)) or "    (it said nothing)"
    return f"The {child.name} {what}. Its last lines:\n{lines}"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(run_demo())
