"""DataStream: send events, query, aggregate. Base path /v2."""

from mainstem.faces.datastream.hot import HotIngest
from mainstem.faces.datastream.routes import DataStream

__all__ = ["DataStream", "HotIngest"]
