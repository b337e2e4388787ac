"""Runs the bridge in standard mode: everything over the backend's WebSocket, no Redpanda."""

import sys

from mt5_bridge.cli.daemon import entry
from mt5_bridge.cli.health import HealthChecker, validate_mt5_path

__all__ = ["HealthChecker", "validate_mt5_path"]

if __name__ == "__main__":
    entry("standard", sys.argv[1:])
