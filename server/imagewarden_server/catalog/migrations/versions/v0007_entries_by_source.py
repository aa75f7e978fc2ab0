"""The entries of one source are found without reading the bank."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Entries without a source are left out."""
    op.create_index("entries_by_source", "entries", ["bank_key", "source", "key"], sqlite_where=sa.text("source <> ''"))


def downgrade() -> None:
    """A listing of a source reads the bank again."""
    op.drop_index("entries_by_source", "entries")
