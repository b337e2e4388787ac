"""Another account: tried before the bridge goes over to it, and not taken for the one before.

Which account a bridge trades is a matter of its settings. Whoever changes it, by `POST /connect` or in a file, begins a
new life of the same folder: the latch, the inbox and the magics stay; the day, the positions last announced and the
broker's clock were another account's.
"""

from typing import NamedTuple

import msgspec
from loguru import logger

from mt5_bridge.app.early import terminal_config
from mt5_bridge.app.rooms import account_of
from mt5_bridge.core.errors import InstanceError, JournalError, MT5AuthError
from mt5_bridge.core.model import AccountInfo
from mt5_bridge.flows.memos import recalled
from mt5_bridge.flows.session import Credentials
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.journal.lock import InstanceLock, account_lock_path
from mt5_bridge.settings import SecretStr, Settings
from mt5_bridge.terminal.session import MT5SessionManager

ACCOUNT_MEMO = "account"
TRY_S = 30.0
"""How long another account is tried."""


class Known(NamedTuple):
    """What of an earlier life holds for this one."""

    same_account: bool
    same_server: bool


class _Noted(msgspec.Struct, frozen=True):
    login: int
    server: str


class AccountNote:
    """Which account the journal's picture is of."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._noted: _Noted | None = None

    async def restore(self, login: int | None, server: str | None) -> Known:
        """Compare the account noted last with that of the settings; what is not known counts as the same.

        Raises:
            JournalError: the journal cannot be read.
        """
        noted = self._noted = await recalled(self._journal, ACCOUNT_MEMO, _Noted)
        if noted is None:
            return Known(same_account=True, same_server=True)
        same_server = server in (None, noted.server)
        return Known(same_account=same_server and login in (None, noted.login), same_server=same_server)

    def is_other(self, account: AccountInfo) -> bool:
        """Whether the terminal shows another account than the one noted last."""
        return self._noted not in (None, _Noted(account.login, account.server))

    async def write(self, account: AccountInfo, *beside: changes.Change) -> None:
        """Note the account that the terminal shows, and what of it takes the place of another account's."""
        shown = _Noted(account.login, account.server)
        if shown == self._noted:
            return
        try:
            await self._journal.commit(changes.Memo(name=ACCOUNT_MEMO, value=msgspec.json.encode(shown)), *beside)
        except JournalError as error:
            logger.bind(event="account_not_noted").warning("The account is not noted: {error}", error=error)
        else:
            self._noted = shown


def other_account(settings: Settings, wanted: Credentials) -> Settings:
    """The settings with another account in place of theirs."""
    password = None if wanted.password is None else SecretStr(wanted.password)
    return msgspec.structs.replace(
        settings,
        mt5_login=wanted.login,
        mt5_server=wanted.server or settings.mt5_server,
        mt5_password=password,
    )


async def try_account(settings: Settings) -> None:
    """Log in to the account of the settings and out again.

    Raises:
        MT5AuthError: the broker refuses it, or another bridge on this PC has it.
        MT5Error: the terminal cannot be had.
    """
    account = account_of(settings)
    try:
        if account is not None:
            with InstanceLock(account_lock_path(account, None)):
                await _log_in(settings)
        else:
            await _log_in(settings)
    except InstanceError as error:
        raise MT5AuthError(str(error)) from error


async def _log_in(settings: Settings) -> None:
    session = MT5SessionManager(terminal_config(settings))
    try:
        await session.connect(max_wait=TRY_S)
    finally:
        await session.disconnect()
