"""Runs the bridge in hybrid mode: ticks and signals over Redpanda, commands over the backend's WebSocket."""

import sys

from mt5_bridge.cli.daemon import entry

if __name__ == "__main__":
    entry("hybrid", sys.argv[1:])
