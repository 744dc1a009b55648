"""The catalogue of what is live elsewhere: listings, streamers, places, and whether they are live now."""
