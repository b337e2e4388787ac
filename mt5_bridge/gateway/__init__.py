"""The gateway: REST and WebSocket for people and services on and near the trading PC, inside the daemon."""
