"""Inviting many at once: a list is read, its columns named, each row checked, and the good ones invited."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator
from html import unescape
from io import BytesIO, StringIO
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import Browser, Cast, Lms
from flask import Flask
from sqlalchemy import func, select, text, update
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from lti_tool import jobs
from lti_tool.classroom import accounts, courses
from lti_tool.classroom.accounts import Role, Status, User
from lti_tool.classroom.batches import Batch, BatchRow
from lti_tool.classroom.courses import Enrollment
from lti_tool.classroom.drafts import UploadedList
from lti_tool.classroom.invitations import Invitation, InvitationLink
from lti_tool.database import db, now
from lti_tool.mail import OutboxMail
from lti_tool.practice_lms import Mailbox

Browse = Callable[[int | None], Browser]
Work = Callable[[], None]
EACH = 30
ALL = 10_000


def upload(browser: Browser, content: str | bytes, name: str = "guests.csv", **form: Any) -> TestResponse:
    """Send the first page's form with a file."""
    data = content.encode() if isinstance(content, str) else content
    fields = {"role": "student", "people": "", **form, "file": FileStorage(BytesIO(data), filename=name)}
    boundary, body = encode_multipart(fields)
    kind = f"multipart/form-data; boundary={boundary}"
    return browser.client.post(
        "/users/invite-many",
        data=body,
        content_type=kind,
        headers={"Sec-Fetch-Site": "same-origin", "X-CSRFToken": browser._token or csrf(browser)},
    )


def csrf(browser: Browser) -> str:
    """The form's token, which the browser gets with its first page."""
    assert browser.post("/nowhere").status_code == 404
    return browser._token


def checked(browser: Browser, sent: TestResponse, **columns: str) -> str:
    """Go on from the columns as they are guessed, or as said; the address of the check page."""
    assert sent.status_code == 303, said(sent)
    page = browser.get(sent.location).text
    form = {
        found[1]: found[2]
        for found in re.finditer(
            r'<select class="form-select" name="(column-\d+)".*?value="(\w+)" selected', page
        )
    }
    if 'name="headed" value="y" checked' in page:
        form["headed"] = "y"
    answer = browser.post(sent.location, {**form, **columns})
    assert answer.status_code == 303, said(answer)
    return str(answer.location)


def said(answer: TestResponse) -> str:
    """The page's words."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.text.partition("<main")[2])).split())


def rows(browser: Browser, path: str, **query: Any) -> dict[int, str]:
    """Row → what the check page says of it."""
    body = browser.get(path, query_string=query).text.partition("<tbody>")[2].partition("</tbody>")[0]
    found = {}
    for row in body.split("<tr>")[1:]:
        words = " ".join(unescape(re.sub(r"<[^>]+>", " ", row)).split())
        number, _, rest = words.partition(" ")
        found[int(number)] = rest
    return found


@pytest.fixture
def swept(app: Flask) -> Iterator[None]:
    """Ten thousand people go at once: deleted one by one, as between tests, they would take a minute."""
    yield
    with app.app_context():
        if db.engine.dialect.name == "postgresql":
            db.session.execute(text("TRUNCATE account CASCADE"))
            db.session.commit()


# --- ten thousand ------------------------------------------------------------------------


def ten_thousand() -> Iterator[tuple[str, list[str]]]:
    """Rows with the verdict each must get: thirty that are wrong in each way among good ones."""
    bad: dict[str, Callable[[int], list[str]]] = {
        "no_address": lambda n: [f"No address {n}", "", "", ""],
        "bad_address": lambda n: [f"Bad {n}", f"bad{n}@nowhere@example.net", "", ""],
        "duplicate": lambda n: [f"Twice {n}", f"GUEST{n}@example.net", "", ""],
        "unknown_course": lambda n: [f"Lost {n}", f"lost{n}@example.net", "", "Introduction to Geology"],
        "unknown_role": lambda n: [f"Tutor {n}", f"tutor{n}@example.net", "Tutor", ""],
        "role_above": lambda n: [f"Owner {n}", f"owner{n}@example.net", "Owner", ""],
        "long_name": lambda n: ["x" * 201, f"long{n}@example.net", "", ""],
        "strange_name": lambda n: [f"Back\x08space {n}", f"strange{n}@example.net", "", ""],
        "formula": lambda n: [f"=cmd|{n}", f"formula{n}@example.net", "", ""],
    }
    for number in range(ALL - EACH * len(bad)):
        role = "Instructor" if number % 100 == 50 else ""
        course = "Statics" if number % 7 == 0 else ""
        yield "invite", [f"Ünï {number}", f"guest{number}@example.net", role, course]
    for verdict, make in bad.items():
        for number in range(EACH):
            yield verdict, make(number)


@pytest.mark.timeout(180)
def test_of_ten_thousand_rows_exactly_the_good_ones_are_invited(
    app: Flask, cast: Cast, browse: Browse, mailbox: Mailbox, statements: list[str], swept: None
) -> None:
    wanted = list(ten_thousand())
    file = StringIO()
    csv.writer(file, delimiter=";").writerows(
        [["Name", "E-Mail", "Role", "Course"], *(row for _, row in wanted)]
    )
    ada = browse(cast.ada)
    path = checked(ada, upload(ada, file.getvalue(), courses=[cast.geology]))
    with app.app_context():
        verdicts = {row.number: row.verdict for row in db.session.scalars(select(BatchRow))}
        assert verdicts == {number: verdict for number, (verdict, _) in enumerate(wanted, start=2)}
        assert db.session.scalars(select(Invitation)).all() == [], "nothing is sent before the yes"
    statements.clear()
    page = said(ada.get(path))
    assert len(statements) <= 10
    assert "guests.csv · 10,000 rows · semicolons · UTF-8." in page
    assert "9,730 will be invited" in " ".join(page.split()) or "will be invited 9,730" in page
    assert "Not taken 240" in page
    assert "To look at 30" in page
    assert "Invite 9,730 people" in page
    refused = list(
        csv.DictReader(StringIO(ada.get(path.replace("check", "not-taken.csv")).text.removeprefix("\ufeff")))
    )
    assert len(refused) == 8 * EACH + EACH
    wrong_course = [row for row in refused if row["Reason"].startswith("No course")]
    assert wrong_course
    assert all(row["Course"] for row in wrong_course), "it is mended in this file and uploaded again"
    sent = ada.post(path.replace("check", "send"))
    assert sent.status_code == 303
    assert ada.post(path.replace("check", "send")).status_code == 303, "a second yes does nothing"
    statements.clear()
    with app.app_context():
        jobs.run_queued_batches()
        assert len(statements) < 100
        good = {row[1] for verdict, row in wanted if verdict == "invite"}
        invited = db.session.execute(
            select(User.email, User.role, User.status, User.name).where(User.id > cast.eve)
        ).all()
        assert {one.email for one in invited} == good
        assert len(invited) == len(good)
        assert {one.status for one in invited} == {Status.PENDING}
        assert Counter(one.role for one in invited)[Role.INSTRUCTOR] == len(good) // 100
        statics = select(func.count(Enrollment.id)).where(
            Enrollment.course_id == cast.statics, Enrollment.user_id > cast.eve
        )
        assert db.session.scalar(statics) == sum(
            row[3] == "Statics" for verdict, row in wanted if verdict == "invite"
        )
        for table in (Invitation, InvitationLink, OutboxMail):
            assert db.session.scalar(select(func.count(table.id))) == len(good)
        assert "example.net" not in "".join(db.session.scalars(select(OutboxMail.sealed).limit(50)))
        assert db.session.scalars(select(UploadedList)).all() == [], "the list itself is forgotten"
        # The first fifty are really delivered, the others only later.
        later = select(OutboxMail.id).order_by(OutboxMail.id).offset(50)
        db.session.execute(
            update(OutboxMail).where(OutboxMail.id.in_(later)).values(due_at=now().replace(year=2999))
        )
        db.session.commit()
        assert jobs.deliver_due_mail() == 50
    receipt = said(ada.get(sent.location))
    assert "Mailed 50 of 9,730." in receipt
    assert "invited 9,730" in receipt
    first = next(one for one in mailbox.mails if one.to == ("guest0@example.net",))
    guest = browse(None)
    link = urlsplit(first.links[0]).path
    assert "Statics" in guest.get(link).text
    assert guest.post(f"{link}/accept").status_code == 303


# --- people the account knows ------------------------------------------------------------

MIXED = """Name;Email;Role;Course
Sam W;sam@example.org;;
Sam W;Tess@Example.org;;Statics
New One;new@example.net;;Statics | Introduction to Structural Geology
Khai;khai@example.net;;Statics
Ivan;ivan@example.org;admin;
Bob;blocked@example.org;;
Lost;lost@example.net;;Statiks
Twin;twin@example.net;;Twins
Who;sam@example.org;Instructor;
Claimed;{claimed};;
"""


def test_people_the_account_knows_get_what_is_new_and_never_a_twin(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, work: Work, mailbox: Mailbox
) -> None:
    lms.launch(browse(None), "sam", "geology")
    ada = browse(cast.ada)
    first = {"name": "", "email": "khai@example.net", "role": "student", "courses": [cast.geology]}
    assert ada.post("/users/invite", first | {"name": "Khai"}).status_code == 303
    work()
    old_link = mailbox.wait_for("khai@example.net").links[0]
    with app.app_context():
        blocked = accounts.add_user(
            cast.account, name="Bob", email="blocked@example.org", mailbox_proven=True
        )
        blocked.blocked_at = now()
        for _ in range(2):
            courses.add_course(cast.account, "Twins")
        db.session.commit()
    claimed = lms.person("sam").email
    path = checked(ada, upload(ada, MIXED.format(claimed=claimed), courses=[cast.geology]))
    shown = rows(ada, path)
    expected = {
        2: "Nothing to do On these lists already",
        3: "Add Has an account; the mail says what was added",
        4: "Statics , Introduction to Structural Geology",
        5: "Pending already Gets what is new; a fresh invitation only if you ask for it",
        6: "Add Has an account and gets a higher role; the mail says so",
        7: "Not taken An admin blocked this person. Unblock them first",
        8: "Not taken No course “Statiks”. Is it “Statics”?",
        9: "Not taken Two courses are called “Twins”. Invite to it on its own",
        10: "Not taken Same address as row 2",
        11: "Invite An LMS says this address is Sam Rivera’s. This makes a second person",
    }
    assert {row: words for row, words in expected.items() if words not in shown[row]} == {}, shown
    assert set(rows(ada, path, show="not-taken")) == {7, 8, 9, 10}
    # In between somebody else invites one of them.
    assert ada.post("/users/invite", first | {"name": "New", "email": "NEW@example.net"}).status_code == 303
    sent = ada.post(path.replace("check", "send"), {"again": "y"})
    work()
    receipt = ada.get(sent.location)
    assert "Is it “Statics”?" in unescape(ada.get(f"{sent.location}?show=unknown_course").text)
    assert receipt.status_code == 200
    with app.app_context():
        outcomes = {row.number: row.outcome for row in db.session.scalars(select(BatchRow))}
        assert outcomes == {
            2: "already",
            3: "added",
            4: "mailed",
            5: "mailed",
            6: "changed",
            7: "blocked",
            8: "unknown_course",
            9: "two_courses",
            10: "duplicate",
            11: "invited",
        }
        assert db.session.get_one(User, cast.ivan).role is Role.ADMIN
        emails = db.session.scalars(select(User.email).where(User.mailbox_proven)).all()
        assert len(emails) == len(set(map(accounts.email_key, emails)))
        held = select(Enrollment.course_id).join(User, User.id == Enrollment.user_id)
        assert set(db.session.scalars(held.where(User.email == "khai@example.net"))) == {
            cast.geology,
            cast.statics,
        }
    khai = mailbox.wait_for("khai@example.net", count=2)
    assert "Statics" in khai.text
    assert "You were added to Statics" in mailbox.wait_for("tess@example.org").subject
    assert "gave you a new role: Admin" in mailbox.wait_for("ivan@example.org").text
    assert browse(None).get(urlsplit(khai.links[0]).path).status_code == 200
    assert browse(None).get(urlsplit(old_link).path).status_code != 200, "the old link stops working"


# --- lists that cannot be read -----------------------------------------------------------


def test_a_list_that_cannot_be_taken_comes_back_with_the_reason_and_what_was_typed(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    ada = browse(cast.ada)

    def refused(content: bytes | str, **form: Any) -> str:
        answer = upload(ada, content, courses=[cast.geology], **form)
        assert answer.status_code == 422
        assert 'aria-invalid="true"' in answer.text
        option = answer.text[answer.text.index(f'<option value="{cast.geology}"') :].split(">")[0]
        assert "selected" in option
        return said(answer)

    limits = "At most 10,000 rows and 2 MB are taken at once"
    assert "There is nobody in it." in refused("")
    assert f"These are 10,001 rows. {limits}" in refused("a@example.net\n" * 10_001)
    assert f"The list is too large. {limits}" in refused(b"x" * (2 * 1024 * 1024 + 1))
    assert "Save it as CSV" in refused(b"PK\x03\x04 workbook")
    assert "This file is not text." in refused(b"a\0b")
    pasted = ada.post(
        "/users/invite-many", {"people": "<b>nobody", "role": "king", "courses": [cast.geology]}
    )
    assert pasted.status_code == 422
    assert "&lt;b&gt;nobody</textarea>" in pasted.text
    assert "not both" in refused("a@example.net", people="b@example.net")
    huge = upload(ada, b"x" * (9 * 1024 * 1024))
    assert huge.status_code == 413
    assert "10,000 rows and 2 MB" in said(huge)
    assert upload(ada, "a@example.net", courses=[999]).status_code == 404
    with app.app_context():
        assert db.session.scalars(select(Batch)).all() == []


def test_columns_are_guessed_told_and_changed(app: Flask, cast: Cast, browse: Browse) -> None:
    ada = browse(cast.ada)
    sent = upload(ada, "Mail\tVorname\tNachname\na@example.net\tÄnne\tMüller\n".encode("utf-16"), "liste.txt")
    page = ada.get(sent.location)
    assert "liste.txt · 1 row · tabs · UTF-16." in said(page)
    for column, field in enumerate(("email", "first", "last")):
        assert re.search(rf'name="column-{column}".*?value="{field}" selected', page.text)
    twice = ada.post(sent.location, {"column-0": "name", "column-1": "name"})
    assert twice.status_code == 422
    assert "Say which column holds the e-mail addresses." in said(twice)
    assert re.search(r'name="column-1".*?value="name" selected', twice.text), "what was chosen is kept"
    assert "Änne Müller" in rows(ada, checked(ada, sent))[2]
    # Without the heading it is a row like any other, and the choice can be changed again.
    again = ada.post(sent.location, {"column-0": "email", "column-2": "name"})
    assert {1: "is not an e-mail address", 2: "Müller"}.items() <= {
        number: next(words for words in ("is not an e-mail address", "Müller") if words in text)
        for number, text in rows(ada, str(again.location)).items()
    }.items()
    windows = upload(ada, "Anne Müller;anne@example.net".encode("cp1252"))
    assert "read as Windows-1252" in said(ada.get(windows.location))
    assert "Lists you have not sent yet" in said(ada.get("/users/invite-many"))
    quotes = upload(ada, 'Sam "x;sam@example.net\n"Pat;pat@example.net\n')
    assert "A quotation mark is opened and never closed" in said(ada.get(quotes.location))


# --- who may -----------------------------------------------------------------------------


def test_only_admins_of_the_account_see_and_send_a_list(app: Flask, cast: Cast, browse: Browse) -> None:
    ada, eve, ivan = browse(cast.ada), browse(cast.eve), browse(cast.ivan)
    path = checked(ada, upload(ada, "Pat;pat@example.net\n"))
    for view in ("columns", "check", "not-taken.csv", "mails"):
        address = path.replace("check", view)
        assert eve.get(address).status_code == 404
        assert ivan.get(address).status_code == 403
    for deed in ("columns", "send"):
        address = path.replace("check", deed)
        assert eve.post(address, {"column-0": "email"}).status_code == 404
        assert ivan.post(address, {"column-0": "email"}).status_code == 403
    assert ivan.get("/users/invite-many").status_code == 403
    assert upload(ivan, "a@example.net").status_code == 403
    assert upload(eve, "a@example.net", courses=[cast.geology]).status_code == 404
    other = ada.post("/users/batches/new/delete", {"user": [cast.sam]})
    number = str(other.location).rpartition("/")[2]
    assert ada.get(f"/users/invite-many/{number}/check").status_code == 404
    # Another account's course is nobody's here, by name as well.
    with app.app_context():
        courses.add_course(cast.other_account, "Oak only")
        db.session.commit()
    oak = checked(ada, upload(ada, "Pat;pat@example.net;student;Oak only\n"))
    assert "No course “Oak only”" in rows(ada, oak)[1]
    sent = ada.post(path.replace("check", "send"))
    with app.app_context():
        # Whoever asked lost the right before it was their turn.
        db.session.get_one(User, cast.ada).role = Role.STUDENT
        db.session.commit()
        jobs.run_queued_batches()
        assert db.session.scalars(select(BatchRow.outcome).where(BatchRow.outcome != "")).all() == ["asker"]
        assert db.session.scalars(select(Invitation)).all() == []
    assert sent.status_code == 303
