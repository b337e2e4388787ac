"""What the trade server's return codes mean: pure tables.

Source: MQL5 documentation, "Return codes of the trade server"; what may be retried was judged for this bridge. A code
in no table is unknown, never a failure: the order may exist.
"""

from mt5_bridge.core.intent import Verdict
from mt5_bridge.core.messages import Reason
from mt5_bridge.core.model import TradeResult
from mt5_bridge.terminal.failures import NOT_SENT

_VERDICTS: dict[int, Verdict] = {
    10004: Verdict.RETRY,
    10006: Verdict.FINAL,
    10007: Verdict.FINAL,
    10008: Verdict.PLACED,
    10009: Verdict.DONE,
    10010: Verdict.PARTIAL,
    10011: Verdict.UNKNOWN,
    10012: Verdict.UNKNOWN,
    10013: Verdict.FINAL,
    10014: Verdict.FINAL,
    10015: Verdict.FINAL,
    10016: Verdict.FINAL,
    10017: Verdict.SYMBOL_BLOCKED,
    10018: Verdict.FINAL,
    10019: Verdict.FINAL,
    10020: Verdict.RETRY,
    10021: Verdict.RETRY,
    10022: Verdict.FINAL,
    10023: Verdict.REQUERY,
    10024: Verdict.BACK_OFF,
    10025: Verdict.NO_CHANGES,
    10026: Verdict.NOT_READY,
    10027: Verdict.NOT_READY,
    10028: Verdict.BACK_OFF,
    10029: Verdict.REQUERY,
    10030: Verdict.FINAL,
    10031: Verdict.UNKNOWN,
    10032: Verdict.HALT,
    10033: Verdict.FINAL,
    10034: Verdict.FINAL,
    10035: Verdict.REQUERY,
    10036: Verdict.REQUERY,
    10038: Verdict.REQUERY,
    10039: Verdict.REQUERY,
    10040: Verdict.FINAL,
    10041: Verdict.REQUERY,
    10042: Verdict.FINAL,
    10043: Verdict.FINAL,
    10044: Verdict.FINAL,
    10045: Verdict.FINAL,
}

_REASONS: dict[int, Reason] = {
    10004: Reason.REQUOTES,
    10013: Reason.INVALID,
    10014: Reason.INVALID,
    10015: Reason.INVALID,
    10016: Reason.STOPS_LEVEL,
    10017: Reason.SYMBOL_BLOCKED,
    10018: Reason.MARKET_CLOSED,
    10019: Reason.MARGIN,
    10020: Reason.REQUOTES,
    10021: Reason.NO_QUOTE,
    10022: Reason.EXPIRED,
    10024: Reason.THROTTLED,
    10026: Reason.NOT_READY,
    10027: Reason.NOT_READY,
    10032: Reason.NOT_READY,
    10033: Reason.POSITIONS,
    10034: Reason.MAX_VOLUME,
    10035: Reason.INVALID,
    10036: Reason.NOT_FOUND,
    10040: Reason.POSITIONS,
}

_TEXTS: dict[int, str] = {
    0: "Check passed",
    10004: "Requote",
    10006: "Request rejected",
    10007: "Request cancelled by the trader",
    10008: "Order placed",
    10009: "Request completed",
    10010: "Only part of the request was completed",
    10011: "Request processing error",
    10012: "Request cancelled by timeout",
    10013: "Invalid request",
    10014: "Invalid volume in the request",
    10015: "Invalid price in the request",
    10016: "Invalid stops in the request",
    10017: "Trade is disabled",
    10018: "Market is closed",
    10019: "There is not enough money to complete the request",
    10020: "Prices changed",
    10021: "There are no quotes to process the request",
    10022: "Invalid order expiration date in the request",
    10023: "Order state changed",
    10024: "Too frequent requests",
    10025: "No changes in the request",
    10026: "Autotrading disabled by the server",
    10027: "Autotrading disabled by the client terminal",
    10028: "Request locked for processing",
    10029: "Order or position frozen",
    10030: "Invalid order filling type",
    10031: "No connection with the trade server",
    10032: "Operation is allowed only for live accounts",
    10033: "The number of pending orders has reached the limit",
    10034: "The volume of orders and positions for the symbol has reached the limit",
    10035: "Incorrect or prohibited order type",
    10036: "Position with the specified identifier has already been closed",
    10038: "A close volume exceeds the current position volume",
    10039: "A close order already exists for the specified position",
    10040: "The number of open positions has reached the limit",
    10041: "The pending order activation request is rejected, the order is cancelled",
    10042: "Only long positions are allowed",
    10043: "Only short positions are allowed",
    10044: "Only position closing is allowed",
    10045: "Position closing is allowed only by the FIFO rule",
}


def classify(result: TradeResult) -> Verdict:
    """What an answer to `order_send` means for the intent."""
    if result.retcode is None:
        return Verdict.NOT_SENT if result.last_error in NOT_SENT else Verdict.UNKNOWN
    return _VERDICTS.get(result.retcode, Verdict.UNKNOWN)


def reason(code: int | None) -> Reason:
    """The published reason of a refusal with that code."""
    return Reason.TERMINAL_REFUSED if code is None else _REASONS.get(code, Reason.TERMINAL_REFUSED)


def text(retcode: int | None) -> str:
    """The code in words."""
    if retcode is None:
        return "No answer from the terminal"
    return _TEXTS.get(retcode, f"Unknown return code {retcode}")
