"""Another account: what of the journal holds for it, and what is tried before a bridge goes over to it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.fake_terminal import FakeTerminal

from mt5_bridge.app import accounts as module
from mt5_bridge.app.accounts import ACCOUNT_MEMO, AccountNote, Known, other_account, try_account
from mt5_bridge.core.errors import InstanceError, JournalError, MT5AuthError
from mt5_bridge.core.model import AccountInfo
from mt5_bridge.flows.session import Credentials
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.settings import SecretStr, Settings

SHOWN: AccountInfo = FakeTerminal(login=1).account


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = await Journal.open(tmp_path / "journal.db", lock=False)
    yield opened
    await opened.close()


async def noted(journal: Journal, account: AccountInfo = SHOWN) -> AccountNote:
    note = AccountNote(journal)
    await note.restore(None, None)
    await note.write(account)
    return note


@pytest.mark.parametrize(
    ("login", "server", "known"),
    [
        (1, "Fake-Demo", Known(same_account=True, same_server=True)),
        (1, None, Known(same_account=True, same_server=True)),
        (None, None, Known(same_account=True, same_server=True)),
        (2, None, Known(same_account=False, same_server=True)),
        (1, "Other", Known(same_account=False, same_server=False)),
        (None, "Other", Known(same_account=False, same_server=False)),
    ],
)
async def test_what_holds_for_the_account_of_the_settings(
    journal: Journal, login: int | None, server: str | None, known: Known
) -> None:
    await noted(journal)
    assert await AccountNote(journal).restore(login, server) == known


async def test_what_takes_the_place_of_the_other_accounts_is_written_with_it(journal: Journal) -> None:
    note = await noted(journal)
    other = FakeTerminal(login=2).account
    assert (note.is_other(SHOWN), note.is_other(other), AccountNote(journal).is_other(other)) == (False, True, False)
    await note.write(other, changes.Memo(name="day", value=b"{}"))
    assert await journal.memo("day") == b"{}"
    assert not note.is_other(other)


async def test_a_new_journal_contradicts_nobody(journal: Journal) -> None:
    assert await AccountNote(journal).restore(5, "S") == Known(same_account=True, same_server=True)


async def test_a_note_that_cannot_be_read_is_done_without(journal: Journal) -> None:
    await journal.commit(changes.Memo(name=ACCOUNT_MEMO, value=b"\x00"))
    assert (await AccountNote(journal).restore(5, "S")).same_account


async def test_the_same_account_is_noted_once(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    note = await noted(journal)

    async def fail(*items: Any) -> None:
        raise JournalError("full")

    monkeypatch.setattr(journal, "commit", fail)
    await note.write(SHOWN)
    await note.write(FakeTerminal(login=2).account)  # told to the log, tried again with the next connection
    assert await AccountNote(journal).restore(1, None) == Known(same_account=True, same_server=True)


def test_settings_of_another_account_keep_the_rest(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, mt5_login=1, mt5_server="S", mt5_password=SecretStr("one"), tick_hz=3.0)
    other = other_account(settings, Credentials(2, None, None))
    assert (other.mt5_login, other.mt5_server, other.mt5_password, other.tick_hz) == (2, "S", None, 3.0)
    other = other_account(settings, Credentials(2, "T", "two"))
    assert (other.mt5_server, other.mt5_password) == ("T", SecretStr("two"))


class Session:
    """A session that logs in nowhere."""

    made: list["Session"] = []  # noqa: RUF012  emptied by each test

    def __init__(self, config: Any) -> None:
        self.config, self.calls = config, ["made"]
        self.made.append(self)

    async def connect(self, max_wait: float) -> None:
        self.calls.append("connect")
        if self.config.login == 666:
            raise MT5AuthError("wrong password", code=-6)

    async def disconnect(self) -> None:
        self.calls.append("disconnect")


@pytest.mark.parametrize("terminal", ["paper", "mt5"])
@pytest.mark.parametrize("login", [1, 666])
async def test_an_account_is_logged_in_to_and_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: Any, login: int
) -> None:
    Session.made.clear()
    monkeypatch.setattr(module, "MT5SessionManager", Session)
    monkeypatch.setattr(module, "account_lock_path", lambda account, folder: tmp_path / "account.lock")
    settings = Settings(data_dir=tmp_path, terminal=terminal, mt5_login=login, mt5_server="S")
    if login == 666:
        with pytest.raises(MT5AuthError):
            await try_account(settings)
    else:
        await try_account(settings)
    assert [session.calls for session in Session.made] == [["made", "connect", "disconnect"]]
    assert Session.made[0].config.deadman is None
    assert (tmp_path / "account.lock").exists() == (terminal == "mt5")


async def test_an_account_that_another_bridge_has_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Taken:
        def __init__(self, path: Path) -> None:
            raise InstanceError("another bridge has it")

    Session.made.clear()
    monkeypatch.setattr(module, "MT5SessionManager", Session)
    monkeypatch.setattr(module, "InstanceLock", Taken)
    with pytest.raises(MT5AuthError, match="another bridge"):
        await try_account(Settings(data_dir=tmp_path, terminal="mt5", mt5_login=1, mt5_server="S"))
    assert Session.made == []
