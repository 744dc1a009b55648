"""The catalogue of what is live elsewhere: listings, streamers, places, and whether they are live now."""

from mainstem.catalogue.flags import (
    ACTOR,
    ANALYTICS,
    BULK_IMPORT,
    EXPORT,
    LOCATION_VALIDATION,
    MAINTENANCE,
    TAGS,
    Feature,
    FeatureOff,
    Flags,
    Gate,
    Group,
)
from mainstem.catalogue.liveness import CheckerOptions, NoOwnStreams, OwnStreams, keep_checking

__all__ = [
    "ACTOR",
    "ANALYTICS",
    "BULK_IMPORT",
    "EXPORT",
    "LOCATION_VALIDATION",
    "MAINTENANCE",
    "TAGS",
    "CheckerOptions",
    "Feature",
    "FeatureOff",
    "Flags",
    "Gate",
    "Group",
    "NoOwnStreams",
    "OwnStreams",
    "keep_checking",
]
