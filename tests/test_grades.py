"""The gradebook over its service: Moodle's and Canvas's ways, failures by name, and where the token goes."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from conftest import Lms
from flask import Flask
from test_memberships import FakeService

from lti_tool.database import db
from lti_tool.lti import registrations, services
from lti_tool.lti.claims import GRADEBOOK, Gradebook, _gradebook
from lti_tool.lti.grades import (
    GradebookService,
    GradebookUnavailable,
    LineItem,
    LineItemGone,
    ScopeMissing,
    Score,
    scores_url,
)
from lti_tool.lti.registrations import Registration
from lti_tool.lti.scopes import LINE_ITEMS, LINE_ITEMS_READ, SCORES
from lti_tool.practice_lms import Platform, serve
from lti_tool.practice_lms import create_app as create_lms
from lti_tool.practice_lms.gradebook import GRADEBOOK_SCOPES

RECORDED = Path(__file__).parent / "recorded" / "moodle-4.5"
AT = datetime(2026, 11, 23, 9, 52, 40, 861_000, tzinfo=timezone(timedelta(hours=1)))
With = Callable[[], GradebookService]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "BACKOFF", (0.01, 0.02))


@pytest.fixture
def lms(lms: Lms) -> Platform:
    lms.platform.registration().scopes = GRADEBOOK_SCOPES
    return lms.platform


@pytest.fixture
def open_book(app: Flask, lms: Platform) -> Iterator[With]:
    """open_book() is geology's gradebook as a launch just named it."""

    def run(**changed: Any) -> GradebookService:
        told = {**lms.claims("sam", "geology")[GRADEBOOK], **changed}
        registration = db.session.scalars(db.select(Registration)).one()
        gradebook = _gradebook(told)
        assert gradebook is not None
        return GradebookService(registrations.Platform.of(registration), gradebook)

    with app.app_context():
        yield run
        db.session.rollback()


def named(label: str, **facts: Any) -> LineItem:
    return LineItem("", label, 100, **facts)


def test_a_column_is_made_found_changed_scored_and_taken_away_in_moodle(
    lms: Platform, open_book: With
) -> None:
    book = open_book()
    made = book.create_item(named("Attendance", resource_id="course-7", tag="attendance"))
    # Moodle's address has a query, and /scores goes before it.
    assert made.url.endswith("/lineitem?type_id=1")
    assert book.find_item(resource_id="course-7", tag="attendance") == made
    assert book.find_item(resource_id="course-7", tag="other") is None
    book.update_item(LineItem(made.url, "Presence", 10, resource_id="course-7", tag="attendance"))
    (held,) = book.list_items()
    assert (held.label, held.score_maximum) == ("Presence", 10)
    book.post_score(made.url, Score("5", AT, given=8, maximum=10, comment="42 minutes"))
    book.post_score(made.url, Score("5", AT + timedelta(seconds=1), activity="InProgress", grading="Pending"))
    (item,) = lms.gradebook.items("2")
    assert item.scores[0] == {
        "userId": "5",
        "timestamp": "2026-11-23T08:52:40.861Z",
        "activityProgress": "Completed",
        "gradingProgress": "FullyGraded",
        "scoreGiven": 8,
        "scoreMaximum": 10,
        "comment": "42 minutes",
    }
    assert "scoreGiven" not in item.scores[1]
    book.delete_item(made)
    assert lms.gradebook.items("2") == []
    for deed in (
        lambda: book.post_score(made.url, Score("5", AT)),
        lambda: book.update_item(made),
        lambda: book.delete_item(made),
    ):
        with pytest.raises(LineItemGone):
            deed()


def test_pages_are_followed_as_moodle_and_as_canvas_write_them(
    app: Flask, lms: Platform, open_book: With
) -> None:
    for number in range(23):
        lms.gradebook.add("2", {"label": f"Column {number}", "scoreMaximum": 1})
    # Typographic quotes and &amp; in the Link header.
    moodle = open_book(lineitems=f"{lms.server_url}/courses/2/lineitems?type_id=1&limit=5")
    assert len(moodle.list_items()) == 23
    assert len(lms.requests_to("/courses/2/lineitems")) == 5
    canvas = Platform(flavour="canvas")
    with serve(create_lms(canvas)):
        tool = canvas.connect_tool("canvas-client", ["1"], launch_url="x", scopes=GRADEBOOK_SCOPES)
        tool.jwks = lms.registration().jwks
        registration = registrations.add_registration(
            name="Canvas",
            issuer=canvas.issuer,
            client_id="canvas-client",
            auth_url=canvas.auth_url,
            token_url=canvas.token_url,
            jwks_url=canvas.jwks_url,
        )
        db.session.commit()
        gradebook = _gradebook(canvas.claims("sam", "geology")[GRADEBOOK])
        assert gradebook is not None
        book = GradebookService(registrations.Platform.of(registration), gradebook)
        for number in range(12):
            canvas.gradebook.add("2", {"label": f"Column {number}", "scoreMaximum": 1})
        assert len(book.list_items()) == 12
        made = book.create_item(named("Attendance"))
        assert made.url.endswith("/lineitems/13")
        book.post_score(made.url, Score("5", AT, given=1, maximum=1))
        assert canvas.gradebook.items("2")[-1].scores


def test_a_recorded_moodle_is_understood(app: Flask, lms: Platform, service: FakeService) -> None:
    """Its answers as they were, from another address."""
    calls = json.loads((RECORDED / "ags-deeplinked-teacher1.json").read_text("utf-8"))
    home = "https://moodle.localhost:8443/mod/lti/services.php/2"

    def moved(value: Any) -> Any:
        return json.loads(json.dumps(value).replace(home, service.url))

    paged, created = calls[-1], calls[1]
    service.says({"access_token": "token"})
    service.says(moved(paged["body"]), Link=moved(paged["headers"]["Link"]))
    service.says([])
    service.says(moved(created["body"]), 201)
    # Scores have a scope, and so a token, of their own.
    service.says({"access_token": "token"})
    service.says("", 200)
    with app.app_context():
        registration = db.session.scalars(db.select(Registration)).one()
        registration.token_url = service.url
        book = GradebookService(
            registrations.Platform.of(registration),
            Gradebook(f"{service.url}/lineitems?type_id=1&limit=1", None, (LINE_ITEMS, SCORES)),
        )
        (item,) = book.list_items()
        assert (item.tag, item.resource_id, item.score_maximum) == ("attendance", "room-1", 10)
        assert service.asked[2][0].endswith("/lineitems?type_id=1&limit=1&from=1")
        made = book.create_item(named("Attendance 7064", resource_id="r1", tag="att"))
        assert made.url == f"{service.url}/lineitems/4/lineitem?type_id=1"
        book.post_score(made.url, Score("6", AT, given=80, maximum=100))
        assert service.asked[-1][0].endswith("/lineitems/4/lineitem/scores?type_id=1")


@pytest.fixture
def service() -> Iterator[FakeService]:
    fake = FakeService()
    yield fake
    fake.server.stop()


@pytest.mark.parametrize(
    ("item", "scores"),
    [
        ("https://lms.example/a/3/lineitem?type_id=1", "https://lms.example/a/3/lineitem/scores?type_id=1"),
        ("https://lms.example/a/3", "https://lms.example/a/3/scores"),
        ("https://lms.example/a/3/", "https://lms.example/a/3/scores"),
    ],
)
def test_scores_go_before_the_query(item: str, scores: str) -> None:
    assert scores_url(item) == scores


def test_48_the_token_goes_to_no_other_host(lms: Platform, open_book: With, service: FakeService) -> None:
    lms.gradebook.add("2", {"label": "Column", "scoreMaximum": 1})
    book = open_book()
    for fault in ("foreign_next", "foreign_item"):
        lms.faults.grades, lms.faults.foreign_url = fault, service.url
        with pytest.raises(GradebookUnavailable, match="foreign_address"):
            book.post_score(book.list_items()[0].url, Score("5", AT))
    for url in (service.url, lms.server_url.replace("http:", "https:") + "/courses/2/lineitems/1", "ftp:x"):
        for deed in (
            lambda url=url: book.post_score(url, Score("5", AT)),
            lambda url=url: book.update_item(LineItem(url, "x", 1)),
            lambda url=url: book.delete_item(LineItem(url, "x", 1)),
        ):
            with pytest.raises(GradebookUnavailable):
                deed()
    assert service.asked == []


def test_47_an_address_inside_is_not_asked(app: Flask, lms: Platform, open_book: With) -> None:
    book = open_book(lineitems="https://10.0.0.7/lineitems")
    app.extensions["lti.outgoing"] = {}
    app.config["ALLOW_PRIVATE_PLATFORMS"] = False
    before = len(lms.requests_to("/"))
    with pytest.raises(GradebookUnavailable):
        book.list_items()
    assert len(lms.requests_to("/")) == before


@pytest.mark.parametrize(
    ("fault", "reason", "asked"),
    [
        ("403", "gradebook_refused status 403", 1),
        ("401", "gradebook_refused status 401", 2),
        ("500", "gradebook_refused status 500", 3),
        ("429", "gradebook_refused status 429", 3),
        ("html", "html_answer status 200", 1),
        ("garbage", "not_json status 200", 1),
        ("gone", "gradebook_refused status 404", 1),
    ],
)
def test_failures_have_names_and_a_limit(
    lms: Platform, open_book: With, fault: str, reason: str, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_retry_after", lambda text: 0.0)
    book = open_book()
    lms.faults.grades = fault
    with pytest.raises(GradebookUnavailable) as raised:
        book.list_items()
    assert str(raised.value) == reason
    assert len(lms.requests_to("/courses/2/lineitems")) == asked


def test_what_passes_is_tried_again_but_a_column_is_made_once(lms: Platform, open_book: With) -> None:
    book = open_book()
    for fault in ("500 once", "401 once"):
        lms.faults.grades = fault
        assert book.list_items() == []
    lms.faults.grades = "500 once"
    with pytest.raises(GradebookUnavailable):
        book.create_item(named("Attendance"))
    lms.tokens.revoke_all()
    made = book.create_item(named("Attendance"))
    assert [item.label for item in lms.gradebook.items("2")] == ["Attendance"]
    lms.faults.grades = "503 once"
    book.post_score(made.url, Score("5", AT, given=1, maximum=1))
    assert len(lms.gradebook.items("2")[0].scores) == 1


def test_68_what_was_not_granted_is_not_asked_for(lms: Platform, open_book: With) -> None:
    lms.gradebook.add("2", {"label": "Column", "scoreMaximum": 1})
    reading = open_book(scope=[LINE_ITEMS_READ])
    (item,) = reading.list_items()
    before = len(lms.requests_to("/courses/2/lineitems"))
    for deed in (
        lambda: reading.create_item(named("x")),
        lambda: reading.delete_item(item),
        lambda: reading.post_score(item.url, Score("5", AT)),
    ):
        with pytest.raises(ScopeMissing):
            deed()
    assert len(lms.requests_to("/courses/2/lineitems")) == before
    # The launch promised it, the token service does not give it.
    promised = open_book()
    lms.registration().scopes = frozenset({LINE_ITEMS_READ})
    with pytest.raises(ScopeMissing):
        promised.post_score(item.url, Score("5", AT))


@pytest.mark.parametrize(
    ("claim", "read"),
    [
        ({}, None),
        ({"scope": [LINE_ITEMS]}, None),
        ({"lineitems": 7, "lineitem": ""}, None),
        ({"lineitems": "https://lms.example/x\n"}, None),
        ({"lineitems": "https://lms.example/x"}, Gradebook("https://lms.example/x", None, ())),
        (
            {"lineitem": "https://lms.example/x", "scope": [SCORES, 7, None, LINE_ITEMS, SCORES]},
            Gradebook(None, "https://lms.example/x", (LINE_ITEMS, SCORES)),
        ),
        (
            {"lineitems": "https://lms.example/x", "scope": "all of them"},
            Gradebook("https://lms.example/x", None, ()),
        ),
    ],
)
def test_the_claim_is_read_with_care(claim: dict[str, Any], read: Gradebook | None) -> None:
    assert _gradebook(claim) == read


def test_a_score_of_now_has_milliseconds_and_a_zone(lms: Platform, open_book: With) -> None:
    book = open_book()
    made = book.create_item(named("Attendance"))
    book.post_score(made.url, Score("5", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)))
    assert lms.gradebook.items("2")[0].scores[0]["timestamp"] == "2026-01-02T03:04:05.000Z"
