"""The trade server: judges requests, fills orders, and does what ticks and midnights do to an account."""
