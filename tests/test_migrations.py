"""Migrations make what the models say, on both databases, also under rows that are there already."""

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from conftest import empty_database
from flask import Flask
from flask_migrate import downgrade, upgrade
from sqlalchemy import select, text

from lti_tool import settings
from lti_tool.classroom import accounts, directory
from lti_tool.classroom.accounts import User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.wishes import Wish
from lti_tool.database import db, new_ids
from lti_tool.sealing import fingerprint

FOLDER = str(settings.PACKAGE / "migrations")


def test_migrations_make_what_the_models_say(app: Flask) -> None:
    empty_database(app)
    with app.app_context():
        upgrade(directory=FOLDER)
        with db.engine.connect() as connection:
            options = {"compare_type": True, "include_object": is_ours}
            context = MigrationContext.configure(connection, opts=options)
            assert compare_metadata(context, db.metadata) == []


def is_ours(item: Any, name: str | None, kind: str, reflected: bool, other: Any) -> bool:
    """What is compared by the next test."""
    return not (reflected and (name or "").startswith(("user_search", "ix_user_search")))


def test_migrations_make_the_index_for_searching_people_as_the_models_do(app: Flask) -> None:
    with app.app_context():
        by_models = searching()
    empty_database(app)
    with app.app_context():
        upgrade(directory=FOLDER)
        assert searching() == by_models
    assert by_models


def searching() -> list[str]:
    """What the database says of the parts of the index, but for white space."""
    if db.engine.dialect.name == "postgresql":
        asked = "SELECT indexdef FROM pg_indexes WHERE indexname = 'ix_user_search'"
    else:
        asked = "SELECT sql FROM sqlite_master WHERE name LIKE 'user_search%' ORDER BY name"
    with db.engine.connect() as connection:
        return ["".join(row[0].split()) for row in connection.execute(text(asked)) if row[0]]


def test_people_and_their_invitations_survive_the_upgrade(app: Flask) -> None:
    empty_database(app)
    at = "2026-09-01 08:00:00+00:00"
    with app.app_context():
        upgrade(directory=FOLDER, revision="0001")
        with db.engine.begin() as connection:
            for statement in BEFORE:
                connection.execute(text(statement), {"at": at, "hash": fingerprint("the-mailed-token")})
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT setval(pg_get_serial_sequence('\"user\"', 'id'), 2)"))
        upgrade(directory=FOLDER)
    answer = app.test_client().get("/invitations/the-mailed-token", base_url="https://tool.example")
    assert answer.status_code == 200, answer.text
    assert "Khai Nguyen" in answer.text
    with app.app_context():
        account = accounts.find_account("linden")
        assert account is not None
        found = directory.find_people(account.id, Wish(search="uye"))
        assert [user.name for user in found.users] == ["Khai Nguyen"]
        assert [user.name for user in directory.find_people(account.id, Wish()).users] == ["Khai Nguyen"]
        assert db.session.scalars(select(AuditEvent.course_id).order_by(AuditEvent.id)).all() == [7, 7, None]
        db.session.rollback()
        # A number that was somebody's is never given again.
        db.session.execute(text('DELETE FROM "user" WHERE id = 2'))
        assert accounts.add_user(account.id, name="Nina").id > 2
        assert new_ids(User.__table__, 1)[0] > 3
        db.session.rollback()
        downgrade(directory=FOLDER, revision="0001")
        with db.engine.connect() as connection:
            kept = connection.execute(text("SELECT token_hash FROM invitation")).scalars().all()
        assert kept == [fingerprint("the-mailed-token")]
        upgrade(directory=FOLDER)


# As version 0.1 wrote them: an invited person, and a preview account that is on no list.
BEFORE = [
    "INSERT INTO account (id, slug, name, locale, timezone, instructors_invite, created_at)"
    " VALUES (1, 'linden', 'Linden', 'en', 'UTC', false, :at)",
    *(
        'INSERT INTO "user" (id, account_id, name, name_key, email, email_key, mailbox_proven, name_by_hand,'
        " role, status, is_test, locale, timezone, created_at)"
        f" VALUES ({number}, 1, '{name}', lower('{name}'), '', 'khai{number}@example.org', true, false,"
        f" 'student', 'pending', {is_test}, '', '', :at)"
        for number, name, is_test in ((1, "Khai Nguyen", "false"), (2, "Preview Nguyen", "true"))
    ),
    "INSERT INTO invitation (id, account_id, user_id, token_hash, created_at, sent_at, expires_at)"
    " VALUES (1, 1, 1, :hash, :at, :at, '2999-01-01 00:00:00+00:00')",
    *(
        "INSERT INTO audit_event (account_id, at, source, action, target, after)"
        f" VALUES (1, :at, '', 'course.added', '{target}', '{after}')"
        for target, after in (("course:7", "{}"), ("user:1", '{"course"\\: 7}'), ("user:1", "null"))
    ),
]


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
