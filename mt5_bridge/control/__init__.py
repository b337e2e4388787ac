"""The WebSocket to the backend: one connection that comes back by itself, and the commands that arrive on it."""
