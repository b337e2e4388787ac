"""The WebSocket hub: what the bridge tells, told to many clients, and their commands taken."""
