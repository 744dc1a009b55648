"""DataStream: send events, query, aggregate. Base path /v2."""

from mainstem.faces.datastream.hot import hot_protocol
from mainstem.faces.datastream.routes import DataStream

__all__ = ["DataStream", "hot_protocol"]
