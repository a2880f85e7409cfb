"""What somebody tries who means harm: other people's ids, odd values, old rights, two at once, headers."""

import json
import re
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from conftest import TOOL, Browser, Cast, Lms, new_client
from flask import Flask
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from lti_tool import mail
from lti_tool.classroom import accounts, courses, merging
from lti_tool.classroom.accounts import Role, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.connecting import RegistrationLink
from lti_tool.classroom.courses import Context, Course, Enrollment
from lti_tool.classroom.invitations import Invitation
from lti_tool.classroom.sessions import Session
from lti_tool.classroom.syncs import SyncRun
from lti_tool.database import db
from lti_tool.lti import registrations
from lti_tool.pages import visitor

Browse = Callable[[int | None], Browser]

# Reached without signing in, and about nobody's things: everything else asks who is there.
OPEN_TO_ALL = {
    "static",
    "courses.home",
    "health",
    "launch",
    "registering",
    # A sealed form speaks for it; without one every address of it answers 410.
    "picking",
    "sign_in",
    "invitations",
    "privacy",
    "windows.open_window",
}
# What these change is one's own: tests/test_me_page.py and tests/test_account_settings.py look at them.
ONES_OWN = {
    "me.show",
    "me.change",
    "me.export",
    "me.end_other_sessions",
    "me.end_every_session",
    "account_settings.change",
}
MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture
def theirs(app: Flask, cast: Cast, lms: Lms, browse: Browse, work: Callable[[], None]) -> dict[str, Any]:
    """One of each thing of the first account that an address can name."""
    course = lms.launch(browse(None), "ivan", "geology").location.rpartition("/")[2]
    ada = browse(cast.ada)
    ada.post(f"/courses/{course}/roster/sync")
    work()
    ada.post("/users/invite", {"name": "Guest", "email": "guest@example.org", "role": "student"})
    ada.post("/lms/connect/links")
    listed = ada.post("/users/invite-many", {"people": "Una <una@example.org>", "role": "student"}).location
    ada.post(listed, {"column-0": "email"})
    with app.app_context():
        waiting = registrations.note_deployment(
            db.session.get_one(registrations.Registration, lms.registration_id), "waits"
        )
        run = db.session.scalars(select(SyncRun)).first()
        guest = accounts.find_by_mailbox(cast.account, "guest@example.org")
        assert run is not None
        assert guest is not None
        twins = [accounts.add_user(cast.account, name=f"Twin {number}") for number in (1, 2)]
        merged = merging.merge(twins[0], twins[1])
        db.session.commit()
        return {
            "course_id": int(course),
            "run_id": run.id,
            "tie_id": run.context_id,
            "kind": "added",
            "user_id": guest.id,
            "other_id": cast.tess,
            "merge_id": merged.id,
            "batch_id": int(listed.split("/")[3]),
            "deed": "delete",
            "invitation_id": db.session.scalars(select(Invitation.id).filter_by(user_id=guest.id)).one(),
            "of_course": int(course),
            "session_id": db.session.scalars(select(Session.id).filter_by(user_id=cast.ada)).one(),
            "plan_id": cast.plan,
            "registration_id": lms.registration_id,
            "deployment_id": waiting.id,
            "link_id": db.session.scalars(select(RegistrationLink.id)).one(),
            "token": "nobody-issued-this",
            "name": "__Host-dl-state-x",
            "filename": "nothing",
        }


def is_open_to_all(rule: Rule) -> bool:
    return rule.endpoint in OPEN_TO_ALL or rule.endpoint.split(".")[0] in OPEN_TO_ALL


def rules(app: Flask, method: str) -> list[Rule]:
    return [
        rule
        for rule in app.url_map.iter_rules()
        if method in (rule.methods or ()) and not rule.websocket and rule.endpoint.split(".")[0] != "health"
    ]


def address(app: Flask, rule: Rule, values: dict[str, Any]) -> str:
    with app.test_request_context():
        built = app.url_map.bind("tool.example").build(
            rule.endpoint, {name: values[name] for name in rule.arguments}
        )
    return str(built).removeprefix("http://tool.example")


def everything(app: Flask) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table but those that the asking itself may touch."""
    left_out = {"session", "sign_in_code", "tool_key"}
    with app.app_context():
        return {
            name: sorted((tuple(map(str, row)) for row in db.session.execute(select(table))), key=str)
            for name, table in db.metadata.tables.items()
            if name not in left_out
        }


# --- other people's things ---------------------------------------------------------------


def test_every_address_with_another_accounts_ids_is_nothing_to_eve_and_to_nobody(
    app: Flask, cast: Cast, browse: Browse, theirs: dict[str, Any]
) -> None:
    forms = {
        "course": theirs["course_id"],
        "courses": theirs["course_id"],
        "plan": theirs["plan_id"],
        "role": "student",
        "name": "Taken",
        "email": "sam@example.org",
        "confirm": "Guest",
        "on": "0",
    }
    eve, nobody = browse(cast.eve), browse(None)
    before = everything(app)
    asked = 0
    for method in ("GET", "POST"):
        for rule in rules(app, method):
            if rule.endpoint == "sign_in.sign_out" or (method == "POST" and rule.endpoint in ONES_OWN):
                continue
            url = address(app, rule, theirs)
            for who in (eve, nobody):
                for headers in ({}, {"HX-Request": "true"}):
                    ask = who.get if method == "GET" else who.post
                    data: dict[str, Any] = {} if method == "GET" else {"data": forms}
                    answer: TestResponse = ask(url, headers=headers, **data)
                    assert answer.status_code < 500, (method, url)
                    if is_open_to_all(rule):
                        continue
                    named = rule.arguments & theirs.keys() - {"deed"}
                    if who is eve and not named:
                        # Pages of her own account: none of ours is on them, and no id of ours taken.
                        refused = (404, 409, 410, 422, 429)
                        assert method == "GET" or answer.status_code in (200, 303, *refused), (method, url)
                    elif answer.status_code in (302, 303):
                        assert who is nobody, (method, url)
                        assert answer.location.startswith("/sign-in"), (method, url)
                    else:
                        expected = {401, 403, 404} if who is nobody else {403, 404}
                        assert answer.status_code in expected, (method, url, answer.status_code)
                    # What the form for many shows as an example is nobody.
                    said = answer.text.replace("Sam Whitfield; sam@example.org", "")
                    for known in ("Linden", "Structural", "Sam Whitfield", "Guest", "guest@example.org"):
                        assert known not in said, (method, url, known)
                    asked += 1
    assert asked > 150
    assert eve.get("/users").status_code == 200, "she was signed in until the end"
    after = everything(app)
    with app.app_context():
        own = {str(course.id) for course in courses.list_courses(cast.other_account)}
    # What Eve's posts made is in her own account; of the first one nothing moved.
    for name, rows in before.items():
        gone = set(rows) - set(after[name])
        assert not gone, (name, gone)
    assert len(own) <= 4


def test_a_student_reaches_nothing_that_is_for_staff(
    app: Flask, cast: Cast, browse: Browse, theirs: dict[str, Any]
) -> None:
    may = (ONES_OWN - {"account_settings.change"}) | {
        "courses.directory",
        "courses.show",
        "courses.door",
        "rooms.room",
        "rooms.door",
        "windows.issue_ticket",
        "windows.enter_window",
        "sign_in.sign_out",
        # About oneself alone.
        "linking.code",
        "linking.enter_code",
        "linking.mailbox",
        "linking.ask_mailbox",
        "linking.link_own",
        "linking.refuse",
    }
    sam = browse(cast.sam)
    before = everything(app)
    for method in ("GET", "POST"):
        for rule in rules(app, method):
            if is_open_to_all(rule) or rule.endpoint in may:
                continue
            for course_id in (cast.geology, cast.statics):
                url = address(app, rule, theirs | {"course_id": course_id, "user_id": cast.sam})
                answer = (
                    sam.get(url)
                    if method == "GET"
                    else sam.post(url, {"role": "owner", "name": "Sam", "plan": cast.plan})
                )
                # A socket is refused for its origin before anything else.
                assert answer.status_code in (403, 404), (method, url, answer.status_code)
    assert everything(app) == before


def test_rights_that_ended_end_at_the_next_request(app: Flask, cast: Cast, browse: Browse, lms: Lms) -> None:
    ivan, sam = browse(cast.ivan), browse(cast.sam)
    launched = browse(None)
    course = lms.launch(launched, "ivan", "geology").location
    assert ivan.get(f"/courses/{cast.geology}/roster").status_code == 200
    assert sam.get(f"/courses/{cast.geology}").status_code == 200
    assert launched.get(course).status_code == 200
    ada = browse(cast.ada)
    for user_id in (cast.ivan, cast.sam):
        ada.post(f"/users/{user_id}/courses/{cast.geology}/remove")
    ada.post(f"/lms/{lms.registration_id}/remove")
    assert ivan.get(f"/courses/{cast.geology}/roster").status_code == 404
    assert sam.get(f"/courses/{cast.geology}").status_code == 404
    assert launched.get(course).location.startswith("/sign-in")


# --- odd values --------------------------------------------------------------------------

HUGE = "99999999999999999999999999"
ODD = [HUGE, f"-{HUGE}", "2147483648", "-1", "", "%'\\", "//[", "é " * 300]
NAMES = ["q", "role", "status", "course", "sort", "after", "before", "from", "next", "lms", "more", "email"]


def test_no_odd_value_in_an_address_breaks_a_page(
    app: Flask, cast: Cast, browse: Browse, theirs: dict[str, Any]
) -> None:
    ada = browse(cast.ada)
    for rule in rules(app, "GET"):
        url = address(app, rule, theirs)
        if "socket" in url:
            continue
        for odd in ODD:
            answer = ada.get(url, query_string=dict.fromkeys(NAMES, odd), buffered=True)
            assert answer.status_code < 500, (url, odd)


def test_no_odd_value_in_a_form_breaks_a_page(
    app: Flask, cast: Cast, browse: Browse, theirs: dict[str, Any]
) -> None:
    fields = [*NAMES, "plan", "courses", "name", "confirm", "code", "ticket", "deployments", "issuer"]
    for rule in rules(app, "POST"):
        if rule.endpoint.startswith("launch."):
            continue
        url = address(app, rule, theirs)
        for odd in ODD:
            answer = browse(cast.ada).post(url, dict.fromkeys(fields, odd), buffered=True)
            assert answer.status_code < 500, (url, odd)


@pytest.mark.parametrize("wish", ["//[", "http://[", "/a\nb", "/a\r\nSet-Cookie: x=1", "/\t/evil.example"])
def test_an_address_to_go_on_to_that_is_none_leads_to_the_courses(
    cast: Cast, browse: Browse, wish: str
) -> None:
    ada = browse(cast.ada)
    answer = ada.post(f"/courses/{cast.geology}/plan/free", {"next": wish})
    assert (answer.status_code, answer.location) == (303, "/courses")


def test_an_origin_that_is_no_address_is_refused(cast: Cast, browse: Browse) -> None:
    answer = browse(cast.ada).client.post("/ticket", data={"ticket": "x"}, headers={"Origin": "http://["})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "host",
    ["evil.example; script-src *", "evil.example;script-src", "bł.example", "*", "[::1];x", "a[::1]"],
)
def test_no_address_of_an_lms_writes_into_our_headers(cast: Cast, browse: Browse, host: str) -> None:
    urls = dict.fromkeys(("issuer", "auth_url", "token_url", "jwks_url"), f"https://{host}/lti")
    answer = browse(cast.ada).post("/lms/connect", {"name": "Evil", "client_id": "1", **urls})
    assert answer.status_code == 422
    assert "This is not a whole address" in answer.text


# --- whose browser it is -----------------------------------------------------------------


def test_no_page_of_another_site_signs_a_window_in_by_a_ticket(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    """A sandboxed frame withholds its origin, and older browsers say no more than that."""
    eve = browse(cast.eve)
    for headers in (
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "null"},
        {"Sec-Fetch-Site": "same-site", "Origin": "https://evil.tool.example"},
    ):
        ticket = eve.post("/tickets", headers={"Accept": "application/json"}).get_json()["ticket"]
        victim = new_client(app)
        answer = victim.post("/ticket", data={"ticket": ticket}, headers=headers)
        assert answer.status_code == 403, headers
        assert victim.get_cookie(visitor.OWN_COOKIE) is None


@pytest.mark.parametrize("token", ["", "x", "0" * 64, "A" * 43, "é" * 40, "A" * 3000])
def test_53_a_made_up_token_signs_nobody_in(app: Flask, cast: Cast, token: str) -> None:
    client = new_client(app)
    client.set_cookie(visitor.OWN_COOKIE, token, secure=True)
    client.set_cookie(visitor.LAUNCH_COOKIE, token, secure=True)
    assert client.get("/courses").headers["Location"].startswith("/sign-in")
    ours = {"Sec-Fetch-Site": "same-origin"}
    spent = client.post("/ticket", data={"ticket": token}, headers=ours)
    assert spent.status_code == 403
    assert 'data-error="ticket_spent"' in spent.text
    assert client.get(f"/courses/{cast.geology}").status_code == 303


def test_signing_out_leaves_no_message_for_the_next_person(cast: Cast, browse: Browse) -> None:
    ada = browse(cast.ada)
    ada.post(f"/users/{cast.tess}", {"name": "Tess Secret", "role": "student"})
    ada.post(f"/courses/{cast.geology}/plan/free")
    ada.post("/sign-out")
    form = ada.client.get_cookie("__Host-doorlist-form")
    assert form is None or "_flashes" not in ada.get("/sign-in").text
    with ada.client.session_transaction(base_url=TOOL) as kept:
        assert "_flashes" not in kept


# --- addresses ---------------------------------------------------------------------------


def test_another_spelling_of_a_mailbox_does_not_lift_the_limit(
    cast: Cast, browse: Browse, work: Callable[[], None], mailbox: Any
) -> None:
    spellings = ["sam@example.org", "sam@EXAMPLE.org", "sam@ｅxample.org", "sam@eｘample.org"]
    spellings += [" sam@exaｍple.org", "sam@examｐle.org", "sam@exampｌe.org"]
    answers = [browse(None).post("/sign-in", {"email": one}).status_code for one in spellings]
    assert answers == [303] * 5 + [429] * 2


def test_links_in_mails_and_redirects_come_from_the_setting_and_not_from_the_host_header(
    app: Flask, cast: Cast, browse: Browse, work: Callable[[], None], mailbox: Any
) -> None:
    poisoned = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    sent = browse(None)
    page = sent.client.get("/sign-in", base_url="https://evil.example")
    token = re.search(r'name="csrf-token" content="([^"]+)"', page.text)
    assert token
    answer = sent.client.post(
        "/sign-in",
        data={"email": "sam@example.org", "csrf_token": token[1]},
        base_url="https://evil.example",
        headers={"X-Forwarded-Host": "evil.example", "Sec-Fetch-Site": "same-origin"},
    )
    assert (answer.status_code, answer.location) == (303, "/sign-in/code")
    work()
    caught = mailbox.wait_for("sam@example.org")
    assert all(link.startswith(f"{TOOL}/") for link in caught.links)
    assert "evil.example" not in str(caught)
    assert "evil.example" not in browse(cast.ada).get("/lms/connect", headers=poisoned).text


# --- what is shown -----------------------------------------------------------------------


def test_markup_in_any_name_is_text_on_every_page_and_in_every_mail(
    app: Flask,
    cast: Cast,
    browse: Browse,
    theirs: dict[str, Any],
    work: Callable[[], None],
    mailbox: Any,
) -> None:
    with app.app_context():
        for user in db.session.scalars(select(User).filter_by(account_id=cast.account)):
            accounts.rename(user, name=f"{MARKUP} {user.id}", email=user.email)
        for course in db.session.scalars(select(Course).filter_by(account_id=cast.account)):
            course.name, course.summary, course.description = MARKUP, MARKUP, MARKUP
        registration = db.session.get_one(registrations.Registration, theirs["registration_id"])
        registration.name, registration.family = MARKUP, MARKUP
        db.session.get_one(registrations.Deployment, theirs["deployment_id"]).deployment_id = MARKUP
        db.session.get_one(accounts.Account, cast.account).name = MARKUP
        run = db.session.get_one(SyncRun, theirs["run_id"])
        run.receipt = json.loads(json.dumps(run.receipt).replace("Petr", MARKUP.replace('"', "")))
        db.session.commit()
    shown = 0
    for who in (cast.ada, cast.ivan, cast.sam):
        browser = browse(who)
        for rule in rules(app, "GET"):
            url = address(app, rule, theirs | {"course_id": cast.geology} if who != cast.ada else theirs)
            if rule.websocket or "socket" in url or "/kind" in url:
                continue
            for headers in ({}, {"HX-Request": "true"}, {"HX-Request": "true", "HX-Target": "list"}):
                asked = {"q": MARKUP} if headers else {}
                answer = browser.get(url, headers=headers, query_string=asked, buffered=True)
                assert answer.status_code < 500, url
                if answer.mimetype == "text/html":
                    assert MARKUP not in answer.text, url
                    assert "<img" not in answer.text, url
                    shown += "&lt;img" in answer.text
    assert shown > 30
    ada = browse(cast.ada)
    ada.post(
        "/users/invite",
        {"name": MARKUP, "email": "new@example.org", "role": "student", "courses": theirs["course_id"]},
    )
    work()
    caught = mailbox.wait_for("new@example.org")
    assert "<img" not in caught.html
    link = caught.links[0]
    assert "<img" not in browse(None).get(link).text
    assert "<img" not in browse(None).post(f"{link}/decline").text


def test_a_mail_to_what_is_no_address_is_given_up_and_holds_up_nobody(
    app: Flask, cast: Cast, work: Callable[[], None], mailbox: Any
) -> None:
    """An LMS may claim anything as an address, of its admins too."""
    for to in ("ü@example.org", "a@x.org\nBcc: z@example.org", "nothing", "a@" + "ü" * 80 + ".org", "a@b@c"):
        with app.app_context():
            mail.queue_declined(
                to=to, name="X", account="Linden", invited="Y", about=f"user:{cast.ada}", locale="en"
            )
            db.session.commit()
    with app.app_context():
        mail.queue_declined(
            to="ada@example.org", name="X", account="L", invited="Y", about="user:1", locale="en"
        )
        db.session.commit()
    work()
    assert mailbox.wait_for("ada@example.org")
    assert (
        not [one for one in mailbox.mails if "z@example.org" in one.to] if hasattr(mailbox, "mails") else True
    )


def test_an_error_inside_tells_the_log_no_values(app: Flask, cast: Cast) -> None:
    with app.app_context():
        with pytest.raises(DBAPIError) as raised:
            db.session.execute(db.text("SELECT :name FROM no_such_table"), {"name": "Sam Whitfield"})
        assert "Sam Whitfield" not in str(raised.value)


def test_the_audit_log_holds_neither_addresses_nor_tokens(
    app: Flask, cast: Cast, browse: Browse, theirs: dict[str, Any], work: Callable[[], None], mailbox: Any
) -> None:
    ada = browse(cast.ada)
    work()
    token = mailbox.wait_for("guest@example.org").links[0].rpartition("/")[2]
    ada.post(f"/users/{theirs['user_id']}/invitation/resend")
    ada.post(f"/users/{cast.sam}", {"name": "Samuel", "role": "instructor"})
    ada.post(f"/users/{cast.tess}/delete", {"confirm": "Tess van der Meulen"})
    ada.post(f"/users/{theirs['user_id']}/invitation/withdraw")
    ada.post("/courses/new", {"name": "By hand"})
    with app.app_context():
        events = list(db.session.scalars(select(AuditEvent)))
        written = " ".join(f"{e.action} {e.target} {e.before} {e.after}" for e in events)
    assert {"user.invited", "user.renamed", "role.changed", "user.erased", "invitation.withdrawn"} <= {
        e.action for e in events
    }
    assert "course.added" in written
    assert token not in written
    assert "@" not in written
    assert "Tess" not in written


# --- two at once -------------------------------------------------------------------------


def at_once(*deeds: Callable[[], object]) -> list[object]:
    """What each of `deeds` gives or raises, begun at the same moment, each in a transaction of its own."""
    outcomes: list[object] = [None] * len(deeds)
    start = threading.Barrier(len(deeds))

    def run(number: int, deed: Callable[[], object]) -> None:
        start.wait()
        try:
            outcomes[number] = deed()
        except Exception as error:  # noqa: BLE001 # whatever it is, the test shows it
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(deeds)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_the_last_two_owners_cannot_remove_each_other_at_once(app: Flask, cast: Cast, browse: Browse) -> None:
    for _ in range(5):
        with app.app_context():
            second = accounts.add_user(cast.account, name="Second Owner", role=Role.OWNER)
            db.session.commit()
            second_id = second.id
        ada, other = browse(cast.ada), browse(second_id)
        ada.get("/users"), other.get("/users")
        ada.post("/nothing"), other.post("/nothing")
        outcomes = at_once(
            partial(ada.post, f"/users/{second_id}", {"name": "Second", "role": "admin"}),
            partial(other.post, f"/users/{cast.ada}/delete", {"confirm": "Ada Okonkwo"}),
        )
        with app.app_context():
            assert all(not isinstance(one, Exception) for one in outcomes), outcomes
            owners = accounts.owners(cast.account)
            assert len(owners) == 1
            if db.session.get(User, cast.ada) is None:
                return
            keep = db.session.get_one(User, cast.ada)
            keep.role = Role.OWNER
            for one in db.session.scalars(select(User).filter_by(name="Second")):
                one.role = Role.STUDENT
            db.session.commit()


def test_answers_and_withdrawal_of_an_invitation_at_once_leave_one_outcome(
    app: Flask, cast: Cast, browse: Browse, work: Callable[[], None], mailbox: Any
) -> None:
    for turn in range(6):
        address = f"guest{turn}@example.org"
        ada = browse(cast.ada)
        ada.post("/users/invite", {"name": "Guest", "email": address, "role": "student"})
        work()
        link = mailbox.wait_for(address).links[0].removeprefix(TOOL)
        with app.app_context():
            guest = accounts.find_by_mailbox(cast.account, address)
            assert guest is not None
            guest_id = guest.id
        one, two = browse(None), browse(None)
        one.post("/nothing"), two.post("/nothing")
        outcomes = at_once(
            lambda one=one, link=link: one.post(f"{link}/accept").status_code,
            lambda two=two, link=link: two.post(f"{link}/decline").status_code,
            lambda ada=ada, guest_id=guest_id: ada.post(f"/users/{guest_id}/invitation/withdraw").status_code,
        )
        assert all(isinstance(status, int) and status < 500 for status in outcomes), outcomes


def test_many_first_launches_of_one_course_at_once_make_one_course(
    app: Flask, cast: Cast, lms: Lms, browse: Browse
) -> None:
    who = ["ivan", "sam", "tess", "ivan", "sam", "tess"]
    outcomes = at_once(
        *(lambda person=person: lms.launch(browse(None), person, "geology").status_code for person in who),
    )
    assert outcomes == [303] * len(who)
    with app.app_context():
        assert len(list(db.session.scalars(select(Context)))) == 1
        held = [
            one.user_id for one in db.session.scalars(select(Enrollment).where(Enrollment.context_id > 0))
        ]
        assert len(held) == len(set(held)) == 3


def test_a_person_deleted_by_two_admins_at_once_is_deleted(app: Flask, cast: Cast, browse: Browse) -> None:
    with app.app_context():
        second = accounts.add_user(cast.account, name="Second Owner", role=Role.OWNER)
        db.session.commit()
        second_id = second.id
    both = [browse(cast.ada), browse(second_id)]
    for one in both:
        one.post("/nothing")
    outcomes = at_once(
        *(
            lambda one=one: (
                one.post(f"/users/{cast.tess}/delete", {"confirm": "Tess van der Meulen"}).status_code
            )
            for one in both
        ),
    )
    assert sorted(outcomes, key=str)[0] == 303, outcomes
    assert all(isinstance(status, int) and status < 500 for status in outcomes), outcomes
