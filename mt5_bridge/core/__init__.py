"""Pure decisions and the types in which the rooms talk to each other: no clock, no I/O, no asyncio."""
