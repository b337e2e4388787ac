"""The composition root: opens the rooms, runs the flows, stops in order. The only place that knows everyone."""

from mt5_bridge.app.run import run_bridge

__all__ = ["run_bridge"]
