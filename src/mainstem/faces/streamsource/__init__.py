"""StreamSource: a catalogue of live streams elsewhere. Paths /api/v1, /cable, /api-docs, /swagger."""

from mainstem.faces.streamsource.cable import Cable
from mainstem.faces.streamsource.context import Context
from mainstem.faces.streamsource.feed import FeedFace
from mainstem.faces.streamsource.routes import StreamSource
from mainstem.faces.streamsource.throttle import Throttle

__all__ = ["Cable", "Context", "FeedFace", "StreamSource", "Throttle"]
