"""The bridge over HTTP, in the daemon's loop: REST, WebSocket, metrics. Loaded only where GATEWAY_ENABLED is set."""
