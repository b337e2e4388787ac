"""The examples of the OpenAPI are answers as the models have them, and every answer with content has one."""

from typing import Any

import pytest
from pydantic import BaseModel
from support.fake_bridge_port import gateway

from mt5_bridge.gateway import examples, models


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (models.AccountAnswer, examples.ACCOUNT),
        (models.PositionsAnswer, examples.POSITIONS),
        (models.OrdersAnswer, examples.ORDERS),
        (models.PastOrdersAnswer, examples.PAST_ORDERS),
        (models.SymbolsAnswer, examples.SYMBOLS),
        (models.SymbolAnswer, examples.SYMBOL),
        (models.RatesAnswer, examples.RATES),
        (models.TicksAnswer, examples.TICKS),
        (models.DealsAnswer, examples.DEALS),
        (models.ResultAnswer, examples.RESULT),
        (models.UnknownAnswer, examples.UNKNOWN),
        (models.HaltAnswer, examples.HALT),
        (models.SessionAnswer, examples.SESSION),
        (models.SessionAnswer, examples.BEGINS_ANEW),
    ],
)
def test_an_example_is_an_answer(model: type[BaseModel], example: dict[str, Any]) -> None:
    model.model_validate(example, extra="forbid")


async def test_the_bodies_examples_are_bodies() -> None:
    async with gateway() as client:
        schemas = client.app.openapi()["components"]["schemas"]
        for name in ("NewOrder", "NewSignal", "ChangedPosition", "ChangedOrder", "WantedTicks", "Resume", "Connect"):
            assert schemas[name]["examples"], name


async def test_every_answer_of_ours_has_an_example() -> None:
    async with gateway() as client:
        tags = {"account", "market", "trading", "administration"}
        told = [
            (path, status, answer["content"]["application/json"])
            for path, methods in client.app.openapi()["paths"].items()
            for route in methods.values()
            if tags & set(route.get("tags", ()))
            for status, answer in route["responses"].items()
            if status in ("200", "202")
        ]
        assert len(told) > 15
        assert [(path, status) for path, status, content in told if "example" not in content] == []
