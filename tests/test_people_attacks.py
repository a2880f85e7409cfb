"""What somebody tries who means harm, on the pages about people: lists, bulk changes, invitations, merges."""

import logging
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from conftest import TOOL, Browser, Cast, Lms
from flask import Flask
from sqlalchemy import select, update
from test_course_inviting import let_instructors_invite
from test_security import address, everything, rules

from lti_tool.classroom import accounts, drafts, guest_lists, retention
from lti_tool.classroom.accounts import Account, Identity, Role, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.batches import Batch, BatchRow, BatchState
from lti_tool.classroom.courses import Enrollment
from lti_tool.classroom.drafts import UploadedList
from lti_tool.classroom.merging import Merge
from lti_tool.database import db, now
from lti_tool.logs import JsonLines
from lti_tool.practice_lms import Mailbox
from lti_tool.sealing import unseal

Browse = Callable[[int | None], Browser]
Work = Callable[[], None]
Move = Callable[[timedelta], None]
LIST = "/users/invite-many"


def at_once(*deeds: Callable[[], Any]) -> list[Any]:
    """What each answers, all begun at the same moment."""
    answers: list[Any] = [None] * len(deeds)
    start = threading.Barrier(len(deeds))

    def do(place: int) -> None:
        start.wait(20)
        try:
            answers[place] = deeds[place]()
        except Exception as error:  # noqa: BLE001 what was raised is the answer
            answers[place] = error

    threads = [threading.Thread(target=do, args=(place,)) for place in range(len(deeds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


def person(app: Flask, account: int, name: str, **more: Any) -> int:
    with app.app_context():
        user = accounts.add_user(account, name=name, **more)
        db.session.commit()
        return user.id


def role_of(app: Flask, user_id: int) -> Role:
    with app.app_context():
        return db.session.get_one(User, user_id).role


# --- lists -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        " " * 20_000 + "<",
        "a@b" + " " * 20_000 + ";",
        "<" + "a@" * 10_000,
        "<" + "@" * 20_000,
        ">," + " " * 20_000 + "x",
        ">," + "<a" * 10_000,
        "a" + " " * 20_000 + "b",
        '"' + " " * 20_000,
        '"' * 20_000,
    ],
    ids=range(9),
)
def test_no_line_that_is_pasted_is_read_for_long(text: str) -> None:
    began = time.process_time()
    with suppress(guest_lists.ListRefused):
        guest_lists.read_lines(text)
    assert time.process_time() - began < 2


def test_a_list_is_sent_in_the_name_of_whoever_says_yes(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    bob = person(app, cast.account, "Bob Admin", email="bob@example.org", role=Role.ADMIN)
    listed = browse(cast.ada).post(LIST, {"people": "Una <una@example.org>", "role": "admin"}).location
    browse(cast.ada).post(listed, {"column-0": "email"})
    browse(bob).post(listed.replace("columns", "send"))
    with app.app_context():
        batch = db.session.scalars(select(Batch)).one()
        started = db.session.scalars(select(AuditEvent).filter_by(action="batch.started")).one()
        assert (batch.by_id, started.actor_id) == (bob, bob)
    # Whose yes it was is whose rights count, at the moment it is done.
    with app.app_context():
        db.session.get_one(User, bob).role = Role.STUDENT
        db.session.commit()
    work()
    with app.app_context():
        assert accounts.find_by_mailbox(cast.account, "una@example.org") is None
        assert db.session.scalars(select(BatchRow.outcome)).all() == ["asker"]


def test_a_list_that_has_its_yes_is_not_judged_anew_under_it(
    app: Flask, cast: Cast, browse: Browse, work: Work
) -> None:
    """Else rows that were refused would wait again, and be done."""
    rows = "\n".join(f"P{n} <p{n}@example.org>" for n in range(200)) + "\nno address at all, x@\n"
    listed = browse(cast.ada).post(LIST, {"people": rows, "role": "student"}).location
    columns = {"column-0": "email"}
    browse(cast.ada).post(listed, columns)
    first, second = browse(cast.ada), browse(cast.ada)
    first.get(listed)
    tokens = [one.post("/users/batches/999/stop").status_code for one in (first, second)]
    assert tokens == [404, 404]
    at_once(
        lambda: first.post(listed.replace("columns", "send")).status_code,
        lambda: second.post(listed, columns).status_code,
    )
    with app.app_context():
        batch = db.session.scalars(select(Batch)).one()
        bad = db.session.scalars(select(BatchRow).where(BatchRow.verdict == "bad_address")).all()
        assert batch.state is not BatchState.DRAFT
        assert [row.outcome for row in bad] == ["bad_address"]
        # And afterwards, however late the other comes.
        before = [row.outcome for row in db.session.scalars(select(BatchRow).order_by(BatchRow.number))]
        guests: list[Any] = []
        assert not drafts.keep_judged(batch, guests, batch.terms)
        db.session.rollback()
        after = [row.outcome for row in db.session.scalars(select(BatchRow).order_by(BatchRow.number))]
        assert after == before


def test_an_uploaded_role_is_within_the_askers_own_and_never_owner(
    app: Flask, cast: Cast, browse: Browse, work: Work
) -> None:
    roles = {"a": "owner", "b": "admin", "sam": "owner", "eve": "admin"}
    rows = "\n".join(["email,role", *(f"{name}@example.org,{role}" for name, role in roles.items())])
    listed = browse(cast.ada).post(LIST, {"people": rows, "role": "student"}).location
    browse(cast.ada).post(listed, {"column-0": "email", "column-1": "role", "headed": "1"})
    browse(cast.ada).post(listed.replace("columns", "send"))
    # The deed itself asks again, whatever stands in its rows.
    with app.app_context():
        db.session.execute(update(User).where(User.id == cast.ada).values(role=Role.ADMIN))
        forged = {"name": "X", "email": "x@example.org", "role": "owner", "courses": []}
        batch = db.session.scalars(select(Batch)).one()
        db.session.add(BatchRow(batch_id=batch.id, number=99, words=forged, verdict="invite"))
        db.session.commit()
    work()
    with app.app_context():
        outcomes = dict(db.session.execute(select(BatchRow.number, BatchRow.outcome)).all())
        assert (outcomes[2], outcomes[4], outcomes[99]) == ("role_above", "role_above", "role_above")
        assert db.session.get_one(User, cast.sam).role is Role.STUDENT
        # Eve's address in this account is somebody new: the other account's owner is as she was.
        assert db.session.get_one(User, cast.eve).account_id == cast.other_account


# --- bulk changes ------------------------------------------------------------------------


def test_another_accounts_ids_in_a_bulk_change_change_nobody(
    app: Flask, cast: Cast, browse: Browse, work: Work
) -> None:
    eve = browse(cast.eve)
    before = everything(app)
    for deed in ("delete", "change_role", "add_to_course", "remove_from_course", "invite_again"):
        for chosen in ({"user": [cast.sam, cast.ada]}, {"all": "1", "course": cast.geology}):
            answer = eve.post(f"/users/batches/new/{deed}", chosen)
            assert (answer.status_code, answer.location) == (303, "/users"), (deed, chosen)
    # Her own draft, with this account's course and an owner's role.
    mine = eve.post("/users/batches/new/add_to_course", {"all": "1"}).location
    assert eve.post(f"{mine}/confirm", {"chosen": "1", "courses": cast.geology}).status_code == 422
    many = {"chosen": "1", "courses": [str(n) for n in range(1, 70_001)]}
    assert eve.post(f"{mine}/confirm", many).status_code in (413, 422)
    assert eve.post("/users/export", {"user": [cast.sam]}).text.count("\n") <= 1
    work()
    after = everything(app)
    for name in ("user", "enrollment", "invitation", "outbox_mail"):
        assert after[name] == before[name]


def test_two_who_say_yes_to_one_bulk_change_do_it_once(
    app: Flask, cast: Cast, browse: Browse, work: Work
) -> None:
    bob = person(app, cast.account, "Bob Admin", email="bob@example.org", role=Role.ADMIN)
    browsers = [browse(cast.ada), browse(bob)]
    drafted = browsers[0].post("/users/batches/new/change_role", {"user": [cast.sam, cast.ada, bob]}).location
    browsers[1].get(drafted)
    answers = at_once(*(partial(one.post, f"{drafted}/confirm", {"role": "admin"}) for one in browsers))
    assert [answer.status_code for answer in answers] == [303, 303]
    work()
    with app.app_context():
        assert len(db.session.scalars(select(AuditEvent).filter_by(action="batch.started")).all()) == 1
        changes = db.session.scalars(select(AuditEvent).filter_by(action="role.changed")).all()
        assert [event.target for event in changes].count(f"user:{cast.sam}") == 1
    assert role_of(app, cast.ada) is not Role.STUDENT
    undone = at_once(*(partial(one.post, f"{drafted}/undo") for one in browsers))
    assert all(answer.status_code == 303 for answer in undone)
    work()
    assert role_of(app, cast.sam) is Role.STUDENT


def test_no_owner_is_lost_in_bulk_and_two_owners_who_remove_each_other_leave_one(
    app: Flask, cast: Cast, browse: Browse, work: Work
) -> None:
    olga = person(app, cast.account, "Olga Owner", email="olga@example.org", role=Role.OWNER)
    bob = person(app, cast.account, "Bob Admin", email="bob@example.org", role=Role.ADMIN)
    lowered = browse(bob).post("/users/batches/new/change_role", {"all": "1"}).location
    browse(bob).post(f"{lowered}/confirm", {"role": "student"})
    asked = []
    for asker, other in ((cast.ada, olga), (olga, cast.ada)):
        drafted = browse(asker).post("/users/batches/new/change_role", {"user": [other]}).location
        browse(asker).post(f"{drafted}/confirm", {"role": "student"})
        asked.append(drafted)
    work()
    roles = [role_of(app, one) for one in (cast.ada, olga)]
    assert sorted(roles, key=lambda role: role.rank) == [Role.STUDENT, Role.OWNER]
    assert role_of(app, bob) is Role.ADMIN


# --- invitations and mail ----------------------------------------------------------------


def test_an_instructor_cannot_fill_a_mailbox_by_inviting_it_again(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    let_instructors_invite(app, cast)
    ivan = browse(cast.ivan)
    for _ in range(4):
        ivan.post(f"/courses/{cast.geology}/invite", {"people": "victim@example.org"})
        work()
    got = mailbox.sent_to("victim@example.org")
    assert len(got) == 1


def test_an_old_link_cannot_fill_a_mailbox(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox, move_clock: Move
) -> None:
    ada = browse(cast.ada)
    ada.post("/users/invite", {"name": "Una", "email": "una@example.org", "role": "student"})
    work()
    [first] = [link for link in mailbox.wait_for("una@example.org").links if "/invitations/" in link]
    path = first.removeprefix(TOOL)
    with app.app_context():
        una = accounts.find_by_mailbox(cast.account, "una@example.org")
        assert una is not None
        una_id = una.id
    ada.post(f"/users/{una_id}/invitation/resend")
    work()
    before = len(mailbox.sent_to("una@example.org"))
    for _ in range(8):
        move_clock(timedelta(minutes=11))
        browse(None).post(f"{path}/renew")
        work()
    more = len(mailbox.sent_to("una@example.org")) - before
    assert more == 5


# --- nothing without its token -----------------------------------------------------------


def test_no_form_does_anything_without_its_token_or_from_another_site(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    exempt = {"launch", "registering", "picking"}
    values: dict[str, Any] = {"course_id": cast.geology, "user_id": cast.sam, "other_id": cast.tess}
    numbered = ("batch", "invitation", "merge", "session", "run", "tie", "link", "registration", "deployment")
    values |= {f"{name}_id": 1 for name in numbered}
    values |= {"of_course": cast.geology, "plan_id": cast.plan, "deed": "delete", "kind": "added"}
    values |= {"token": "x", "name": "x", "filename": "x"}
    ada = browse(cast.ada)
    ada.get("/users")
    before = everything(app)
    for rule in rules(app, "POST"):
        if rule.endpoint.split(".")[0] in exempt or rule.endpoint == "windows.open_window":
            continue
        url = address(app, rule, values)
        bare = ada.client.post(url, data={"role": "admin"}, headers={"Sec-Fetch-Site": "same-origin"})
        assert bare.status_code in (400, 429), (url, bare.status_code)
        crossed = ada.post(url, {"role": "admin"}, headers={"Sec-Fetch-Site": "cross-site"})
        assert crossed.status_code in (403, 429), (url, crossed.status_code)
    assert everything(app) == before


def test_looking_at_people_writes_nothing(app: Flask, cast: Cast, browse: Browse) -> None:
    ada = browse(cast.ada)
    ada.post(LIST, {"people": "Una <una@example.org>", "role": "student"})
    merged = person(app, cast.account, "Twin"), person(app, cast.account, "Other Twin")
    ada.post(f"/users/{merged[0]}/merge/{merged[1]}")
    values = {"course_id": cast.geology, "user_id": cast.sam, "other_id": cast.tess, "batch_id": 1}
    before = everything(app)
    for rule in rules(app, "GET"):
        if rule.arguments - values.keys() or "socket" in rule.rule or rule.endpoint.startswith("launch."):
            continue
        answer = ada.get(address(app, rule, values), buffered=True)
        assert answer.status_code < 500, rule.rule
        ada.client.head(address(app, rule, values), buffered=True)
    assert everything(app) == before


# --- merges ------------------------------------------------------------------------------


def test_of_two_who_undo_one_merge_one_wins_and_nobody_has_more_than_before(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    twin = person(app, cast.account, "Sam W.", role=Role.STUDENT)
    ada, again = browse(cast.ada), browse(cast.ada)
    ada.post(f"/users/{cast.sam}/merge/{twin}")
    with app.app_context():
        merge_id = db.session.scalars(select(Merge.id)).one()
    again.post("/merges/999/undo")
    answers = at_once(*(partial(one.post, f"/merges/{merge_id}/undo") for one in (ada, again)))
    assert [answer.status_code for answer in answers] == [303, 303]
    with app.app_context():
        undone = db.session.scalars(select(AuditEvent).filter_by(action="user.unmerged")).all()
        assert len(undone) == 1
        assert db.session.get_one(User, twin).merged_into_id is None
        assert db.session.get_one(Merge, merge_id).moved is None


# --- what is left of somebody ------------------------------------------------------------


def test_whoever_is_erased_stands_in_no_column_of_any_table(
    app: Flask, cast: Cast, lms: Lms, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    """By name, by address, by the LMS's subject: lists, bulk changes, merges, mails, codes, the log."""
    ada = browse(cast.ada)
    course = lms.launch(browse(None), "sam", "geology").location.rpartition("/")[2]
    ada.post(f"/courses/{course}/roster/sync")
    work()
    with app.app_context():
        sam = db.session.scalars(select(Identity).join(User).where(User.name == "Sam Rivera")).one()
        sam_id, marks = sam.user_id, ("zebulon", "quark", "sam rivera", "sam@example.test")
        accounts.rename(sam.user, name="Zebulon Quark", email="zebulon.q@example.net")
        db.session.commit()
    twin = person(app, cast.account, "Zebulon Quark", email="zebulon.q@example.net", mailbox_proven=True)
    ada.post(f"/users/{twin}/merge/{sam_id}")
    # Named in a list that was done, in one that still waits, and in a bulk change that was undone.
    for done in (True, False):
        people = "Zebulon Quark <zebulon.q@example.net>\nUna <una@example.org>"
        course_id = cast.statics if done else cast.geology
        listed = ada.post(LIST, {"people": people, "role": "student", "courses": course_id}).location
        ada.post(listed, {"column-0": "email"})
        if done:
            ada.post(listed.replace("columns", "send"))
            work()
    for deed, form in (("change_role", {"role": "instructor"}), ("add_to_course", {"courses": cast.statics})):
        drafted = ada.post(f"/users/batches/new/{deed}", {"user": [twin]}).location
        ada.post(f"{drafted}/confirm", {"chosen": "1", **form})
        work()
        ada.post(f"{drafted}/undo")
        work()
    ada.post(f"/users/{twin}", {"name": "Zebulon Q. Quark", "role": "student"})
    browse(None).post("/sign-in", {"email": "zebulon.q@example.net"})
    found = ada.get("/users?q=zebulon").text
    assert "Zebulon" in found
    answer = ada.post(f"/users/{twin}/delete", {"confirm": "Zebulon Q. Quark"})
    assert answer.status_code == 303
    left = []
    with app.app_context():
        for name, table in db.metadata.tables.items():
            for row in db.session.execute(select(table)):
                for column, value in row._mapping.items():
                    said = str(value)
                    if column == "sealed" and said:
                        said += unsealed(name, said)
                    if any(mark in said.casefold() for mark in marks):
                        left.append((name, column, said[:200]))
    # But in the list that still waits for a yes: sealed, and for a week at most.
    assert [table for table, _, _ in left] == ["uploaded_list"]
    assert "zebulon.q@" not in ada.get(listed.replace("columns", "check")).text
    ada.post(listed.replace("columns", "send"))
    work()
    with app.app_context():
        assert db.session.scalar(select(UploadedList)) is None
        waited = select(BatchRow.outcome).filter_by(batch_id=int(listed.split("/")[3]))
        assert db.session.scalars(waited.order_by(BatchRow.number)).all() == ["no_address", "added"]
        assert db.session.scalar(select(User).where(User.email_key == "", User.mailbox_proven)) is None


def unsealed(table: str, sealed: str) -> str:
    return unseal({"outbox_mail": "outbox", "uploaded_list": "list", "link_code": "link"}[table], sealed)


def test_a_link_code_entered_twice_at_once_links_once_and_tries_add_up_over_sessions(
    app: Flask, cast: Cast, lms: Lms, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    first = browse(None)
    lms.launch(first, "sam", "geology")
    assert first.post("/link/mailbox", {"email": "tess@example.org"}).status_code == 303
    work()
    code = re.search(r"\b(\d{6})\b", mailbox.wait_for("tess@example.org").text)
    assert code
    wrong = f"{(int(code[1]) + 1) % 10**6:06d}"
    answers = at_once(*(partial(first.post, "/link/code", {"code": wrong}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [410] * 3 + [422] * 5
    assert first.post("/link/code", {"code": code[1]}).status_code == 410
    # From any number of browsers one mailbox is sent so many codes at most.
    sent = []
    for place, name in enumerate(("tess", "ivan", "nobody", "manager", "designer", "mentor")):
        other = browse(None)
        other.client.environ_base["REMOTE_ADDR"] = f"192.0.2.{place}"
        lms.launch(other, name, "geology")
        sent.append(other.post("/link/mailbox", {"email": "tess@example.org"}).status_code)
    assert sent.count(303) <= 4
    assert 429 in sent


def test_no_log_line_names_anybody_or_holds_what_lets_somebody_in(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    log = logging.getLogger("doorlist")
    log.addHandler(caplog.handler)
    log.setLevel(logging.INFO)
    try:
        ada = browse(cast.ada)
        listed = ada.post(LIST, {"people": "Zeb Quark <zeb@example.net>", "role": "student"}).location
        ada.post(listed, {"column-0": "email"})
        ada.post(listed.replace("columns", "send"))
        ada.get("/users/known?email=zeb@example.net")
        ada.get("/users?q=zeb@example.net")
        work()
        path = mailbox.wait_for("zeb@example.net").links[0].removeprefix(TOOL)
        path = next(x for x in mailbox.wait_for("zeb@example.net").links if "/invitations/" in x)
        path = path.removeprefix(TOOL)
        browse(None).get(path)
        browse(None).post(f"{path}/accept")
        browse(None).post("/sign-in", {"email": "zeb@example.net"})
        work()
        browse(None).post(f"{path}/renew")
        lines = [JsonLines().format(record) for record in caplog.records]
        assert len(lines) > 10
        text = "\n".join(lines)
        for mark in ("zeb", "quark", path.rpartition("/")[2], "sam@example.org"):
            assert mark.casefold() not in text.casefold(), mark
    finally:
        log.removeHandler(caplog.handler)
        log.setLevel(app.config["LOG_LEVEL"])
    with app.app_context():
        for event in db.session.scalars(select(AuditEvent)):
            said = f"{event.before} {event.after}".casefold()
            assert "zeb" not in said, (event.action, said)
            assert "@" not in said, (event.action, said)


# --- forgetting, while somebody comes ----------------------------------------------------


def test_whoever_comes_in_while_old_people_are_forgotten_is_let_in(
    app: Flask, cast: Cast, lms: Lms, browse: Browse
) -> None:
    """They keep what they had, or begin anew; nobody meets an error, and no half of them is left."""
    browsers = [browse(None) for _ in range(3)]
    for browser, name in zip(browsers, ("sam", "tess", "nobody"), strict=True):
        lms.launch(browser, name, "geology")
    with app.app_context():
        old = now() - timedelta(days=900)
        theirs = select(Identity.user_id)
        db.session.execute(
            update(User)
            .where(User.id.in_(theirs))
            .values(role=Role.STUDENT, last_seen_at=old, created_at=old)
        )
        db.session.execute(update(Enrollment).where(Enrollment.user_id.in_(theirs)).values(ended_at=old))
        db.session.get_one(Account, cast.account).keep_unseen_days = 100
        db.session.commit()

    def forget() -> None:
        with app.app_context():
            while retention.forget_next():
                db.session.commit()

    coming = [
        partial(lms.launch, browser, name, "geology")
        for browser, name in zip(browsers, ("sam", "tess", "nobody"), strict=True)
    ]
    answers = at_once(forget, *coming)
    assert [getattr(answer, "status_code", answer) for answer in answers] == [None, 303, 303, 303]
    with app.app_context():
        for user_id in db.session.scalars(select(Identity.user_id)):
            assert db.session.get(User, user_id) is not None
        held = db.session.scalars(select(Enrollment).where(Enrollment.ended_at.is_(None))).all()
        known = set(db.session.scalars(select(Identity.user_id)))
        assert len(known & {one.user_id for one in held}) == 3
