"""Local features, the normalisation of vectors' scores, and an index for the pages of a listing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Vectors that are there get a normalisation that changes nothing."""
    op.add_column("vectors", sa.Column("mean", sa.REAL, nullable=False, server_default=sa.text("0")))
    op.add_column("vectors", sa.Column("deviation", sa.REAL, nullable=False, server_default=sa.text("1")))
    op.create_table(
        "local_features",
        sa.Column("key", sa.Integer, primary_key=True),
        sa.Column("entry_key", sa.Integer, sa.ForeignKey("entries.key", ondelete="CASCADE"), nullable=False),
        sa.Column("bank_key", sa.Integer, nullable=False),
        sa.Column("extractor", sa.String(64), nullable=False),
        sa.Column("keypoints", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("local_features_by_entry", "local_features", ["entry_key"])
    op.create_index("entries_by_key", "entries", ["bank_key", "key"])
    # What was a cosine similarity is a number of standard deviations now: the old number would let everything pass. A
    # threshold that is not stored is the kind's default.
    op.execute("UPDATE banks SET thresholds = json_remove(thresholds, '$.embedding') WHERE kind = 'brand'")


def downgrade() -> None:
    """Local features and normalisations are lost."""
    op.drop_index("entries_by_key", "entries")
    op.drop_table("local_features")
    op.drop_column("vectors", "deviation")
    op.drop_column("vectors", "mean")
