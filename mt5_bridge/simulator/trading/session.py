"""One account, logged in: its books and the server that works on them."""

from contextlib import suppress

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.market.market import Market
from mt5_bridge.simulator.trading.account import Account
from mt5_bridge.simulator.trading.dealer import Dealer, UnknownSymbolError
from mt5_bridge.simulator.trading.engine import Engine


class Session:
    """One account, logged in: its books and the server that works on them."""

    def __init__(
        self, login: int, server: str, market: Market, account: Account, *, seed: int = 0, investor: bool = False
    ) -> None:
        self.login = login
        self.server = server
        self.account = account
        self.investor = investor
        """Logged in with the password that only lets one look."""
        self.engine = Engine(market, account, seed)
        self.dealer = Dealer(market, account, self.engine, seed)

    @property
    def identity(self) -> tuple[int, str]:
        """Whose account it is."""
        return self.login, self.server

    def barred(self) -> int:
        """The retcode with which the server refuses whatever is asked of the account; 0: it does not."""
        rules = self.account.rules
        if not rules.trade_allowed:
            return c.TRADE_RETCODE_TRADE_DISABLED
        return 0 if rules.trade_expert else c.TRADE_RETCODE_SERVER_DISABLES_AT

    def idle(self, now: int) -> bool:
        """Whether `work_off` would find nothing to do."""
        return self.engine.quiet(now) and self.account.ledger.due(now) is None

    def work_off(self, now: int) -> None:
        """Brings the books up to `now` (UTC, ms), with late orders executed at their own time.

        Raises:
            sqlite3.Error: the store cannot be written.
        """
        account = self.account
        while order := account.ledger.due(now):
            moment = max(order.due_msc, account.processed_msc)
            self.engine.sync(moment)
            request = account.ledger.take_late(order)
            if not self.barred():
                with suppress(UnknownSymbolError):  # the symbol has gone with its tick file since the order was sent
                    self.dealer.send(request, moment)
            account.commit(moment)  # also what came to nothing has had its turn
        self.engine.sync(now)

    def close(self) -> None:
        """Lets go of the account's file."""
        self.account.store.release()
