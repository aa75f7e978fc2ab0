"""The catalogue's tables, as the newest migration leaves them.

Keys are never used again (AUTOINCREMENT): the index knows hashes, vectors and local features by them, and a key that
came back with another meaning would make it lie.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    REAL,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData()

meta = Table(
    "catalog_meta",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", Text, nullable=False),
)

banks = Table(
    "banks",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("id", String(63), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("display_name", Text, nullable=False),
    Column("action", Integer, nullable=False),
    Column("thresholds", JSON, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("keep_images", Boolean, nullable=False),
    Column("entry_count", Integer, nullable=False, server_default=text("0")),
    Column("create_time", Integer, nullable=False),
    Column("update_time", Integer, nullable=False),
    Column("enabled_ratio", REAL, nullable=False, server_default=text("1")),
    Column("quarantine_false_positives", Integer, nullable=False, server_default=text("3")),
    Column("quarantine_flood", Integer, nullable=False, server_default=text("100")),
    sqlite_autoincrement=True,
)

entries = Table(
    "entries",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("id", String(64), nullable=False),
    Column("bank_key", Integer, ForeignKey("banks.key", ondelete="CASCADE"), nullable=False),
    Column("external_id", Text, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("source", Text, nullable=False),
    Column("brand", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("expire_time", Integer),
    Column("thumbnail", LargeBinary),
    Column("image", LargeBinary),
    Column("create_time", Integer, nullable=False),
    Column("update_time", Integer, nullable=False),
    Column("note", Text, nullable=False, server_default=text("''")),
    # A reason: it is quarantined. `forgiven`: how many more false positives than confirmations it had at its release.
    Column("quarantine_reason", String(16)),
    Column("quarantine_message", Text),
    Column("quarantine_time", Integer),
    Column("forgiven", Integer, nullable=False, server_default=text("0")),
    Index("entries_by_id", "bank_key", "id", unique=True),
    Index("entries_by_key", "bank_key", "key"),
    Index("entries_by_external_id", "bank_key", "external_id"),
    Index("entries_by_quarantine", "bank_key", "key", sqlite_where=text("quarantine_reason IS NOT NULL")),
    # Without those that have no source: other queries, which do not say so, never take it for one that tells more.
    Index("entries_by_source", "bank_key", "source", "key", sqlite_where=text("source <> ''")),
    Index("entries_by_expire_time", "expire_time", sqlite_where=text("expire_time IS NOT NULL")),
    sqlite_autoincrement=True,
)

hashes = Table(
    "hashes",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("entry_key", Integer, ForeignKey("entries.key", ondelete="CASCADE"), nullable=False),
    Column("bank_key", Integer, nullable=False),
    Column("type", String(16), nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("quality", Integer),
    Index("hashes_by_entry", "entry_key"),
    Index("hashes_by_value", "value", "bank_key", "type"),
    sqlite_autoincrement=True,
)

# Vectors are kept as float32, as the model gave them: the index may round them to f16, and may change its mind.
vectors = Table(
    "vectors",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("entry_key", Integer, ForeignKey("entries.key", ondelete="CASCADE"), nullable=False),
    Column("bank_key", Integer, nullable=False),
    Column("type", String(16), nullable=False),
    Column("space", String(16), nullable=False),
    Column("model", String(64), nullable=False),
    Column("data", LargeBinary, nullable=False),
    # A query's score is (cosine - mean) / deviation.
    Column("mean", REAL, nullable=False, server_default=text("0")),
    Column("deviation", REAL, nullable=False, server_default=text("1")),
    Index("vectors_by_entry", "entry_key"),
    sqlite_autoincrement=True,
)

# One row a view; `data` is as `features` encodes it.
local_features = Table(
    "local_features",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("entry_key", Integer, ForeignKey("entries.key", ondelete="CASCADE"), nullable=False),
    Column("bank_key", Integer, nullable=False),
    Column("extractor", String(64), nullable=False),
    Column("keypoints", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Index("local_features_by_entry", "entry_key"),
    sqlite_autoincrement=True,
)

# One row for an entry, a picture that it matched and who reported it.
match_reports = Table(
    "match_reports",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("entry_key", Integer, ForeignKey("entries.key", ondelete="CASCADE"), nullable=False),
    Column("bank_key", Integer, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("reporter", Text, nullable=False),
    Column("opinion", String(16), nullable=False),
    Column("note", Text, nullable=False),
    Column("time", Integer, nullable=False),
    Index("match_reports_by_place", "entry_key", "sha256", "reporter", unique=True),
    Index("match_reports_by_bank", "bank_key", "opinion", "entry_key", "sha256"),
)

# One row a change, in its own transaction; revisions have no gaps, since writers come one after the other.
changes = Table(
    "changes",
    metadata,
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(24), nullable=False),
    Column("time", Integer, nullable=False),
    # What the index must take out, which the tables no longer have: see `feed`.
    Column("detail", JSON, nullable=False),
)

requests = Table(
    "requests",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("result", JSON, nullable=False),
    Column("time", Integer, nullable=False),
    Index("requests_by_time", "time"),
)

# What a caller shows is never here: a digest of it is.
access_keys = Table(
    "access_keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("banks", JSON, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("certificate", Text),
    Column("calls_per_second", REAL),
    Column("concurrent_calls", Integer),
    Column("create_time", Integer, nullable=False),
    Column("expire_time", Integer),
    Column("revoke_time", Integer),
)

# One row an event, in the transaction of what it tells of; triggers keep rows from being changed. `hash` is of the row
# and the hash before it: see `audit`.
audit_events = Table(
    "audit_events",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("time", Integer, nullable=False),
    Column("actor", Text, nullable=False),
    Column("method", String(64), nullable=False),
    Column("resource", Text, nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Index("audit_events_by_resource", "resource", "sequence"),
)
