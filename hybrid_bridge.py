"""Runs the bridge in hybrid mode: ticks and signals over Redpanda, commands over the backend's WebSocket."""

from mt5_bridge.cli.interrupts import start

if __name__ == "__main__":
    start("hybrid")
