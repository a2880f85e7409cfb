"""The users page over a million people: what its statements take, beside LIKE and OFFSET in the same run.

One account has 900,000 of them, a hundred others 1,000 each. The page's own statements are recorded and then
asked again of the bare driver, so that the figure is the database's part: its processor time, on one core,
which is what a quiet machine takes, where waiting tells who else was there.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from flask import Flask
from sqlalchemy import event, func, select

from lti_tool.classroom import accounts, courses, directory, search, wishes
from lti_tool.classroom.accounts import Role, Status, User
from lti_tool.classroom.courses import Enrollment, Source
from lti_tool.classroom.directory import Wish
from lti_tool.classroom.wishes import Order, Standing
from lti_tool.database import db, fold, insert_many, now, read_only

from .measuring import Line, processor_seconds
from .stage import kinds, make_app, new_database, settings_for

LARGE, SMALL, SMALL_ACCOUNTS = 900_000, 1_000, 100
# (list, search, worst case) in milliseconds.
GOALS = {"sqlite": (2, 25, 100), "postgresql": (3, 60, 200)}
# Of a page of 30,000 who are in one course.
HALL = {"sqlite": 10, "postgresql": 60}
# Seconds for which the same page is asked again and again; the fastest counts.
ENOUGH = 1.0
# One in so many is called something that the alphabet puts last.
CLUSTERED = 40
_SYLLABLES = [first + second for first in "bdfklmnrs" for second in "aeio"]
_HAN = "李王张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗"
_GIVEN = "伟芳娜秀英敏静丽强磊军洋勇艳杰娟涛明超兰霞平刚桂思远"


def measure(folder: Path, rounds: int) -> Iterator[Line]:
    """On each database in turn."""
    with ExitStack() as stack:
        for kind in kinds():
            database = stack.enter_context(new_database(kind, folder, "people"))
            app = make_app(settings_for(database, folder))
            with app.app_context():
                ids = _populate(kind)
                stage = _Stage(app, kind, ids, max(rounds, 3))
                yield from _lists(stage)
                yield from _searches(stage)
                yield from _small_account(stage)
                db.session.remove()
                db.engine.dispose()


# --- the people --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ids:
    large: int
    small: int
    # A course of 300 people, and one of 30,000.
    course: int
    hall: int


def _names(count: int) -> Iterator[str]:
    chance = random.Random(1)
    first = [
        "".join(chance.choices(_SYLLABLES, k=2)).capitalize() + chance.choice("nrst") for _ in range(700)
    ]
    last = ["".join(chance.choices(_SYLLABLES, k=3)).capitalize() for _ in range(9_000)]
    often = [1 / (place + 4) ** 0.7 for place in range(len(last))]
    firsts, lasts = chance.choices(first, k=count), chance.choices(last, often, k=count)
    for number in range(count):
        if number % CLUSTERED == 7:
            yield f"Zyta {lasts[number]}"
        elif number % 20 == 3:
            yield chance.choice(_HAN) + "".join(chance.choices(_GIVEN, k=1 + number % 2))
        else:
            yield f"{firsts[number]} {lasts[number]}"


def _populate(kind: str) -> _Ids:
    large = accounts.add_account("large", "Large University")
    small = [accounts.add_account(f"small-{number}", f"School {number}") for number in range(SMALL_ACCOUNTS)]
    course, hall = (courses.add_course(large.id, name) for name in ("Geology", "Study skills"))
    sizes = [(large.id, LARGE), *((account.id, SMALL) for account in small)]
    owners = (account for account, size in sizes for _ in range(size))
    names, begun = _names(LARGE + SMALL * SMALL_ACCOUNTS), now()
    done = 0
    while chunk := [(owner, name) for owner, name, _ in zip(owners, names, range(100_000), strict=False)]:
        numbers = range(done + 1, done + len(chunk) + 1)
        mails = [_mail(number, name) for number, (_, name) in zip(numbers, chunk, strict=True)]
        with search.in_bulk():
            insert_many(
                User.__table__,
                {
                    "id": numbers,
                    "account_id": [owner for owner, _ in chunk],
                    "name": [name for _, name in chunk],
                    "name_key": [fold(name) for _, name in chunk],
                    "email": mails,
                    "email_key": mails,
                    "role": [Role.STUDENT if n % 90 else Role.INSTRUCTOR for n in numbers],
                    "status": [Status.REGISTERED if n % 30 else Status.PENDING for n in numbers],
                    "last_seen_at": [
                        begun - timedelta(seconds=n * 7 % 10**6) if n % 4 else None for n in numbers
                    ],
                },
                {"created_at": begun},
            )
        done += len(chunk)
        db.session.commit()
    chance = random.Random(2)
    for where, size in ((course.id, 300), (hall.id, 30_000)):
        insert_many(
            Enrollment.__table__,
            {"user_id": chance.sample(range(1, LARGE), size)},
            {
                "account_id": large.id,
                "course_id": where,
                "role": Role.STUDENT,
                "source": Source.MANUAL,
                "since": begun,
            },
        )
    ids = _Ids(large.id, small[-1].id, course.id, hall.id)
    db.session.commit()
    if kind == "postgresql":
        # As autovacuum has it soon.
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    return ids


def _mail(number: int, name: str) -> str:
    told = fold(name).replace(" ", ".")
    return f"{told if told.isascii() else 's'}{number % 997}@students.large.example"


# --- what is asked -----------------------------------------------------------------------


class _Stage:
    """A database full of people, and how long it takes to answer."""

    def __init__(self, app: Flask, kind: str, ids: _Ids, rounds: int) -> None:
        self.kind, self.ids, self.rounds = kind, ids, rounds
        self.goals = GOALS[kind]
        self._heard: list[tuple[str, Any]] = []
        event.listen(db.engine, "before_cursor_execute", lambda *told: self._heard.append((told[2], told[3])))

    def ours(self, wish: Wish, account: int = 0) -> float:
        """Milliseconds of processor time for the statements of a page, database and driver."""
        self._heard.clear()
        with read_only():
            directory.find_people(account or self.ids.large, wish)
            db.session.rollback()
        asked = [one for one in self._heard if not one[0].startswith("BEGIN")]
        return self._time(lambda cursor: [cursor.execute(*one).fetchall() for one in asked])

    def peer(self, wish: Wish, account: int = 0, offset: int = 0) -> float:
        """Milliseconds for the same page by LIKE and OFFSET, with its count."""
        mark = "?" if self.kind == "sqlite" else "%s"
        where = f'FROM "user" WHERE account_id = {mark}'
        given: list[Any] = [account or self.ids.large]
        for word in fold(wish.search).split():
            where += f" AND (name_key LIKE {mark} OR email_key LIKE {mark})"
            given += [f"%{word}%"] * 2
        page = f"SELECT * {where} ORDER BY name_key, id LIMIT 25 OFFSET {offset}"
        asked = [(page, given), (f"SELECT count(*) {where}", given)]
        rounds = 2 if not account else 0
        return self._time(lambda cursor: [cursor.execute(*one).fetchall() for one in asked], rounds)

    def _time(self, work: Callable[[Any], Any], rounds: int = 0) -> float:
        driver: Any = db.session.connection().connection.driver_connection
        cursor = driver.cursor()
        pids = [driver.info.backend_pid] if self.kind == "postgresql" else []
        if pids:
            # What its workers use could not be read: they are gone when they are done.
            cursor.execute("SET LOCAL max_parallel_workers_per_gather = 0")
        taken: list[float] = []
        enough = time.perf_counter() + (0 if rounds else ENOUGH)
        while len(taken) < (rounds or self.rounds) or time.perf_counter() < enough:
            began = time.process_time() + processor_seconds(pids)
            work(cursor)
            taken.append((time.process_time() + processor_seconds(pids) - began) * 1000)
        db.session.rollback()
        # Whoever else uses the machine meanwhile only adds.
        return min(taken)

    def middle(self, order: Order) -> Wish:
        """A page from the middle of the list, so ordered."""
        key = wishes.keys(order)[0]
        mine = select(User).where(User.account_id == self.ids.large, key.is_not(None))
        someone = db.session.scalars(mine.order_by(key, User.id).offset(LARGE // 2).limit(1)).one()
        return Wish(order=order, after=wishes.cursor(someone, order, LARGE // 2))


def _lists(stage: _Stage) -> Iterator[Line]:
    most = stage.goals[0]
    deep = stage.middle(Order.NAME)
    ours, peer = stage.ours(deep), stage.peer(Wish(), offset=LARGE // 2)
    yield Line("people", f"first page, {stage.kind}", stage.ours(Wish()), "ms", at_most=most)
    yield Line("people", f"page in the middle, {stage.kind}", ours, "ms", at_most=most)
    yield Line(
        "people", f"OFFSET ÷ page in the middle, {stage.kind}", peer / ours, at_least=50, of=f"{peer:.0f} ms"
    )
    for order in (Order.EMAIL, Order.ROLE, Order.STATUS, Order.SEEN):
        taken = stage.ours(stage.middle(order))
        yield Line("people", f"sorted by {order}, in the middle, {stage.kind}", taken, "ms", at_most=most)
    filtered = {
        "instructors": Wish(role=Role.INSTRUCTOR),
        "pending": Wish(status=Standing.PENDING),
        "a course of 300": Wish(course_id=stage.ids.course),
        "a course of 30,000": Wish(course_id=stage.ids.hall),
    }
    for what, wish in filtered.items():
        goal = HALL[stage.kind] if "30,000" in what else most
        yield Line("people", f"{what}, {stage.kind}", stage.ours(wish), "ms", at_most=goal)


def _searches(stage: _Stage) -> Iterator[Line]:
    _, usual, worst = stage.goals
    everybody = select(User.name).where(User.account_id == stage.ids.large, User.name.like("% %"))
    rare = db.session.scalars(everybody.order_by(func.length(User.name).desc(), User.id).limit(1)).one()
    somebody = db.session.scalars(everybody.where(User.id == 4_711)).one_or_none() or rare
    searches = [
        ("a full name", somebody, usual),
        ("a surname", rare.split()[-1], usual),
        ("half a surname", rare.split()[-1][:4], usual),
        ("nobody", "whitfield", usual),
        ("everybody", "example", usual),
        ("two of CJK", "思远", worst),
        ("two letters that nobody has", "qx", worst),
        ("two letters", "ka", worst),
        ("a name that comes last", "zyta", worst),
        ("two words of many", "kara students", worst),
    ]
    for what, asked, goal in searches:
        taken = stage.ours(Wish(search=asked))
        yield Line("people", f"search: {what}, {stage.kind}", taken, "ms", at_most=goal)
        if what in ("a full name", "a surname"):
            peer = stage.peer(Wish(search=asked))
            yield Line(
                "people", f"LIKE ÷ {what}, {stage.kind}", peer / taken, at_least=50, of=f"{peer:.0f} ms"
            )


def _small_account(stage: _Stage) -> Iterator[Line]:
    for what, wish in (("list", Wish()), ("search", Wish(search="kara")), ("two letters", Wish(search="qx"))):
        ours, peer = (ask(wish, stage.ids.small) for ask in (stage.ours, stage.peer))
        yield Line(
            "people",
            f"account of 1,000: {what} ÷ LIKE, {stage.kind}",
            ours / peer,
            at_most=2,
            of=f"{ours:.2f} ms",
        )
