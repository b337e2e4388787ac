"""Symbols, their hours, ticks, bars and depth: what there is to see without an account."""
