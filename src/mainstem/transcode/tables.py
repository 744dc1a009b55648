"""How jobs and the segments they made are kept as rows."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

metadata = MetaData()

jobs = Table(
    "transcode_jobs",
    metadata,
    Column("number", Integer, primary_key=True),  # the order in which they were accepted
    Column("id", Text, nullable=False, unique=True),  # a UUID, version 4
    Column("owner", Integer),  # the account that sent it; null: somebody, while nobody had to sign in
    Column("track_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("progress", Float, nullable=False),  # percent; never falls
    Column("created_us", BigInteger, nullable=False),
    Column("started_us", BigInteger),
    Column("completed_us", BigInteger),
    Column("error", Text),
    Column("attempt", Integer, nullable=False),  # 0: none has begun
    Column(
        "run", Integer, nullable=False
    ),  # how often one began, also such as were given back; names its output's folder
    Column("request", LargeBinary, nullable=False),  # JSON of an Order
    Column("media", LargeBinary, nullable=False),  # JSON of a Media: what the probe found
    Column("loudness", LargeBinary),  # JSON of a Loudness
    Column("rungs", LargeBinary, nullable=False),  # JSON of what is made of it: a list of Rung
    Column("source_bytes", BigInteger, nullable=False),
    Column("source_sha256", LargeBinary, nullable=False),
    Column("cover", Text),  # the media type of the cover; null: there is none
    Column("has_waveform", Boolean, nullable=False),
    Column("removed_us", BigInteger),  # somebody deleted it, and it only waits for its files to go; null: it is there
    Column("tidy", Boolean, nullable=False),  # it is final, and no file is left that need not be
    Index("transcode_jobs_by_owner", "owner", "number"),
    Index("transcode_jobs_by_track", "track_id", "number"),
    Index("transcode_jobs_by_state", "state", "completed_us"),
    Index("transcode_jobs_untidy", "completed_us", sqlite_where=text("tidy = 0 AND completed_us IS NOT NULL")),
    sqlite_autoincrement=True,
)

segments = Table(
    "transcode_segments",
    metadata,
    Column("job", Integer, ForeignKey("transcode_jobs.number", ondelete="CASCADE"), primary_key=True),
    Column("rung", Integer, primary_key=True),  # its place among the job's rungs
    Column("number", Integer, primary_key=True),  # 1 and up; 0 is the initialisation section
    Column("run", Integer, nullable=False),  # which run made it: it lies under that run's prefix
    Column("ticks", BigInteger, nullable=False),  # how long it lasts, in samples at the rung's rate
    Column("bytes", Integer, nullable=False),
)
"""Those of the run that is under way or was published, and while one catches up with an earlier run that died, what it
has not made again yet: so a playlist that players follow never loses a segment."""
