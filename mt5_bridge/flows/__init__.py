"""What the bridge does: each flow joins rooms and runs as named tasks; decisions come from `core`."""
