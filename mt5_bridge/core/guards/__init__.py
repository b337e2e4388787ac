"""Guards: each rule a function `Context -> Denial | None`, put in order by the chain. See `docs/guards.md`."""

from mt5_bridge.core.guards.chain import evaluate
from mt5_bridge.core.guards.halt import check_halt
from mt5_bridge.core.guards.reducing import reduces_risk

__all__ = ["check_halt", "evaluate", "reduces_risk"]
