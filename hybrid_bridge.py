"""Runs the bridge in hybrid mode: ticks and signals over Redpanda, commands over the backend's WebSocket."""

from mt5_bridge.cli.daemon import leave, run_daemon

if __name__ == "__main__":
    leave(run_daemon("hybrid"))
