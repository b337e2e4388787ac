"""Runs the bridge in standard mode: everything over the backend's WebSocket, no Redpanda."""

from mt5_bridge.cli.daemon import leave, run_daemon
from mt5_bridge.cli.health import HealthChecker, validate_mt5_path

__all__ = ["HealthChecker", "validate_mt5_path"]

if __name__ == "__main__":
    leave(run_daemon("standard"))
