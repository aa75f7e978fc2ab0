"""The catalogue: banks, entries, signals, vectors and revisions in SQL. It is the truth; the index is a cache of it."""

from imagewarden_server.catalog.errors import CatalogError
from imagewarden_server.catalog.store import SqlCatalog

__all__ = ["CatalogError", "SqlCatalog"]
