"""The catalogue of what is live elsewhere: listings, streamers, places, and whether they are live now."""

from mainstem.catalogue.liveness import CheckerOptions, NoOwnStreams, OwnStreams, keep_checking

__all__ = ["CheckerOptions", "NoOwnStreams", "OwnStreams", "keep_checking"]
