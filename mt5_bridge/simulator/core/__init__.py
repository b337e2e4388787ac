"""The server's arithmetic, pure: matching, margin, profit, swaps, the ledger, and the rules of a request."""
