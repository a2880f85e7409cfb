"""Finding people among very many: whichever way the database is asked, nobody who matches is missing."""

import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from conftest import Cast
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError

from lti_tool.classroom import accounts, directory, finding, search
from lti_tool.classroom.accounts import Identity, Role, Status, User
from lti_tool.classroom.courses import Enrollment, Source
from lti_tool.classroom.directory import Wish
from lti_tool.classroom.wishes import Order, Standing
from lti_tool.database import db, fold, insert_many, new_ids, now

NAMES = [
    *("Sam Whitfield", "Samuel Wright", "Łukasz Wiśniewski", "Çelik Ömer", "Søren Aa. Kierkegaard"),
    *("李思远", "李伟", "思远 Li", "王小明", "김민준", "محمد الحسيني", "נועה ברק", "अनन्या शर्मा"),
    *("Оксана Шевченко", "Αλεξάνδρα Παπαδοπούλου", "Þórdís Guðmundsdóttir", "Nguyễn Thị Minh Khai"),
    *("Anna Banana", "Zoë Zzyzx", 'O\'Hara_100% "x"', "Dr. A-B", "Straße Groß", ""),
]
SEARCHES = [
    *(
        "",
        "sam",
        "WHIT",
        "李",
        "思远",
        "李思",
        "an",
        "na an",
        "zz",
        "q",
        "x",
        "ß",
        "groß",
        "GROSS",
        "lukasz",
        "wiś",
    ),
    *(
        "민준",
        "ον",
        "шев",
        "الح",
        "ברק",
        "शर्मा",
        "khai minh",
        "o'hara",
        "_100%",
        '"x"',
        "dr.",
        "a-b",
        "@",
        "@ex",
    ),
    *("example", ".org", "jürgen", "jurgen", "7@", "s1", "nobody at all", "sam sam wright", "( OR", "a* b*"),
]
EVERYBODY = 400


def fill(cast: Cast, registration_id: int | None) -> None:
    """Four hundred people of every kind, some of them in another account, and not all of them shown."""
    ids = new_ids(User.__table__, EVERYBODY)
    numbers = range(EVERYBODY)
    names = [
        f"{NAMES[i % len(NAMES)]} {i // 60}".strip() if i % 3 else NAMES[i % len(NAMES)] for i in numbers
    ]
    mails = ["" if i % 11 == 0 else f"{'jürgen' if i % 13 == 0 else 's'}{i}@example.org" for i in numbers]
    roles = list(Role)
    with search.in_bulk():
        insert_many(
            User.__table__,
            {
                "id": ids,
                "account_id": [cast.other_account if i % 17 == 0 else cast.account for i in numbers],
                "name": names,
                "name_key": [fold(name or mail) for name, mail in zip(names, mails, strict=True)],
                "email": mails,
                "email_key": [accounts.email_key(mail) for mail in mails],
                "role": [roles[0 if i % 5 else i // 5 % 4] for i in numbers],
                "status": [Status.PENDING if i % 7 == 0 else Status.REGISTERED for i in numbers],
                "listed": [i % 19 != 0 for i in numbers],
                "blocked_at": [now() if i % 23 == 0 else None for i in numbers],
                "last_seen_at": [now() - timedelta(minutes=i % 40) if i % 3 else None for i in numbers],
            },
            {"created_at": now()},
        )
    for place, one in enumerate(ids):
        if place % 17 and place % 4 == 0:
            source = Source.MANUAL if place % 8 else Source.INVITATION
            db.session.add(
                Enrollment(
                    account_id=cast.account,
                    course_id=cast.geology if place % 3 else cast.statics,
                    user_id=one,
                    role=Role.STUDENT,
                    source=source,
                    ended_at=now() if place % 16 == 0 else None,
                )
            )
        if place % 17 and place % 6 == 0 and registration_id is not None:
            db.session.add(
                Identity(
                    account_id=cast.account, registration_id=registration_id, subject=str(one), user_id=one
                )
            )
    db.session.commit()


@dataclass(frozen=True)
class Known:
    """Everything in the database, to be searched without its help."""

    users: list[User]
    courses: set[tuple[int, int]]
    sources: set[tuple[int, Source | int]]
    # Letters are sorted as the database sorts them: where everybody is by name, and by address.
    by_name: dict[int, int]
    by_email: dict[int, int]


def know(cast: Cast) -> Known:
    enrolled = db.session.scalars(select(Enrollment).where(Enrollment.ended_at.is_(None))).all()
    identities = db.session.scalars(select(Identity)).all()

    def places(key: Any) -> dict[int, int]:
        return {one: n for n, one in enumerate(db.session.scalars(select(User.id).order_by(key, User.id)))}

    return Known(
        list(db.session.scalars(select(User).where(User.account_id == cast.account, User.listed))),
        {(e.user_id, e.course_id) for e in enrolled},
        {(e.user_id, e.source) for e in enrolled} | {(i.user_id, i.registration_id) for i in identities},
        places(User.name_key),
        places(User.email_key),
    )


def naively(known: Known, wish: Wish) -> list[int]:
    """The ids that match, in order."""
    asked = [(fold(word), word.casefold()) for word in wish.search.split()]

    def fits(user: User) -> bool:
        name, mail = user.name_key, user.email_key
        return (
            all(word in name or word in mail or plain in mail for word, plain in asked)
            and (wish.role in (None, user.role) or (wish.role, user.role) == (Role.ADMIN, Role.OWNER))
            and wish.status in (None, "blocked" if user.blocked_at else user.status.value)
            and (wish.course_id is None or (user.id, wish.course_id) in known.courses)
            and (wish.source is None or (user.id, wish.source) in known.sources)
        )

    def key(user: User) -> tuple[Any, ...]:
        if wish.order is Order.EMAIL:
            return (known.by_email[user.id],)
        if wish.order is Order.SEEN:
            return (user.last_seen_at is not None, user.last_seen_at, user.id)
        rank = {
            Order.ROLE: user.role.rank,
            Order.STATUS: ["pending", "registered"].index(user.status) if not user.blocked_at else 2,
        }
        return (rank.get(wish.order, 0), known.by_name[user.id])

    return [user.id for user in sorted(filter(fits, known.users), key=key, reverse=wish.descending)]


def paged(cast: Cast, wish: Wish) -> tuple[list[int], list[int]]:
    """The ids that the pages show, from the first to the last and back again."""
    first = page = directory.find_people(cast.account, wish)
    pages = [page]
    while page.next:
        assert len(page.users) == finding.PAGE
        page = directory.find_people(cast.account, replace(wish, after=page.next))
        assert page.start == pages[-1].end + 1
        pages.append(page)
    back = [page]
    while page.previous:
        page = directory.find_people(cast.account, replace(wish, before=page.previous))
        back.insert(0, page)
    assert back[0].start == (1 if back[0].users else 0)
    there, here = ([user.id for page in pages for user in page.users] for pages in (pages, back))
    assert first.total <= len(there) if first.or_more else first.total == len(there)
    return there, here


@contextmanager
def patience(walk: int, few: int) -> Iterator[None]:
    """How far the index is walked and how many are sorted: with little of both, every way is taken."""
    before = finding.WALK, finding.FEW
    finding.WALK, finding.FEW = walk, few
    try:
        yield
    finally:
        finding.WALK, finding.FEW = before


def test_nobody_who_matches_is_missing_whichever_way_is_taken(app: Flask, cast: Cast, lms: Any) -> None:
    with app.app_context():
        fill(cast, lms.registration_id)
        known = know(cast)
        wish_of = st.builds(
            Wish,
            search=st.sampled_from(SEARCHES) | st.text(string.ascii_lowercase[:6] + "李思远 @.", max_size=4),
            role=st.sampled_from([None, None, *Role]),
            status=st.sampled_from([None, None, *Standing]),
            course_id=st.sampled_from([None, None, cast.geology, cast.statics, 4711]),
            source=st.sampled_from([None, None, Source.MANUAL, Source.INVITATION, lms.registration_id]),
            order=st.sampled_from(list(Order)),
            descending=st.booleans(),
        )

        @settings(
            max_examples=100,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(wish=wish_of, walk=st.sampled_from([30, 90, 10_000]), few=st.sampled_from([5, 2_000]))
        def check(wish: Wish, walk: int, few: int) -> None:
            expected = naively(known, wish)
            with patience(walk, few):
                assert paged(cast, wish) == (expected, expected)
                found = db.session.scalars(directory.matching_ids(cast.account, wish)).all()
                assert sorted(found) == sorted(expected)

        check()


def found(cast: Cast, asked: str) -> list[str]:
    """Whom the index alone names: the way that is taken when walking finds nobody."""
    with patience(walk=0, few=0):
        return [user.name for user in directory.find_people(cast.account, Wish(search=asked)).users]


def test_the_index_follows_whatever_becomes_of_people(app: Flask, cast: Cast) -> None:
    with app.app_context():
        assert found(cast, "whitf") == ["Sam Whitfield"]
        sam = db.session.get_one(User, cast.sam)
        accounts.rename(sam, name="Samir Çelebi", email="celebi@example.net")
        db.session.commit()
        assert found(cast, "whitf") == []
        assert found(cast, "celebi sami") == ["Samir Çelebi"]
        accounts.rename(sam, name="Nobody", email="")
        db.session.flush()
        assert found(cast, "nob") == ["Nobody"]
        db.session.rollback()
        assert found(cast, "nob") == []
        sam.last_seen_at = now()
        db.session.commit()
        assert found(cast, "celebi") == ["Samir Çelebi"]
        db.session.delete(db.session.get_one(User, cast.tess))
        db.session.commit()
        assert found(cast, "meulen") == []
        fill(cast, None)
        assert len(found(cast, "kierkegaard")) > 5
        late = accounts.add_user(cast.account, name="Late Comer")
        db.session.commit()
        assert found(cast, "comer") == ["Late Comer"]
        db.session.delete(late)
        db.session.execute(
            update(User).where(User.name_key.like("%kierk%")).values(name_key="x", email_key="")
        )
        db.session.commit()
        assert found(cast, "kierkegaard") == found(cast, "comer") == []
        if db.engine.dialect.name == "sqlite":
            # It would find out what was taken from it that it never had.
            db.session.execute(text("INSERT INTO user_search (user_search) VALUES ('integrity-check')"))
            assert not db.session.scalar(text("SELECT count(*) FROM user_search_pause"))


def test_who_is_written_in_bulk_and_taken_back_leaves_the_index_as_it_was(app: Flask, cast: Cast) -> None:
    with app.app_context():
        with pytest.raises(IntegrityError), search.in_bulk():
            insert_many(
                User.__table__,
                {"id": [cast.sam], "name": ["x"], "name_key": ["x"]},
                {"account_id": cast.account, "created_at": now()},
            )
        db.session.rollback()
        accounts.add_user(cast.account, name="After All")
        db.session.commit()
        assert found(cast, "after") == ["After All"]


@pytest.mark.postgresql
def test_without_the_index_searching_is_slower_but_finds_the_same(
    app: Flask, cast: Cast, caplog: pytest.LogCaptureFixture
) -> None:
    with app.app_context():
        try:
            db.session.execute(text("DROP INDEX ix_user_search"))
            db.session.commit()
            assert found(cast, "whitf") == ["Sam Whitfield"]
            assert found(cast, "whi") == ["Sam Whitfield"]
            assert [r.message for r in caplog.records] == [
                "There is no index ix_user_search: searching people is slow."
            ]
        finally:
            db.session.rollback()
            db.session.execute(text(search.POSTGRESQL))
            db.session.commit()
