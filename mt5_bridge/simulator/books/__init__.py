"""Accounts and markets on disk, or in memory: whole after a kill at any moment."""
