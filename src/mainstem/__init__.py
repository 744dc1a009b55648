"""mainstem: one server for streams of every kind."""

__version__ = "0.1.0"
