"""The paper terminal: a drop-in for the `MetaTrader5` package that needs no terminal, no broker and no Windows.

    import mt5_bridge.simulator as MetaTrader5

gives every constant, function, structure and dtype of the official package, on a market of recorded or seeded ticks.
`configure` sets it up, `install` puts it in the place of `MetaTrader5` and, with a manual clock, gives time to a test.
"""

from mt5_bridge.simulator import api, helpers, structs
from mt5_bridge.simulator.constants import *  # noqa: F403 - the package's 223 constants are its public names

__version__ = "5.0.6231"
__author__ = "MetaQuotes Ltd."

# The paper terminal's own.

MarketControl = api.MarketControl
configure = api.configure
install = api.install
uninstall = api.uninstall
inject = api.inject
clear_faults = api.clear_faults

# The official package's.

AccountInfo = structs.AccountInfo
BookInfo = structs.BookInfo
OrderCheckResult = structs.OrderCheckResult
OrderSendResult = structs.OrderSendResult
SymbolInfo = structs.SymbolInfo
TerminalInfo = structs.TerminalInfo
Tick = structs.Tick
TradeDeal = structs.TradeDeal
TradeOrder = structs.TradeOrder
TradePosition = structs.TradePosition
TradeRequest = structs.TradeRequest

_RawOrder = helpers._RawOrder
Buy = helpers.Buy
Sell = helpers.Sell
Close = helpers.Close

initialize = api.BUILTINS["initialize"]
login = api.BUILTINS["login"]
shutdown = api.BUILTINS["shutdown"]
version = api.BUILTINS["version"]
last_error = api.BUILTINS["last_error"]
terminal_info = api.BUILTINS["terminal_info"]
account_info = api.BUILTINS["account_info"]
symbols_total = api.BUILTINS["symbols_total"]
symbols_get = api.BUILTINS["symbols_get"]
symbol_info = api.BUILTINS["symbol_info"]
symbol_info_tick = api.BUILTINS["symbol_info_tick"]
symbol_select = api.BUILTINS["symbol_select"]
market_book_add = api.BUILTINS["market_book_add"]
market_book_get = api.BUILTINS["market_book_get"]
market_book_release = api.BUILTINS["market_book_release"]
copy_ticks_from = api.BUILTINS["copy_ticks_from"]
copy_ticks_range = api.BUILTINS["copy_ticks_range"]
copy_rates_from = api.BUILTINS["copy_rates_from"]
copy_rates_from_pos = api.BUILTINS["copy_rates_from_pos"]
copy_rates_range = api.BUILTINS["copy_rates_range"]
order_calc_margin = api.BUILTINS["order_calc_margin"]
order_calc_profit = api.BUILTINS["order_calc_profit"]
order_check = api.BUILTINS["order_check"]
order_send = api.BUILTINS["order_send"]
orders_total = api.BUILTINS["orders_total"]
orders_get = api.BUILTINS["orders_get"]
positions_total = api.BUILTINS["positions_total"]
positions_get = api.BUILTINS["positions_get"]
history_orders_total = api.BUILTINS["history_orders_total"]
history_orders_get = api.BUILTINS["history_orders_get"]
history_deals_total = api.BUILTINS["history_deals_total"]
history_deals_get = api.BUILTINS["history_deals_get"]

# `from MetaTrader5 import *` gives the official names and no more. Set so that type checkers still see all others, too.
globals()["__all__"] = [
    *(name for name in globals() if name.isupper()),
    *(name for name, value in globals().items() if getattr(structs, name, None) is value and isinstance(value, type)),
    *("Buy", "Sell", "Close"),
    *api.BUILTINS,
]
