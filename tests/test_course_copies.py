"""LMS courses that are copied, share a course, or are moved to another one."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Browser, Cast, Lms
from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from test_deep_linking import ask, choose, course_ids, items_of

from lti_tool import jobs
from lti_tool.classroom import courses, moves, plans, syncs
from lti_tool.classroom.accounts import User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.courses import Context, Course, Enrollment, Source
from lti_tool.classroom.syncs import SyncRun, SyncState
from lti_tool.database import db
from lti_tool.lti import deep_linking
from lti_tool.practice_lms.deep_linking import place
from lti_tool.practice_lms.people import Link

Browse = Callable[[int | None], Browser]


@pytest.fixture
def picked(app: Flask, browse: Browse, lms: Lms) -> list[Link]:
    """Geology has links to its own room and to one more; its course says something of itself."""
    page = ask(lms, browse(None))
    geology = course_ids(app)["Geology"]
    items = items_of(choose(page, app, room=[str(geology), "new"], name="Field trip"), lms)
    with app.app_context():
        course = db.session.get_one(Course, geology)
        course.summary, course.description = "Rocks", "And how they fold"
        courses.activate(course, plans.grant(course.account, seats=5, name="P"))
        db.session.commit()
    return place(lms.platform, "geology", items)


def opened(lms: Lms, browse: Browse, person: str, course: str, **login: Any) -> int:
    """The course that a launch opens."""
    answer = lms.launch(browse(None), person, course, **login)
    assert answer.status_code == 303, answer.text
    return int(answer.location.rpartition("/")[2])


def people_in(app: Flask, course_id: int) -> set[str]:
    with app.app_context():
        return set(
            db.session.scalars(
                select(User.name)
                .join(Enrollment, Enrollment.user_id == User.id)
                .where(Enrollment.course_id == course_id, Enrollment.ended_at.is_(None))
            )
        )


# --- copies ------------------------------------------------------------------------------


def test_a_copied_courses_links_open_rooms_of_its_own_without_people_or_plan(
    app: Flask, browse: Browse, lms: Lms, picked: list[Link]
) -> None:
    for link in picked:
        lms.launch(browse(None), "sam", "geology", link=link)
    before = course_ids(app)
    copy = lms.copy_course("geology", "ivan")
    lms.enroll(copy, "tess", "student")
    main_link, extra_link = lms.links(copy)
    assert main_link.custom == picked[0].custom
    main = opened(lms, browse, "ivan", copy, link=main_link)
    extra = opened(lms, browse, "tess", copy, link=extra_link)
    assert len({main, extra, *before.values()}) == len(before) + 2
    # The same ones ever after, and for links that name no room.
    assert opened(lms, browse, "tess", copy, link=main_link) == main
    assert opened(lms, browse, "ivan", copy) == main
    assert opened(lms, browse, "ivan", copy, link=extra_link) == extra
    # The originals go on as before.
    assert opened(lms, browse, "sam", "geology", link=picked[1]) == before["Field trip"]
    assert people_in(app, main) == people_in(app, extra) == {"Ivan Petrov", "Tess Okafor"}
    assert "Tess Okafor" not in people_in(app, before["Field trip"])
    with app.app_context():
        assert db.session.get_one(Course, main).plan is None
        assert db.session.get_one(Course, extra).name == "Field trip"
    # A copy of the copy starts anew, too.
    third = lms.copy_course(copy, "ivan")
    again = {opened(lms, browse, "ivan", third, link=link) for link in lms.links(third)}
    assert not again & {main, extra, *before.values()}


def test_what_was_copied_can_be_taken_over_by_who_teaches_both(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, picked: list[Link]
) -> None:
    copy = lms.copy_course("geology", "ivan")
    lms.enroll(copy, "designer", "instructor")
    ivan = browse(None)
    url = lms.launch(ivan, "ivan", copy, link=lms.links(copy)[0]).location
    assert "This course was copied from" in ivan.get(url).text
    page = ivan.get(f"{url}/copy")
    assert "And how they fold" in page.text
    assert 'id="thing-name" name="thing" value="name" aria' in page.text
    assert 'value="summary" checked' in page.text
    assert "People and plan are never copied" in page.text
    # A teacher of the copy alone might have typed into the link where it comes from.
    stranger = browse(None)
    lms.launch(stranger, "designer", copy)
    assert "This course was copied from" not in stranger.get(url).text
    for path in ("/copy", "/copy/decline"):
        assert stranger.post(f"{url}{path}", {"thing": "summary"}).status_code == 404
        assert browse(cast.eve).post(f"{url}{path}", {"thing": "summary"}).status_code == 404
    student = browse(None)
    lms.launch(student, "sam", copy)
    assert student.post(f"{url}/copy", {"thing": "summary"}).status_code == 403

    assert ivan.post(f"{url}/copy", {}).status_code == 422
    assert ivan.post(f"{url}/copy", {"thing": "people"}).status_code == 422
    taken = ivan.post(f"{url}/copy", {"thing": ["summary", "description"]})
    assert taken.status_code == 303
    shown = ivan.get(url).text
    assert "Rocks" in shown
    assert "And how they fold" in shown
    assert "This course was copied from" not in shown
    assert ivan.get(f"{url}/copy").status_code == 404
    with app.app_context():
        course = db.session.get_one(Course, int(url.rpartition("/")[2]))
        assert (course.name, course.plan) == ("Geology copy 1", None)
        answered = db.session.scalars(select(AuditEvent).filter_by(action="copy.answered")).one()
        assert answered.after["taken"] == ["description", "summary"]


def test_no_is_an_answer_too(browse: Browse, lms: Lms, picked: list[Link]) -> None:
    copy = lms.copy_course("geology", "ivan")
    ivan = browse(None)
    url = lms.launch(ivan, "ivan", copy, link=lms.links(copy)[1]).location
    # The field trip has nothing that its copy has not.
    assert "This course was copied" not in ivan.get(url).text
    main = lms.launch(ivan, "ivan", copy).location
    assert ivan.post(f"{main}/copy/decline").status_code == 303
    lms.launch(ivan, "ivan", copy, link=lms.links(copy)[0])
    assert "This course was copied" not in ivan.get(main).text


def test_without_a_history_a_copy_has_its_own_rooms_and_nothing_is_offered(
    app: Flask, browse: Browse, lms: Lms, picked: list[Link]
) -> None:
    copy = lms.copy_course("geology", "ivan")
    silent = [{"room": link.custom["room"], "context_id_history": "$Context.id.history"} for link in picked]
    ivan = browse(None)
    urls = [lms.launch(ivan, "ivan", copy, claims={"custom": said}).location for said in silent]
    assert len({*urls, *(f"/courses/{one}" for one in course_ids(app).values())}) == 4
    assert not any("This course was copied" in ivan.get(url).text for url in urls)
    assert [lms.launch(ivan, "ivan", copy, claims={"custom": said}).location for said in silent] == urls


def test_a_course_that_says_what_it_was_copied_from_needs_no_picked_link(
    app: Flask, browse: Browse, lms: Lms, picked: list[Link]
) -> None:
    lms.launch(browse(None), "ivan", "statics")
    new = lms.add_course("77", "Geology next year")
    lms.enroll(new, "ivan", "instructor")
    ivan = browse(None)
    # The newest origin comes first; those we never saw are passed over.
    custom = {"context_id_history": f"55,{lms.course('geology').id},{lms.course('statics').id}"}
    url = lms.launch(ivan, "ivan", new, claims={"custom": custom}).location
    assert "This course was copied from Geology" in ivan.get(url).text
    # A registration can ask for it, once for all its links.
    lms.registration().custom = deep_linking.HISTORY
    url = lms.launch(ivan, "ivan", lms.copy_course("statics", "ivan")).location
    assert "This course was copied from Statics" in ivan.get(url).text
    # The history of the link says it as well, where a platform has only that.
    other = lms.add_course("78", "Geology elsewhere")
    lms.enroll(other, "ivan", "instructor")
    with app.app_context():
        statics = select(Context.resource_link_id).filter_by(context_id=lms.course("statics").id)
        origin = db.session.scalars(statics).one()
    url = lms.launch(ivan, "ivan", other, claims={"custom": {"resource_link_id_history": origin}}).location
    assert "This course was copied from Statics" in ivan.get(url).text


def test_two_first_launches_of_a_copied_link_make_one_room(
    app: Flask, browse: Browse, lms: Lms, picked: list[Link]
) -> None:
    copy = lms.copy_course("geology", "ivan")
    extra_link = lms.links(copy)[1]
    lms.launch(browse(None), "ivan", copy)
    found: list[int] = []
    start = threading.Barrier(2)

    def launch(person: str) -> None:
        start.wait(20)
        found.append(opened(lms, browse, person, copy, link=extra_link))

    threads = [threading.Thread(target=launch, args=(person,)) for person in ("sam", "tess")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 2
    assert len(set(found)) == 1


# --- moving ------------------------------------------------------------------------------


def tie_of(app: Flask, course_id: int) -> int:
    with app.app_context():
        return db.session.scalars(select(Context.id).filter_by(course_id=course_id)).one()


def test_an_lms_course_moves_to_another_course_and_back(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, picked: list[Link], work: Callable[[], None]
) -> None:
    ids = course_ids(app)
    lms.launch(browse(None), "sam", "geology")
    geology, target = ids["Geology"], cast.geology
    ada = browse(cast.ada)
    ada.post(f"/courses/{geology}/roster/sync")
    work()
    with app.app_context():
        db.session.add(
            Enrollment(
                account_id=cast.account,
                course_id=geology,
                user_id=cast.tess,
                role="student",
                source=Source.MANUAL,
            )
        )
        db.session.commit()
    tie = tie_of(app, geology)
    settings = ada.get(f"/courses/{geology}/settings").text
    assert "LMS courses" in settings
    assert "GEO201" in settings
    assert "3 people" in settings
    move = f"/courses/{geology}/lms-courses/{tie}/move"
    page = ada.get(f"{move}?q=structural")
    assert "3 people move along" in page.text
    assert "Introduction to Structural Geology" in page.text
    part = ada.get(f"{move}?q=stat", headers={"HX-Request": "true", "HX-Target": "found"})
    assert "<html" not in part.text
    assert "Introduction" not in part.text
    assert ada.post(move, {}).status_code == 422
    assert ada.post(move, {"course": "x"}).status_code == 422

    for other, status in ((cast.eve, 404), (cast.ivan, 403), (cast.sam, 403)):
        assert browse(other).get(move).status_code == status
        assert browse(other).post(move, {"course": target}).status_code == status
    assert ada.post(move, {"course": 424242}).status_code == 404
    assert ada.post(f"/courses/{target}/lms-courses/{tie}/move", {"course": geology}).status_code == 404

    moved = ada.post(move, {"course": target})
    assert moved.location == f"/courses/{target}/settings#lms-courses"
    assert "Moved here from Geology" in ada.get(moved.location).text
    assert people_in(app, geology) == {"Tess van der Meulen"}
    assert {"Ivan Petrov", "Sam Rivera", "Tess Okafor", "Sam Whitfield"} <= people_in(app, target)
    # Launches with and without a picked link follow; the other room stays where it is.
    assert opened(lms, browse, "sam", "geology") == target
    assert opened(lms, browse, "sam", "geology", link=picked[0]) == target
    assert opened(lms, browse, "sam", "geology", link=picked[1]) == ids["Field trip"]
    # Its syncs went along, so that the course it left cannot undo them.
    assert "Undo" not in ada.get(f"/courses/{geology}/roster").text
    ada.post(f"/courses/{target}/roster/sync")
    work()
    with app.app_context():
        states = db.session.execute(select(SyncRun.course_id, SyncRun.state).filter_by(context_id=tie)).all()
        assert {course for course, _ in states} == {target}
        assert states[-1].state is SyncState.UNCHANGED

    back = ada.post(f"/courses/{target}/lms-courses/{tie}/move", {"course": geology})
    assert back.status_code == 303
    assert "Moved here from" not in ada.get(back.location).text
    assert opened(lms, browse, "sam", "geology", link=picked[0]) == geology
    assert people_in(app, target) == {"Ivan Petrović", "Sam Whitfield", "Tess van der Meulen"}
    with app.app_context():
        events = db.session.scalars(select(AuditEvent).filter_by(action="lms_course.moved")).all()
        assert [(e.before["course"], e.after["course"], e.actor_id) for e in events] == [
            (geology, target, cast.ada),
            (target, geology, cast.ada),
        ]


def test_several_lms_courses_share_one_course(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, work: Callable[[], None]
) -> None:
    lms.launch(browse(None), "ivan", "geology")
    lms.launch(browse(None), "ivan", "statics")
    ids = course_ids(app)
    with app.app_context():
        first, second = (
            db.session.scalars(select(Context.course_id).filter_by(context_id=lms.course(one).id)).one()
            for one in ("geology", "statics")
        )
    ada = browse(cast.ada)
    ada.post(f"/courses/{second}/lms-courses/{tie_of(app, second)}/move", {"course": first})
    assert opened(lms, browse, "sam", "statics") == opened(lms, browse, "sam", "geology") == first
    ada.post(f"/courses/{first}/roster/sync")
    work()
    sections = {member.person.id for one in ("geology", "statics") for member in lms.members(one)}
    with app.app_context():
        held = select(func.count(Enrollment.user_id.distinct())).where(Enrollment.course_id == first)
        assert db.session.scalar(held) == len(sections)
    settings = ada.get(f"/courses/{first}/settings").text
    assert "GEO201" in settings
    assert "STA110" in settings
    # Taking one away again leaves the other's people.
    tie = next(one for one in _ties(app, first) if one != _ties(app, first)[0])
    ada.post(f"/courses/{first}/lms-courses/{tie}/move", {"course": second})
    with app.app_context():
        held = select(func.count(Enrollment.user_id.distinct())).where(Enrollment.course_id == first)
        assert db.session.scalar(held) == len(lms.members("geology"))
    assert ids["Geology"] == first


def _ties(app: Flask, course_id: int) -> list[int]:
    with app.app_context():
        return list(
            db.session.scalars(select(Context.id).filter_by(course_id=course_id).order_by(Context.id))
        )


def test_two_rooms_of_one_lms_course_do_not_become_one(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, picked: list[Link]
) -> None:
    ids = course_ids(app)
    ada = browse(cast.ada)
    url = f"/courses/{ids['Field trip']}/lms-courses/{tie_of(app, ids['Field trip'])}/move"
    refused = ada.post(url, {"course": ids["Geology"]})
    assert refused.status_code == 409
    assert 'data-error="lms_course_there"' in refused.text
    assert opened(lms, browse, "sam", "geology", link=picked[1]) == ids["Field trip"]


def test_a_moved_room_is_not_offered_again_under_its_old_number(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, picked: list[Link]
) -> None:
    ids = course_ids(app)
    tie = tie_of(app, ids["Field trip"])
    browse(cast.ada).post(f"/courses/{ids['Field trip']}/lms-courses/{tie}/move", {"course": cast.statics})
    page = ask(lms, browse(None), "ada")
    assert "Field trip" not in page.text
    assert choose(page, app, room=str(ids["Field trip"])).status_code == 404
    # What it leads to now is placed under the number that links know.
    (item,) = items_of(choose(page, app, room=str(cast.statics)), lms)
    assert item["custom"]["room"] == str(ids["Field trip"])


def test_a_sync_under_way_writes_into_the_course_it_was_moved_to(
    app: Flask, cast: Cast, browse: Browse, lms: Lms
) -> None:
    lms.launch(browse(None), "ivan", "geology")
    geology = opened(lms, browse, "ivan", "geology")
    with app.app_context():
        syncs.ask_for_sync(db.session.get_one(Course, geology))
        db.session.commit()
        run = syncs.claim_next()
        assert run is not None
        claimed = (run.id, run.attempts)
        db.session.commit()
        # The list is read, then the course is moved, then the list is written.
        members = jobs._fetch(run.context)
        moves.move(
            db.session.get_one(Context, run.context_id),
            db.session.get_one(Course, cast.statics),
            by=db.session.get_one(User, cast.ada),
        )
        db.session.commit()
        assert jobs._end_sync(*claimed, members, "") is SyncState.APPLIED
        db.session.commit()
    assert people_in(app, geology) == set()
    assert {"Sam Rivera", "Tess Okafor"} <= people_in(app, cast.statics)


def test_no_enrollment_can_be_left_in_the_course_an_lms_course_was_moved_from(
    app: Flask, cast: Cast, browse: Browse, lms: Lms
) -> None:
    geology = opened(lms, browse, "ivan", "geology")
    with app.app_context():
        tie = db.session.scalars(select(Context).filter_by(course_id=geology)).one()
        tie_id = tie.id
        moves.move(tie, db.session.get_one(Course, cast.statics), by=db.session.get_one(User, cast.ada))
        db.session.commit()
    with app.app_context(), pytest.raises(IntegrityError):
        # As a launch would that read the course before it moved; it starts over (pages/launch.py).
        db.session.add(
            Enrollment(
                account_id=cast.account,
                course_id=geology,
                user_id=cast.sam,
                context_id=tie_id,
                role="student",
                source=Source.LMS,
            )
        )
        db.session.commit()


def test_a_course_without_an_lms_says_so(cast: Cast, browse: Browse) -> None:
    assert "move it from the settings" in browse(cast.ada).get(f"/courses/{cast.geology}/settings").text
