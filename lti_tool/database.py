"""The database: Base for every table, `db`, the one clock, times in UTC, and how transactions begin."""

import json
import sqlite3
import unicodedata
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from itertools import repeat
from typing import Any, cast

import psycopg
from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import DateTime, Dialect, Engine, MetaData, any_, bindparam, event, func, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Session, registry
from sqlalchemy.types import TypeDecorator

# tests move this one clock
clock: Callable[[], datetime] = lambda: datetime.now(UTC)  # noqa: E731


def now() -> datetime:
    """The time, aware and in UTC. Nothing in the project asks another clock."""
    return clock()


class UTCDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime on every database (SQLite would hand back a naive one)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("A naive datetime reached the database.")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Every table inherits this; constraints get names, so that migrations can change them."""

    registry = registry(
        metadata=MetaData(
            naming_convention={
                "ix": "ix_%(table_name)s_%(column_0_N_name)s",
                "uq": "uq_%(table_name)s_%(column_0_N_name)s",
                "ck": "ck_%(table_name)s_%(constraint_name)s",
                "fk": "fk_%(table_name)s_%(column_0_N_name)s",
                "pk": "pk_%(table_name)s",
            }
        ),
        type_annotation_map={datetime: UTCDateTime},
    )


db = SQLAlchemy(model_class=Base)

_reading: ContextVar[bool] = ContextVar("reading", default=False)


@contextmanager
def read_only() -> Iterator[None]:
    """Transactions begun inside only read, so on SQLite they need not wait for writers."""
    token = _reading.set(True)
    try:
        yield
    finally:
        _reading.reset(token)


def begin_reading(reading: bool) -> None:
    """Say whether this request only reads (see `read_only`)."""
    _reading.set(reading)


def once(name: Hashable, find: Callable[[], Any]) -> Any:
    """What `find` answers, asked once in a transaction that only reads: there it stays the same."""
    if not _reading.get():
        return find()
    answers: dict[Hashable, Any] = db.session.info.setdefault("answers", {})
    if name not in answers:
        answers[name] = find()
    return answers[name]


def insert(table: Any) -> Any:
    """`INSERT` with `on_conflict_do_…`, in the dialect of the database in use."""
    dialect = db.session.get_bind().dialect.name
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def among(column: Any, values: Collection[Any]) -> Any:
    """`column` is one of many values, which go as one parameter: the statement does not grow with them."""
    if db.session.get_bind().dialect.name == "postgresql":
        return column == any_(bindparam(None, list(values), type_=postgresql.ARRAY(column.type)))
    each = func.json_each(json.dumps(list(values))).table_valued("value")
    return column.in_(select(each.c.value))


def new_ids(table: Any, count: int) -> Sequence[int]:
    """Ids for `count` rows that this transaction will insert.

    Many rows whose ids are known go in with one statement; with RETURNING, SQLite takes one for each.
    """
    if db.session.get_bind().dialect.name == "postgresql":
        drawn = "SELECT nextval(pg_get_serial_sequence(:table, 'id')) FROM generate_series(1, :count)"
        return db.session.scalars(text(drawn), {"table": f'"{table.name}"', "count": count}).all()
    # The transaction holds SQLite's one write lock, so nobody else takes them.
    if table.dialect_options["sqlite"]["autoincrement"]:
        # What was deleted had ids that are nobody's again.
        given = text("SELECT seq FROM sqlite_sequence WHERE name = :table")
        highest = db.session.scalar(given, {"table": table.name}) or 0
    else:
        highest = db.session.scalar(select(func.max(table.c.id))) or 0
    return range(highest + 1, highest + 1 + count)


def insert_many(table: Any, each: Mapping[str, Sequence[Any]], every: Mapping[str, Any]) -> None:
    """Insert rows past mapper and compiler, which would look at each of them.

    `each` has a column's value for every row, `every` one value for all; where a column's default is a plain
    value it may be left out. The driver takes tuples: SQLite in one executemany, PostgreSQL by COPY (rows
    sent one by one cost it several times as much).
    """
    connection = db.session.connection()
    dialect = connection.dialect
    plain = {c.name: c.default.arg for c in table.c if c.default is not None and c.default.is_scalar}
    same = {name: value for name, value in {**plain, **every}.items() if name not in each}
    columns = [_bound(table.c[name], values, dialect) for name, values in each.items()]
    columns += [repeat(_bound(table.c[name], [value], dialect)[0]) for name, value in same.items()]
    # The endless columns come last, and zip stops at the first that is not.
    rows = zip(*columns, strict=False)
    names = ", ".join(f'"{name}"' for name in (*each, *same))
    driver: Any = connection.connection.driver_connection
    try:
        if dialect.name == "postgresql":
            with driver.cursor() as cursor, cursor.copy(f'COPY "{table.name}" ({names}) FROM STDIN') as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            marks = ", ".join("?" * len(columns))
            driver.executemany(f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})', rows)  # noqa: S608
    except (psycopg.Error, sqlite3.Error) as error:
        # As SQLAlchemy would have raised it: callers know its IntegrityError.
        kind = psycopg.Error if isinstance(error, psycopg.Error) else sqlite3.Error
        raise DBAPIError.instance(table.name, None, error, kind, dialect=dialect) from error


def _bound(column: Any, values: Sequence[Any], dialect: Dialect) -> Any:
    """A column's values as the driver takes them; an object that stands in many rows is made once."""
    process = column.type.dialect_impl(dialect).bind_processor(dialect)
    if process is None:
        return values
    made: dict[int, Any] = {}
    for value in values:
        if id(value) not in made:
            made[id(value)] = process(value)
    return [made[id(value)] for value in values]


def ring(bell: str) -> None:
    """Ask that the worker be woken for `bell` once, and only if, this transaction commits."""
    db.session.info.setdefault("bells", set()).add(bell)


def _after_commit(session: Session) -> None:
    session.info.pop("answers", None)
    # jobs.py hangs the bells up. The rows written in the transaction are the work.
    doorbells: dict[str, Callable[[], None]] = current_app.extensions.get("doorbells", {})
    for bell in session.info.pop("bells", ()):
        if bell in doorbells:
            doorbells[bell]()


def _after_rollback(session: Session) -> None:
    session.info.pop("bells", None)
    session.info.pop("answers", None)


def is_id(number: int) -> bool:
    """Can a row have this id? A larger number, as a form may hold, the databases would not even take."""
    return 0 < number < 2**31


def fold(text: str) -> str:
    """Text as it is searched and sorted: accents off, case folded, spaces single, no NUL (PostgreSQL)."""
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(text.casefold().replace("\0", " ").split())


def init_app(app: Flask) -> None:
    """Connect `app` to its database and make SQLite as strict as PostgreSQL."""
    app.config["SQLALCHEMY_DATABASE_URI"] = app.config["DATABASE_URL"]
    # A file does not hang up.
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "pool_pre_ping": not app.config["DATABASE_URL"].startswith("sqlite"),
        # An error goes to the log; names and addresses do not.
        "hide_parameters": True,
    }
    db.init_app(app)
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            _prepare_sqlite(db.engine)


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connect(connection: Any, record: Any) -> None:
        # We say BEGIN ourselves: sqlite3's own rules begin too late for repeatable reads.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA busy_timeout = 15000")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        # A transaction that reads first and writes later fails with "database is locked" when
        # another wrote in between; taking the write lock at the start waits instead.
        connection.exec_driver_sql("BEGIN" if _reading.get() else "BEGIN IMMEDIATE")


event.listen(cast(Any, db.session), "after_commit", _after_commit)
event.listen(cast(Any, db.session), "after_rollback", _after_rollback)
