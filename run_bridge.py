"""Runs the bridge in standard mode: everything over the backend's WebSocket, no Redpanda."""

from mt5_bridge.cli.interrupts import start

if __name__ == "__main__":
    start("standard")
else:
    from mt5_bridge.cli.health import HealthChecker, validate_mt5_path

    __all__ = ["HealthChecker", "validate_mt5_path"]
