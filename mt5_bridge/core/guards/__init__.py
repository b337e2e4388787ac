"""Guards: each rule a function `Context -> Denial | None`, put in order by the chain. See `docs/guards.md`."""

from mt5_bridge.core.guards.chain import early, evaluate
from mt5_bridge.core.guards.halt import check_halt
from mt5_bridge.core.guards.reducing import reduces_risk

__all__ = ["check_halt", "early", "evaluate", "reduces_risk"]
