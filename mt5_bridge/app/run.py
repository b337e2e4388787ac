"""The process: logging, signals of the operating system, exit codes."""

import asyncio
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from loguru import logger

from mt5_bridge import __version__, log
from mt5_bridge.app.early import daemon_config
from mt5_bridge.core.errors import BridgeError, InstanceError, JournalError, MT5AuthError, MT5InitError, SettingsError
from mt5_bridge.core.memory import keep_what_is_there, let_go
from mt5_bridge.settings import Loaded, SecretStr, Settings
from mt5_bridge.terminal.session import MT5SessionManager

if TYPE_CHECKING:
    from mt5_bridge.app.bridge import Bridge
    from mt5_bridge.app.renewal import Reread

OK, DEFECT, CONFIGURATION, TERMINAL, INSTANCE = 0, 1, 2, 3, 4
"""Exit codes."""

_BREAKS = ("SIGBREAK", "SIGQUIT")
"""Ctrl+Break on Windows; Ctrl+\\ where there is no such key."""
_SWITCH_S = 0.001 if sys.platform == "win32" else 0.0001
"""How long a thread waits before it asks a busy one for the interpreter. Windows counts whole milliseconds: a shorter
wait would be none, and whoever waits would spin."""


class Interrupts:
    """What asks the bridge to end, heard from before there is one until its logs are closed; in the main thread.

    Not by the loop's own handlers: Windows has none, and elsewhere they give way to the system's while the loop closes.

    Args:
        break_is_emergency: BREAK_IS_EMERGENCY.
    """

    def __init__(self, *, break_is_emergency: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._breaks = {getattr(signal, name) for name in _BREAKS if hasattr(signal, name)}
        self._emergency = self._breaks if break_is_emergency else set()
        self._bridge: Bridge | None = None
        self._told = False
        self._early: list[int] = []
        for number in _numbers():
            former = signal.signal(number, self._hear)
            if number in self._breaks and getattr(former, "pressed", False):
                self._early.append(number)  # while the program was still loading

    @property
    def ended(self) -> bool:
        """Asked to end before there was a bridge, and nothing but that; or while one gave way to the next."""
        return self._told or (bool(self._early) and not self._emergency.intersection(self._early))

    def pass_to(self, bridge: "Bridge") -> None:
        """From now on this bridge is asked; it is told what was asked before."""
        self._bridge = bridge
        early, self._early = self._early, []
        for number in early:
            self._ask(bridge, number)

    def between(self) -> None:
        """One bridge has ended and another is about to begin: what is asked now is for that one."""
        self._bridge = None

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._bridge is None:
            self._early.append(number)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ask, self._bridge, number)

    def _ask(self, bridge: "Bridge", number: int) -> None:
        if number in self._emergency:
            bridge.emergency_break()
        else:
            self._told = True
            bridge.request_stop()


def _numbers() -> list[int]:
    return [getattr(signal, name) for name in ("SIGINT", "SIGTERM", *_BREAKS) if hasattr(signal, name)]


def run_bridge(loaded: Loaded) -> int:
    """Run the bridge until it is told to stop; returns the exit code.

    0 ended as asked, 1 a defect, 2 configuration, 3 the terminal refuses for good, 4 another instance runs.
    """
    settings = loaded.settings
    try:
        logs = log.open_log(settings)
    except SettingsError as error:
        sys.stderr.write(f"ERROR {error}\n")
        return CONFIGURATION
    before = {number: handler for number in _numbers() if (handler := signal.getsignal(number)) is not None}
    try:
        with logs:
            for warning in loaded.warnings:
                logger.bind(event="setting_doubtful").warning("{warning}", warning=warning)
            with asyncio.Runner(loop_factory=_loop_factory(settings)) as runner:
                return runner.run(_run(settings, _rereading(loaded, logs), logs.hide))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _loop_factory(settings: Settings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loop where a gateway runs and the platform has it: a request costs a third less on it.

    The others keep the platform's own, which needs less memory.
    """
    if not settings.gateway_enabled:
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _rereading(loaded: Loaded, logs: log.Logs) -> "Reread | None":
    """Reads a setting anew; a new secret is kept out of the logs from then on."""
    reread = loaded.reread
    if reread is None:
        return None

    def read(name: str) -> Any:
        value = reread(name)
        if isinstance(value, SecretStr):
            logs.hide(value.get_secret_value())
        return value

    return read


async def _run(
    settings: Settings, reread: "Reread | None" = None, hide: Callable[[str], None] = lambda secret: None
) -> int:
    logger.bind(event="starting", version=__version__, mode=settings.mode, terminal=settings.terminal).info(
        "MT5 Bridge {version} starts in {mode} mode on the {terminal} terminal, data in {folder}",
        version=__version__,
        mode=settings.mode,
        terminal=settings.terminal,
        folder=settings.data_dir,
    )
    interrupts = Interrupts(break_is_emergency=settings.break_is_emergency)
    while True:
        terminal = MT5SessionManager(daemon_config(settings))
        try:
            # The host starts on another core, while this one loads the rest of the bridge.
            await terminal.warm_up()
            code, successor = await _run_bridge(settings, terminal, interrupts, reread)
        finally:
            await terminal.disconnect()
        if successor is None or interrupts.ended:
            return code
        settings = successor
        if settings.mt5_password is not None:
            hide(settings.mt5_password.get_secret_value())
        logger.bind(event="begins_anew", login=settings.mt5_login).warning(
            "The bridge begins anew with account {login}", login=settings.mt5_login
        )
        let_go()


async def _run_bridge(
    settings: Settings, terminal: MT5SessionManager, interrupts: Interrupts, reread: "Reread | None"
) -> tuple[int, Settings | None]:
    """Its exit code, and the settings to begin anew with, if any."""
    from mt5_bridge.app.bridge import Bridge

    if interrupts.ended:
        return OK, None
    keep_what_is_there()
    # The journal's thread asks for the interpreter after every statement; by default a busy loop gives it up only
    # every 5 ms, and an order waits for several statements.
    sys.setswitchinterval(_SWITCH_S)
    # The gateway and the Kafka client are large, and loaded while the rooms open.
    bridge = Bridge(settings, terminal=terminal, reread=reread, on_open=keep_what_is_there)
    interrupts.pass_to(bridge)
    try:
        await bridge.run()
    except BaseExceptionGroup as group:
        return _exit_code(_first(group), opened=bridge.opened), None
    except (BridgeError, Exception) as error:  # noqa: BLE001  the last place that can say what it was
        return _exit_code(error, opened=bridge.opened), None
    interrupts.between()
    logger.bind(event="stopped").info("Stopped")
    return OK, bridge.successor


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _exit_code(error: BaseException, *, opened: bool) -> int:
    if isinstance(error, InstanceError):
        logger.bind(event="instance").error("ERROR {error}", error=error)
        return INSTANCE
    if isinstance(error, MT5InitError | MT5AuthError):
        logger.bind(event="terminal_refused", code=error.code).error("ERROR {error}", error=error)
        return TERMINAL
    if isinstance(error, JournalError | SettingsError) and not opened:
        logger.bind(event="cannot_start").error("ERROR {error}", error=error)
        return CONFIGURATION
    logger.bind(event="crashed").opt(exception=error).critical("ERROR the bridge ends on a defect: {e!r}", e=error)
    return DEFECT
