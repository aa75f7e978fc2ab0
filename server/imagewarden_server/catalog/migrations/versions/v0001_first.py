"""The first schema."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables and the catalogue's own id."""
    op.create_table(
        "catalog_meta",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "banks",
        sa.Column("key", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(63), nullable=False, unique=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("action", sa.Integer, nullable=False),
        sa.Column("thresholds", sa.JSON, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("keep_images", sa.Boolean, nullable=False),
        sa.Column("entry_count", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("create_time", sa.Integer, nullable=False),
        sa.Column("update_time", sa.Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "entries",
        sa.Column("key", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("bank_key", sa.Integer, sa.ForeignKey("banks.key", ondelete="CASCADE"), nullable=False),
        sa.Column("external_id", sa.Text, nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("brand", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("expire_time", sa.Integer),
        sa.Column("thumbnail", sa.LargeBinary),
        sa.Column("image", sa.LargeBinary),
        sa.Column("create_time", sa.Integer, nullable=False),
        sa.Column("update_time", sa.Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("entries_by_id", "entries", ["bank_key", "id"], unique=True)
    op.create_index("entries_by_external_id", "entries", ["bank_key", "external_id"])
    op.create_index(
        "entries_by_expire_time", "entries", ["expire_time"], sqlite_where=sa.text("expire_time IS NOT NULL")
    )
    op.create_table(
        "hashes",
        sa.Column("key", sa.Integer, primary_key=True),
        sa.Column("entry_key", sa.Integer, sa.ForeignKey("entries.key", ondelete="CASCADE"), nullable=False),
        sa.Column("bank_key", sa.Integer, nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("quality", sa.Integer),
        sqlite_autoincrement=True,
    )
    op.create_index("hashes_by_entry", "hashes", ["entry_key"])
    op.create_index("hashes_by_value", "hashes", ["value", "bank_key", "type"])
    op.create_table(
        "vectors",
        sa.Column("key", sa.Integer, primary_key=True),
        sa.Column("entry_key", sa.Integer, sa.ForeignKey("entries.key", ondelete="CASCADE"), nullable=False),
        sa.Column("bank_key", sa.Integer, nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("space", sa.String(16), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("vectors_by_entry", "vectors", ["entry_key"])
    op.create_table(
        "changes",
        sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(24), nullable=False),
        sa.Column("time", sa.Integer, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
    )
    requests = op.create_table(
        "requests",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("result", sa.JSON, nullable=False),
        sa.Column("time", sa.Integer, nullable=False),
    )
    op.create_index("requests_by_time", requests.name, ["time"])
    meta = sa.table("catalog_meta", sa.column("name", sa.String), sa.column("value", sa.String))
    op.bulk_insert(meta, [{"name": "id", "value": uuid.uuid4().hex}])


def downgrade() -> None:
    """There is nothing before it."""
    for table in ("requests", "changes", "vectors", "hashes", "entries", "banks", "catalog_meta"):
        op.drop_table(table)
