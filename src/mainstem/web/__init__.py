"""Pages for people: the first page, and the interactive reference of the HTTP API. They need no other host."""

from mainstem.web.pages import Door, Web

__all__ = ["Door", "Web"]
