from pathlib import Path

import pytest
from support.flow_kit import FlowKit
from support.simulated import simulated

from mt5_bridge.core.intent import IntentState
from mt5_bridge.core.model import Deed, OrderRequest
from mt5_bridge.flows.orders import Intent
from mt5_bridge.flows.stored import intent_of, part_of, sent_of
from mt5_bridge.journal import changes

REQUEST = OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.2, magic=7, position=3, stop_loss=1.09)
INTENT = Intent(key="k", leg=2, request=REQUEST, action="CLOSE", risk=12.5)


@pytest.mark.parametrize("state", [None, "unknown", "closed"])
@simulated
async def test_an_order_comes_back_as_it_was_sent(tmp_path: Path, state: str | None) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.journal.commit(kit.desk.opened(INTENT, 5))
        if state is not None:
            moved = changes.IntentMoved(magic=7, state=state, at_msc=6, order=8, deal=9, volume=0.1, price=1.1)
            await kit.journal.commit(moved)
        (stored,) = await kit.journal.intents("k")
        assert intent_of(stored) == INTENT
        sent = sent_of(stored)
        assert sent.sent_msc == 5
        part = part_of(stored)
        assert (part.intent, part.target, part.sent) == (INTENT, None, sent)
        if state == "closed":
            assert sent.found is not None
            assert (sent.state, sent.found.volume, sent.found.deal) == (IntentState.CLOSED, 0.1, 9)
        else:
            assert (sent.state, sent.found) == (IntentState.UNKNOWN, None)
