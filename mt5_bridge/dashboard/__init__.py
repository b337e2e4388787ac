"""A page to watch a bridge and to stop it from: a process of its own, a client of the gateway or of a backend."""
