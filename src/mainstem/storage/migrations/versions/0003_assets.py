"""Jobs that turn audio files into HLS, and the segments they made."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "transcode_jobs",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("owner", sa.Integer),
        sa.Column("track_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("progress", sa.Float, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("started_us", sa.BigInteger),
        sa.Column("completed_us", sa.BigInteger),
        sa.Column("error", sa.Text),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("media", sa.LargeBinary, nullable=False),
        sa.Column("loudness", sa.LargeBinary),
        sa.Column("rungs", sa.LargeBinary, nullable=False),
        sa.Column("source_bytes", sa.BigInteger, nullable=False),
        sa.Column("source_sha256", sa.LargeBinary, nullable=False),
        sa.Column("cover", sa.Text),
        sa.Column("has_waveform", sa.Boolean, nullable=False),
        sa.Column("removed_us", sa.BigInteger),
        sa.Column("tidy", sa.Boolean, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("transcode_jobs_by_owner", "transcode_jobs", ["owner", "number"])
    op.create_index("transcode_jobs_by_track", "transcode_jobs", ["track_id", "number"])
    op.create_index("transcode_jobs_by_state", "transcode_jobs", ["state", "completed_us"])
    op.create_index(
        "transcode_jobs_untidy",
        "transcode_jobs",
        ["completed_us"],
        sqlite_where=sa.text("tidy = 0 AND completed_us IS NOT NULL"),
    )
    op.create_table(
        "transcode_segments",
        sa.Column("job", sa.Integer, sa.ForeignKey("transcode_jobs.number", ondelete="CASCADE"), primary_key=True),
        sa.Column("rung", sa.Integer, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("ticks", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
    )
