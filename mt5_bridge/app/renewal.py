"""What the backend asks for, read anew before each connection: a token or certificate is replaced without a restart."""

import asyncio
from collections.abc import Callable
from typing import Any

from loguru import logger

from mt5_bridge.app import rooms
from mt5_bridge.control.security import Credentials, tls_context
from mt5_bridge.core.errors import SettingsError
from mt5_bridge.flows.disk import DaemonExecutor
from mt5_bridge.settings import Settings

READ_S = 2.0
TOKEN = "BACKEND_AUTH_TOKEN"  # noqa: S105  a setting's name

Reread = Callable[[str], Any]
"""A setting's value as it stands in its sources now; raises SettingsError when it is wrong."""


class Renewal:
    """Gives the newest credentials there are; where nothing better can be read, the last that could.

    Args:
        settings: where the certificates lie, and the token of the start.
        reread: None: the token stays as it was at the start.
    """

    def __init__(self, settings: Settings, reread: Reread | None) -> None:
        self._files = rooms.backend_files(settings)
        self._reread = reread
        self._disk = DaemonExecutor("backend-credentials")
        self._reading: asyncio.Future[Credentials] | None = None
        self._last = Credentials(token=rooms.reveal(settings.backend_auth_token), tls=tls_context(self._files))
        self._told = ""

    async def __call__(self) -> Credentials:
        """Credentials for the next connection. Takes two seconds at most: the files may lie on a disk that hangs."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().run_in_executor(self._disk, self._read)
            self._reading.add_done_callback(_seen)
        try:
            async with asyncio.timeout(READ_S):
                fresh = await asyncio.shield(self._reading)
        except TimeoutError:
            self._tell(f"{TOKEN}: cannot be read within {READ_S:g} s")
        except SettingsError as error:
            self._tell(str(error))
        except Exception as error:  # noqa: BLE001  a keyring raises what it likes: no reason to go without a backend
            self._tell(f"{TOKEN}: cannot be read ({type(error).__name__})")
        else:
            self._told = ""
            if fresh.token != self._last.token:
                logger.bind(event="backend_token_renewed").info("BACKEND_AUTH_TOKEN has changed: using the new one")
            self._last = fresh
        return self._last

    def _read(self) -> Credentials:
        token = self._last.token if self._reread is None else rooms.reveal(self._reread(TOKEN))
        return Credentials(token=token, tls=tls_context(self._files))

    def _tell(self, fault: str) -> None:
        if fault != self._told:
            self._told = fault
            logger.bind(event="backend_credentials_stale").warning(
                "Going on with what was read before: {fault}", fault=fault
            )


def _seen(reading: "asyncio.Future[Credentials]") -> None:
    """A fault that comes when nobody waits any more is no defect: the next connection asks again."""
    if not reading.cancelled():
        reading.exception()
