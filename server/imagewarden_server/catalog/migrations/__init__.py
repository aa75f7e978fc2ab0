"""The catalogue's migrations, by Alembic."""
