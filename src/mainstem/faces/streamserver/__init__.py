"""stream-server: audio files in, HLS out. Paths under /v1/stream."""

from mainstem.faces.streamserver.access import AUDIENCE, ISSUER, Access
from mainstem.faces.streamserver.hot import HotSegment
from mainstem.faces.streamserver.routes import StreamServer, cors_of

__all__ = ["AUDIENCE", "ISSUER", "Access", "HotSegment", "StreamServer", "cors_of"]
