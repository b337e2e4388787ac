"""What the journal kept of an order, as the flows work with it."""

import msgspec

from mt5_bridge.core.intent import IntentState
from mt5_bridge.core.model import OrderRequest
from mt5_bridge.flows.exits import Part
from mt5_bridge.flows.orders import Intent, Sent
from mt5_bridge.flows.settle import Found
from mt5_bridge.journal.rows import StoredIntent


def intent_of(stored: StoredIntent) -> Intent:
    """The intent as it was sent."""
    request = msgspec.json.decode(stored.request, type=OrderRequest)
    return Intent(key=stored.key, leg=stored.leg, request=request, action=stored.action, risk=stored.risk)


def sent_of(stored: StoredIntent) -> Sent:
    """What is known of its outcome; UNKNOWN where it was being sent when the journal was last written."""
    intent, state = intent_of(stored), IntentState(stored.state)
    if state.open:
        return Sent(state=IntentState.UNKNOWN, request=intent.request, sent_msc=stored.opened_msc)
    found = Found(
        state=state,
        order=stored.order,
        deal=stored.deal,
        position=stored.position,
        volume=stored.filled_volume,
        price=stored.price,
        detail=stored.detail,
    )
    return Sent(state=state, request=intent.request, found=found, detail=stored.detail, sent_msc=stored.opened_msc)


def part_of(stored: StoredIntent) -> Part:
    """One leg of an exit; what it was about is no longer known."""
    return Part(intent_of(stored), None, sent_of(stored))
