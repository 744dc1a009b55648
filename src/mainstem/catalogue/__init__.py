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
from mainstem.catalogue.model import Location, LocationId, PlaceDraft
from mainstem.catalogue.places import (
    InvalidPlace,
    PlaceChanges,
    PlaceFilters,
    PlaceInUse,
    PlaceNotFound,
    PlacePage,
    Places,
)

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
    "InvalidPlace",
    "Location",
    "LocationId",
    "NoOwnStreams",
    "OwnStreams",
    "PlaceChanges",
    "PlaceDraft",
    "PlaceFilters",
    "PlaceInUse",
    "PlaceNotFound",
    "PlacePage",
    "Places",
    "keep_checking",
]
