"""The demo: embedded broker, reference backend, demo signals, and all of it in one command."""
