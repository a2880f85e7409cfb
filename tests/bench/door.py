"""The door's decision alone, as a WSGI application: one route that asks `access.room_gate`."""

import os
from typing import Any

from flask import Flask
from sqlalchemy import event

from lti_tool import database, settings
from lti_tool.classroom import access
from lti_tool.classroom.accounts import User
from lti_tool.classroom.courses import Course
from lti_tool.database import db
from lti_tool.pages import words

from .floors import QUERIES

app = Flask("door")
settings.load(app.config, {})
database.init_app(app)
words.init_app(app)
asked: list[str] = []


def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
    """Count what is asked, apart from the transaction's own words."""
    if not statement.startswith("BEGIN"):
        asked.append(statement)


with app.app_context():
    # Who stands at which door; a page has loaded both before it asks.
    user = db.session.get_one(User, int(os.environ["BENCH_USER"]))
    course = db.session.get_one(Course, int(os.environ["BENCH_COURSE"]))
    db.session.expunge_all()
    event.listen(db.engine, "before_cursor_execute", note)
    db.session.remove()
    db.engine.dispose()


@app.get("/")
def decide() -> tuple[str, dict[str, str]]:
    """The gate's name."""
    asked.clear()
    database.begin_reading(True)
    gate = access.room_gate(user, course)
    return gate.name, {QUERIES: str(len(asked))}
