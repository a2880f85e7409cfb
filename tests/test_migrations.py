"""Migrations make what the models say, on both databases, also under rows that are there already."""

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from conftest import empty_database
from flask import Flask
from flask_migrate import downgrade, upgrade

from lti_tool import settings
from lti_tool.classroom import accounts
from lti_tool.database import db

FOLDER = str(settings.PACKAGE / "migrations")


def test_migrations_make_what_the_models_say(app: Flask) -> None:
    empty_database(app)
    with app.app_context():
        upgrade(directory=FOLDER)
        with db.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, db.metadata) == []


def test_rows_survive_the_way_down_and_up_again(app: Flask) -> None:
    empty_database(app)
    with app.app_context():
        upgrade(directory=FOLDER)
        accounts.add_account("kept", "Kept")
        db.session.commit()
        upgrade(directory=FOLDER)
        assert accounts.find_account("kept") is not None
        db.session.rollback()
        downgrade(directory=FOLDER, revision="base")
        upgrade(directory=FOLDER)
        assert accounts.find_account("kept") is None


def test_a_database_without_the_newest_migration_is_not_ready(app: Flask) -> None:
    empty_database(app)
    client = app.test_client()
    assert client.get("/health/ready").status_code == 503
    with app.app_context():
        upgrade(directory=FOLDER)
    answer = client.get("/health/ready")
    assert answer.status_code == 200, answer.json
    assert answer.json == {"ready": True, "database": True, "migrations": True, "queue": True}
    assert client.get("/health/live").status_code == 200
