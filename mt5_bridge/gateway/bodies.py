"""What the REST routes take: bodies as the contract has them. Unknown fields are ignored, wrong ones are named.

The bridge judges what gets through once more, by the same rules as every signal and command.
"""

from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

Ticket = Annotated[int, Field(gt=0, le=(1 << 63) - 1)]
Lots = Annotated[float, Field(gt=0, le=1e9, description="Lots.")]
Price = Annotated[float, Field(ge=0, le=1e15, description="In quote currency; 0 removes it.")]
Points = Annotated[int, Field(ge=0, le=10**9, description="In the symbol's points.")]
SymbolName = Annotated[str, Field(min_length=1, max_length=64, examples=["EURUSD"])]
Text = Annotated[str, Field(max_length=500)]
Time = Annotated[
    str | int | float,
    Field(description="ISO 8601, or seconds or milliseconds since the epoch.", union_mode="left_to_right"),
]
Opening = Literal[
    "BUY", "SELL", "BUY_LIMIT", "SELL_LIMIT", "BUY_STOP", "SELL_STOP", "BUY_STOP_LIMIT", "SELL_STOP_LIMIT"
]  # fmt: skip
AnyAction = Literal[
    "BUY", "SELL", "CLOSE", "BUY_LIMIT", "SELL_LIMIT", "BUY_STOP", "SELL_STOP", "BUY_STOP_LIMIT", "SELL_STOP_LIMIT",
    "MODIFY", "CANCEL", "CLOSE_BY",
]  # fmt: skip
Timeframe = Literal[
    "M1", "M2", "M3", "M4", "M5", "M6", "M10", "M12", "M15", "M20", "M30",
    "H1", "H2", "H3", "H4", "H6", "H8", "H12", "D1", "W1", "MN1",
]  # fmt: skip


def _upper(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


def _number(value: object) -> object:
    """A login is often written as text."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20 else value


class Body(BaseModel):
    """Base of all: no number is read out of a text, and none is NaN."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, populate_by_name=True)


class NewOrder(Body):
    """A market order, or a pending one; the guards and limits of every signal apply."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"symbol": "EURUSD", "order_type": "BUY", "volume": 0.1, "sl": 1.08, "tp": 1.12, "comment": "by hand"},
                {"symbol": "EURUSD", "order_type": "SELL_LIMIT", "volume": 0.1, "price": 1.15, "sl": 1.16},
            ]
        }
    )

    symbol: SymbolName
    order_type: Annotated[Opening, BeforeValidator(_upper)]
    volume: Lots | None = Field(default=None, description="Lots; absent: sized from the risk to the stop.")
    risk_percent: Annotated[float, Field(gt=0, le=100)] | None = None
    price: Price | None = Field(default=None, description="Of a pending order; for a market order, the price you saw.")
    stop_limit_price: Price | None = None
    sl: Price | None = Field(default=None, validation_alias=AliasChoices("sl", "stop_loss"), description="Stop loss.")
    tp: Price | None = Field(default=None, validation_alias=AliasChoices("tp", "take_profit"), description="Target.")
    deviation_points: Points | None = None
    expiration: Time | None = None
    comment: Text | None = None
    strategy: Annotated[str, Field(max_length=200)] | None = None

    def signal(self) -> dict[str, object]:
        """The same as a trading signal."""
        given = self.model_dump(exclude_none=True)
        names = {"order_type": "action", "sl": "stop_loss", "tp": "take_profit"}
        return {names.get(name, name): value for name, value in given.items()}


class NewSignal(Body):
    """A trading signal, as on the topic and over the WebSocket."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"signal_id": "ai-7f31", "symbol": "EURUSD", "action": "BUY", "volume": 0.1, "stop_loss": 1.08},
                {"signal_id": "ai-7f32", "symbol": "EURUSD", "action": "CLOSE", "target_signal_id": "ai-7f31"},
            ]
        }
    )

    symbol: SymbolName
    action: AnyAction
    signal_id: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="Yours: a signal with it executes at most once, however often it comes."
    )
    volume: Lots | None = None
    risk_percent: Price | None = None
    price: Price | None = None
    stop_limit_price: Price | None = None
    stop_loss: Price | None = None
    take_profit: Price | None = None
    deviation_points: Points | None = None
    expiration: Time | None = None
    comment: Text | None = None
    urgency: Literal["low", "normal", "high", "critical"] = "normal"
    strategy: Annotated[str, Field(max_length=200)] | None = None
    account: str | int | None = None
    position: Ticket | None = None
    created_at: Time | None = None
    ttl_ms: Annotated[int, Field(ge=0, le=(1 << 63) - 1)] | None = None
    order: Ticket | None = None
    target_signal_id: Annotated[str, Field(max_length=200)] | None = None
    trailing_stop_points: Points | None = None
    break_even_points: Points | None = None


class ChangedPosition(Body):
    """A new stop or target; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"sl": 1.085}, {"sl": 1.085, "tp": 1.13}, {"tp": 0}]})

    sl: Price | None = Field(default=None, validation_alias=AliasChoices("sl", "stop_loss"))
    tp: Price | None = Field(default=None, validation_alias=AliasChoices("tp", "take_profit"))


class ChangedOrder(ChangedPosition):
    """A new price, stop, target or end of a pending order; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"price": 1.149}, {"sl": 1.16, "tp": 1.1}]})

    price: Price | None = None
    stop_limit_price: Price | None = None
    expiration: Time | None = None


class WantedTicks(Body):
    """Ticks of a symbol: the newest, those between two times, or those behind a cursor."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"symbol": "EURUSD", "count": 100}]})

    symbol: SymbolName
    count: Annotated[int, Field(ge=1, le=10_000)] = 100
    from_msc: Annotated[int, Field(ge=0, le=1 << 53)] | None = None
    to_msc: Annotated[int, Field(ge=0, le=1 << 53)] | None = None
    cursor: Annotated[str, Field(pattern=r"^[0-9]{1,16}:-?[0-9]{1,19}$")] | None = None


class Resume(Body):
    """A person's word that trading goes on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "looked at it, all is well", "by": "Ana"}]})

    reason: Annotated[str, Field(min_length=1, max_length=500)]
    by: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        default=None, description="Who says so; absent: whom the token names."
    )
    force: bool = Field(default=False, description="In spite of survivors and orders of unknown outcome.")


class Connect(Body):
    """An account; absent fields: the one that the bridge has."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{}, {"server": "Broker-Live", "login": 123456, "password": "…"}]}
    )

    server: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    login: Annotated[int, Field(gt=0, le=(1 << 63) - 1), BeforeValidator(_number)] | None = None
    password: Annotated[SecretStr, Field(strict=False, max_length=256)] | None = None
