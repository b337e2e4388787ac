"""The package's functions that show finished orders, and deals."""

from typing import Any

from mt5_bridge.simulator.core.records import Deal, Order
from mt5_bridge.simulator.functions import arguments as a
from mt5_bridge.simulator.functions import views
from mt5_bridge.simulator.functions.pipe import Pipe
from mt5_bridge.simulator.functions.queries import past
from mt5_bridge.simulator.structs import TradeDeal, TradeOrder


class History(Pipe):
    """`history_*`."""

    def history_orders_total(self, *args: Any) -> int:
        a.exactly(args, 2)
        start, stop = a.seconds(args[0]), a.seconds(args[1])
        session, _ = self.terminal.synced()
        return session.account.store.count_history(start * 1000, stop * 1000 + 999)

    def history_deals_total(self, *args: Any) -> int:
        a.exactly(args, 2)
        start, stop = a.seconds(args[0]), a.seconds(args[1])
        session, _ = self.terminal.synced()
        return session.account.store.count_deals(start * 1000, stop * 1000 + 999)

    def history_orders_get(self, *args: Any, **kwargs: Any) -> tuple[TradeOrder, ...]:
        by, values, group = past(args, kwargs)
        session, _ = self.terminal.synced()
        records: list[Order] = session.account.store.history(by, values)
        return tuple(views.order(record) for record in records if group is None or record.symbol in group)

    def history_deals_get(self, *args: Any, **kwargs: Any) -> tuple[TradeDeal, ...]:
        by, values, group = past(args, kwargs)
        session, _ = self.terminal.synced()
        records: list[Deal] = session.account.store.deals(by, values)
        return tuple(views.deal(record) for record in records if group is None or record.symbol in group)
