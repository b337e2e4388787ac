"""`python -m mt5_bridge`."""

from mt5_bridge.cli import entry

if __name__ == "__main__":
    entry()
