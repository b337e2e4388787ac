"""What the bridge does: each flow joins rooms and runs as named tasks. Decisions come from `core`, effects from rooms."""
