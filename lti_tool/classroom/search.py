"""Searching people by parts of names and addresses: the words asked for, and an index of three letters each.

The index names everybody who may match; the columns decide. On SQLite it is an FTS5 table that triggers keep
right, on PostgreSQL a GIN index. A database that cannot have it is searched all the same, only slower.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    column,
    event,
    func,
    literal,
    literal_column,
    select,
    table,
    text,
)

from lti_tool.classroom.accounts import User
from lti_tool.database import among, db, fold, once

_TEXT = "{row}name_key || ' ' || {row}email_key"
# Two spaces more, so that the last letters, too, have three letters beginning with them.
_SQLITE_TEXT = _TEXT + " || '  '"
_INSERT = "INSERT INTO user_search (rowid, text) VALUES (new.id, {new})"
_DELETE = "INSERT INTO user_search (user_search, rowid, text) VALUES ('delete', old.id, {old})"
_WORDS = {"new": _SQLITE_TEXT.format(row="new."), "old": _SQLITE_TEXT.format(row="old.")}

# What makes the index; a migration has the same text.
SQLITE = [
    "CREATE VIRTUAL TABLE user_search USING fts5"
    "(text, content = '', tokenize = 'trigram case_sensitive 1', detail = none, columnsize = 0)",
    "CREATE VIRTUAL TABLE user_search_terms USING fts5vocab (user_search, row)",
    # Holds a row while somebody writes many people and will index them together.
    "CREATE TABLE user_search_pause (id INTEGER NOT NULL PRIMARY KEY)",
    'CREATE TRIGGER user_search_added AFTER INSERT ON "user"'  # noqa: S608
    " WHEN NOT EXISTS (SELECT 1 FROM user_search_pause)"
    f" BEGIN {_INSERT.format(**_WORDS)}; END",
    'CREATE TRIGGER user_search_changed AFTER UPDATE OF name_key, email_key ON "user"'
    " WHEN old.name_key <> new.name_key OR old.email_key <> new.email_key"
    f" BEGIN {_DELETE.format(**_WORDS)}; {_INSERT.format(**_WORDS)}; END",
    f'CREATE TRIGGER user_search_removed AFTER DELETE ON "user" BEGIN {_DELETE.format(**_WORDS)}; END',
]
SQLITE_FILL = (
    "INSERT INTO user_search (rowid, text)"  # noqa: S608
    f' SELECT id, {_SQLITE_TEXT.format(row="")} FROM "user" WHERE id > ?'
)
SQLITE_DROP = [
    *(f"DROP TRIGGER IF EXISTS user_search_{name}" for name in ("added", "changed", "removed")),
    *(f"DROP TABLE IF EXISTS {name}" for name in ("user_search_terms", "user_search", "user_search_pause")),
]
POSTGRESQL = """
DO $$ BEGIN
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS btree_gin;
CREATE INDEX ix_user_search ON "user" USING gin (account_id, (name_key || ' ' || email_key) gin_trgm_ops);
EXCEPTION WHEN insufficient_privilege OR undefined_file OR feature_not_supported THEN
RAISE WARNING USING MESSAGE = 'Without pg_trgm and btree_gin searching people is slow: ' || SQLERRM;
END $$
"""


@event.listens_for(User.__table__, "after_create")
def _make(target: Table, connection: Connection, **rest: Any) -> None:
    for statement in [POSTGRESQL] if connection.dialect.name == "postgresql" else SQLITE:
        connection.exec_driver_sql(statement)


@event.listens_for(User.__table__, "before_drop")
def _drop(target: Table, connection: Connection, **rest: Any) -> None:
    if connection.dialect.name == "sqlite":
        for statement in SQLITE_DROP:
            connection.exec_driver_sql(statement)


@contextmanager
def in_bulk() -> Iterator[None]:
    """Users inserted inside are indexed together at the end, which costs a fifth of one by one.

    For `insert_many`: nobody inserted inside may be changed or deleted before the end, and an error inside
    must end in a rollback, which undoes all of it. PostgreSQL needs none of this.
    """
    connection = db.session.connection()
    if connection.dialect.name == "postgresql":
        yield
        return
    # The transaction holds SQLite's one write lock, so nobody else inserts meanwhile.
    highest = connection.exec_driver_sql('SELECT coalesce(max(id), 0) FROM "user"').scalar()
    connection.exec_driver_sql("INSERT INTO user_search_pause (id) VALUES (1)")
    yield
    connection.exec_driver_sql(SQLITE_FILL, (highest,))
    connection.exec_driver_sql("DELETE FROM user_search_pause")


@dataclass(frozen=True)
class Word:
    """One of the words asked for: as names are kept, and as addresses are, which keep their accents."""

    folded: str
    plain: str


def words_of(asked: str) -> list[Word]:
    """What is looked for; who matches has every word somewhere in name or address."""
    # A longer search finds nobody else than its first words do, and would only cost.
    found = [
        Word(part, word.casefold())
        for word in asked.replace("\0", " ").split()
        for part in fold(word).split()
    ]
    return list(dict.fromkeys(found))[:_WORDS_AT_MOST]


_WORDS_AT_MOST = 8


def holds(row: Any, word: Word) -> ColumnElement[bool]:
    """Does this row (the columns of User) have the word in name or address?"""
    find = func.strpos if _on_postgresql() else func.instr
    found = (find(row.name_key, word.folded) > 0) | (find(row.email_key, word.folded) > 0)
    return found if word.plain == word.folded else found | (find(row.email_key, word.plain) > 0)


def indexed(account_id: int, asked: Sequence[Word]) -> ColumnElement[bool] | None:
    """A condition on User that the index answers: true for all who have these words, and hardly for others.

    None where the index cannot help: no three letters in a row on PostgreSQL, a letter that begins too much.
    """
    return _on_gin(account_id, asked) if _on_postgresql() else _on_trigrams(asked)


def rarely(account_id: int, asked: Sequence[Word], few: int, *, alone: bool) -> ColumnElement[bool] | None:
    """The same for words of which the index is to be asked sooner than anybody more is read past.

    For callers who hardly met them among many. SQLite's index counts who has them, up to `few`; PostgreSQL's
    cannot, so there it has to be these words `alone` that hardly anybody has.
    """
    if _on_postgresql():
        return _on_gin(account_id, asked) if alone else None
    return _on_few_trigrams(asked, few)


@contextmanager
def by_index() -> Iterator[None]:
    """What is asked inside, PostgreSQL asks the search index, however many it believes will match.

    It guesses; for a rare word taken for a frequent one it would read the whole table.
    """
    if not _on_postgresql():
        yield
        return
    db.session.execute(_PLANS, {"others": "off"})
    yield
    db.session.execute(_PLANS, {"others": "on"})


_PLANS = text(
    "SELECT set_config('enable_seqscan', :others, true), set_config('enable_indexscan', :others, true),"
    " set_config('enable_indexonlyscan', :others, true)"
)


def _on_postgresql() -> bool:
    return db.session.get_bind().dialect.name == "postgresql"


# --- PostgreSQL --------------------------------------------------------------------------


def _on_gin(account_id: int, asked: Sequence[Word]) -> ColumnElement[bool] | None:
    conditions = []
    for word in asked:
        if not (_has_trigram(word.folded) and _has_trigram(word.plain)):
            continue
        found = _GIN_TEXT.contains(word.folded, autoescape=True)
        if word.plain != word.folded:
            found |= _GIN_TEXT.contains(word.plain, autoescape=True)
        conditions.append(found)
    return and_(User.account_id == account_id, *conditions) if conditions and _gin_is_there() else None


_GIN_TEXT = cast(Any, User.name_key + literal_column("' '") + User.email_key)


def _has_trigram(word: str) -> bool:
    """Are there three letters or digits in a row? pg_trgm sees no others."""
    return any(all(c.isalnum() for c in word[i : i + 3]) for i in range(len(word) - 2))


def _gin_is_there() -> bool:
    engine = db.engine
    if engine not in _gin_seen:
        _gin_seen[engine] = bool(db.session.scalar(select(func.to_regclass("ix_user_search").is_not(None))))
        if not _gin_seen[engine]:
            logging.getLogger(__name__).warning("There is no index ix_user_search: searching people is slow.")
    return _gin_seen[engine]


_gin_seen: dict[Any, bool] = {}


# --- SQLite ------------------------------------------------------------------------------

_search = table("user_search", column("rowid"), column("user_search"))
# Of three letters that begin with one or two given ones; to ask for more costs more than to read everybody.
_TERMS_AT_MOST = 1_000
# Three letters that more people have tell hardly anybody apart, and to read all of them takes long.
_FREQUENT = 30_000
# So many threes of letters are counted, and so many of each word.
_COUNTED, _COUNTED_OF_EACH = 4, 2


def _on_trigrams(asked: Sequence[Word]) -> ColumnElement[bool] | None:
    conditions = _rare(asked)
    for word in [] if conditions else asked:
        either = [_trigrams(spelled) for spelled in _spellings(word)]
        if all(either):
            conditions.append(f"({' OR '.join(either)})")
    return User.id.in_(_matching(conditions)) if conditions else None


def _on_few_trigrams(asked: Sequence[Word], few: int) -> ColumnElement[bool] | None:
    conditions = _rare(asked)
    if not conditions:
        return None
    found = _matching(conditions)
    ids = db.session.scalars(found.limit(few + 1)).all()
    return among(User.id, ids) if len(ids) <= few else None


def _matching(conditions: Sequence[str]) -> Select[int]:
    match: ColumnElement[bool] = _search.c.user_search.op("MATCH")(" AND ".join(conditions))
    return select(_search.c.rowid).where(match)


def _rare(asked: Sequence[Word]) -> list[str]:
    """The index's query for each word by those of its threes that are not frequent, if it has any."""
    most = max(_COUNTED_OF_EACH, _COUNTED // max(len(asked), 1))
    spelled = [[_spread(_threes(one), most) for one in _spellings(word)] for word in asked]
    wanted = list(dict.fromkeys(three for word in spelled for threes in word for three in threes))
    if not wanted:
        return []
    counts = [
        select(literal(place), func.count()).select_from(
            _matching([_quoted(three)]).limit(_FREQUENT).subquery()
        )
        for place, three in enumerate(wanted)
    ]
    rows = once(
        ("threes of letters", *wanted), lambda: db.session.execute(counts[0].union_all(*counts[1:])).all()
    )
    rare = {wanted[place] for place, number in rows if number < _FREQUENT}
    kept = [[[three for three in threes if three in rare] for threes in word] for word in spelled]
    return [f"({' OR '.join(map(_all_of, word))})" for word in kept if all(word)]


def _spellings(word: Word) -> list[str]:
    return list(dict.fromkeys((word.folded, word.plain)))


def _threes(word: str) -> list[str]:
    return [word[i : i + 3] for i in range(len(word) - 2)]


def _spread(threes: list[str], most: int) -> list[str]:
    """Some of them, as far apart as can be: who has one mostly has the next, too."""
    return threes[:: -(-len(threes) // most) or 1]


def _all_of(threes: Sequence[str]) -> str:
    return f"({' AND '.join(map(_quoted, threes))})"


def _trigrams(word: str) -> str:
    """The index's query for a word; empty where there is none."""
    if len(word) >= 3:
        return _all_of(_threes(word))
    known = db.session.scalars(
        _TERMS, {"low": word, "high": word + chr(0x10FFFF), "limit": _TERMS_AT_MOST + 1}
    ).all()
    return f"({' OR '.join(map(_quoted, known or [_NOWHERE]))})" if len(known) <= _TERMS_AT_MOST else ""


# A term that no name has; one without three letters would be passed over.
_NOWHERE = "\1\1\1"
_TERMS = text("SELECT term FROM user_search_terms WHERE term >= :low AND term < :high LIMIT :limit")


def _quoted(term: str) -> str:
    return '"' + term.replace('"', '""') + '"'
