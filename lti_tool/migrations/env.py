"""How Alembic reaches the database: through the application that runs it."""

from typing import Any

from alembic import context
from flask import current_app
from sqlalchemy import Connection

from lti_tool.database import UTCDateTime, db


def render(kind: str, item: Any, autogen_context: Any) -> str | bool:
    """Migrations outlive our classes: write the plain type."""
    if kind == "type" and isinstance(item, UTCDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def is_ours(item: Any, name: str | None, kind: str, reflected: bool, other: Any) -> bool:
    """Models know nothing of the index by which people are searched (classroom/search.py)."""
    return not (reflected and (name or "").startswith(("user_search", "ix_user_search")))


def migrate(connection: Connection) -> None:
    """Run the migrations in one transaction."""
    sqlite = connection.dialect.name == "sqlite"
    if sqlite:
        # Changing a table on SQLite copies and drops it; with foreign keys on, the drop would delete
        # every row that points there.
        _enforce_foreign_keys(connection, "OFF")
    context.configure(
        connection=connection,
        target_metadata=db.metadata,
        render_item=render,
        include_object=is_ours,
        render_as_batch=True,
        compare_type=True,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()
        if sqlite:
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
            if broken is not None:
                raise RuntimeError(f"A migration left a row of {broken[0]} without its parent.")
    if sqlite:
        connection.rollback()
        _enforce_foreign_keys(connection, "ON")


def _enforce_foreign_keys(connection: Connection, state: str) -> None:
    # Past SQLAlchemy, which would begin a transaction; inside one SQLite ignores this.
    driver: Any = connection.connection.driver_connection
    driver.execute(f"PRAGMA foreign_keys = {state}")


if context.is_offline_mode():
    context.configure(url=current_app.config["DATABASE_URL"], target_metadata=db.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    with db.engine.connect() as opened:
        migrate(opened)
