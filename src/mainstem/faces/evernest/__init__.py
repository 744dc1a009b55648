"""Evernest: push messages, pull them by number. Paths /Stream, /Source, /Right, /User, in any case."""

from mainstem.faces.evernest.hot import HotPush
from mainstem.faces.evernest.routes import Evernest

__all__ = ["Evernest", "HotPush"]
