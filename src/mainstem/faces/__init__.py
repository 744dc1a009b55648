"""The doors: one thin adapter for each API."""
