"""Copies' embeddings are held against a background: their thresholds have another unit."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Thresholds on plain cosine similarities go: a threshold that is not stored is the kind's default."""
    op.execute("UPDATE banks SET thresholds = json_remove(thresholds, '$.embedding') WHERE kind <> 'brand'")


def downgrade() -> None:
    """The same the other way: what was set since has the new unit."""
    op.execute("UPDATE banks SET thresholds = json_remove(thresholds, '$.embedding') WHERE kind <> 'brand'")
