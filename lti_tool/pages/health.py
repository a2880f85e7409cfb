"""Is it alive, and is it ready? For load balancers and operators."""

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Blueprint, Response, current_app, jsonify
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from lti_tool import settings
from lti_tool.database import db

pages = Blueprint("health", __name__)


@pages.get("/health/live")
def live() -> Response:
    """The process answers."""
    return jsonify(live=True)


@pages.get("/health")
@pages.get("/health/ready")
def ready() -> tuple[Response, int]:
    """200 only when database, migrations and queue are in order."""
    checks = {"database": _database(), "migrations": _migrations(), "queue": _queue()}
    return jsonify(ready=all(checks.values()), **checks), 200 if all(checks.values()) else 503


def _database() -> bool:
    try:
        db.session.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return False
    return True


def _migrations() -> bool:
    newest = ScriptDirectory(str(settings.PACKAGE / "migrations")).get_current_head()
    try:
        return MigrationContext.configure(db.session.connection()).get_current_revision() == newest
    except SQLAlchemyError:
        return False


def _queue() -> bool:
    try:
        current_app.extensions["huey"].pending_count()
    except (RedisError, OSError):
        return False
    return True
