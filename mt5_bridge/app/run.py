"""The process: logging, signals of the operating system, exit codes."""

import asyncio
import gc
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

from loguru import logger

from mt5_bridge import __version__, log
from mt5_bridge.app.early import terminal_config
from mt5_bridge.core.errors import BridgeError, InstanceError, JournalError, MT5AuthError, MT5InitError, SettingsError
from mt5_bridge.settings import Loaded, Settings
from mt5_bridge.terminal.session import MT5SessionManager

if TYPE_CHECKING:
    from mt5_bridge.app.bridge import Bridge

OK, DEFECT, CONFIGURATION, TERMINAL, INSTANCE = 0, 1, 2, 3, 4
"""Exit codes."""


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
    with logs:
        for warning in loaded.warnings:
            logger.bind(event="setting_doubtful").warning("{warning}", warning=warning)
        return asyncio.run(_run(settings))


async def _run(settings: Settings) -> int:
    logger.bind(event="starting", version=__version__, mode=settings.mode, terminal=settings.terminal).info(
        "MT5 Bridge {version} starts in {mode} mode on the {terminal} terminal, data in {folder}",
        version=__version__,
        mode=settings.mode,
        terminal=settings.terminal,
        folder=settings.data_dir,
    )
    terminal = MT5SessionManager(terminal_config(settings))
    try:
        # The host starts on another core, while this one loads the rest of the bridge.
        await terminal.warm_up()
        return await _run_bridge(settings, terminal)
    finally:
        await terminal.disconnect()


async def _run_bridge(settings: Settings, terminal: MT5SessionManager) -> int:
    from mt5_bridge.app.bridge import Bridge

    # Everything alive by now stays: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    bridge = Bridge(settings, terminal=terminal)
    _listen(bridge)
    try:
        await bridge.run()
    except BaseExceptionGroup as group:
        return _exit_code(_first(group), opened=bridge.opened)
    except (BridgeError, Exception) as error:  # noqa: BLE001  the last place that can say what it was
        return _exit_code(error, opened=bridge.opened)
    logger.bind(event="stopped").info("Stopped")
    return OK


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


def _listen(bridge: "Bridge") -> None:
    loop = asyncio.get_running_loop()
    if sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, bridge.request_stop)
        return
    emergency = bridge.settings.break_is_emergency

    def handle(number: int, frame: FrameType | None) -> None:
        stop = bridge.emergency_break if emergency and number == signal.SIGBREAK else bridge.request_stop
        loop.call_soon_threadsafe(stop)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK):
        signal.signal(number, handle)
