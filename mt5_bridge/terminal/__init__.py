"""The terminal: a port in asyncio terms, and the child process in which every terminal call happens."""
