"""Who is asking, and the loaders that answer 404 for what is not theirs."""

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, cast

from flask import Response, current_app, g, request
from werkzeug.exceptions import Forbidden, NotFound
from werkzeug.wrappers import Response as AnyResponse

from lti_tool.classroom import access, accounts, batches, courses, invited, linking, plans, sessions
from lti_tool.classroom.accounts import User
from lti_tool.classroom.batches import Batch
from lti_tool.classroom.courses import Course
from lti_tool.classroom.invitations import Invitation
from lti_tool.classroom.plans import Plan
from lti_tool.classroom.sessions import TOUCH_EVERY, Kind, Session
from lti_tool.database import db, now

# Set by launches; in a frame it lives in the platform's partition of the cookie jar.
LAUNCH_COOKIE = "__Host-doorlist-launch"
# Set by signing in here; first-party only. Neither is ever read as, or upgraded to, the other.
OWN_COOKIE = "__Host-doorlist"


class SignInNeeded(Exception):
    """Nobody we know is asking."""


def load() -> None:
    """Find out who is asking, once per request: g.session, g.user, g.account (None: nobody)."""
    g.session, g.user, g.account = None, None, None
    idle = timedelta(minutes=current_app.config["SESSION_IDLE_MINUTES"])
    found = [
        session
        for name, kind in ((LAUNCH_COOKIE, Kind.LAUNCH), (OWN_COOKIE, Kind.OWN))
        if (token := request.cookies.get(name))
        and (session := sessions.find_session(token, kind, idle=idle)) is not None
        and not linking.is_shut_out(session)
    ]
    if found:
        # Both at once only in a window of our own: who came in last is who sits there.
        session = max(found, key=lambda s: (s.created_at, s.id))
        g.session, g.user, g.account = session, session.user, session.user.account


def touch() -> None:
    """Note now and then that the session is used, in a transaction of its own."""
    session: Session | None = g.session
    if session is not None and session.seen_at + TOUCH_EVERY < now():
        session_id = session.id
        db.session.rollback()
        fresh = db.session.get(Session, session_id)
        if fresh is not None:
            fresh.seen_at = fresh.user.last_seen_at = now()
            db.session.commit()
        load()


def sign_in(response: AnyResponse, token: str, kind: Kind, *, lifetime: timedelta) -> AnyResponse:
    """Put a session's token into the cookie of its kind."""
    launched = kind is Kind.LAUNCH
    response.set_cookie(
        LAUNCH_COOKIE if launched else OWN_COOKIE,
        token,
        max_age=int(lifetime.total_seconds()),
        path="/",
        secure=True,
        httponly=True,
        samesite="None" if launched else "Lax",
        partitioned=launched,
    )
    return response


def sign_out(response: AnyResponse) -> AnyResponse:
    """Take both cookies away."""
    response.delete_cookie(
        LAUNCH_COOKIE, path="/", secure=True, httponly=True, samesite="None", partitioned=True
    )
    response.delete_cookie(OWN_COOKIE, path="/", secure=True, httponly=True, samesite="Lax")
    return response


def is_framed() -> bool:
    """Is this page shown inside an LMS's frame?"""
    destination = request.headers.get("Sec-Fetch-Dest", "")
    if destination in ("iframe", "document"):
        return destination == "iframe"
    return bool(g.get("session") and g.session.framed)


def wants_fragment() -> bool:
    """Does htmx ask for a part of the page?"""
    return request.headers.get("HX-Request") == "true" and "HX-History-Restore-Request" not in request.headers


def vary(response: Response) -> Response:
    """For pages whose every address answers a page or, for htmx, a part of it (`pages.after_request`)."""
    response.vary.add("HX-Request")
    return response


def allowed(rule: Callable[..., bool]) -> Callable[..., Any]:
    """Only those for whom `rule` of access.py says yes; in plain sight above the page.

    A rule over (user, course) is asked about the page's course; one over (user) about the user alone.
    """

    def decorate(page: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(page)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            user = somebody()
            wants_course = rule.__code__.co_argcount == 2
            answer = rule(user, find_course(kwargs["course_id"])) if wants_course else rule(user)
            if not answer:
                raise Forbidden
            return page(*args, **kwargs)

        return guarded

    return decorate


def signed_in(user: User) -> bool:
    """The rule for pages that everybody has who is known."""
    return user is not None


def somebody() -> User:
    """The person asking. Raises SignInNeeded."""
    if g.user is None:
        raise SignInNeeded
    return cast(User, g.user)


def find_course(course_id: int) -> Course:
    """A course the person may see; anything else is 404, whether or not it exists."""
    held = g.setdefault("found_courses", {})
    if course_id not in held:
        user = somebody()
        course = courses.find_course(user.account_id, course_id)
        if course is None or not access.can_see_course(user, course):
            raise NotFound
        held[course_id] = course
    return cast(Course, held[course_id])


def find_any_course(course_id: int) -> Course:
    """A course of the person's account, on its list or not: a room's door answers both. Else 404."""
    course = courses.find_course(somebody().account_id, course_id)
    if course is None:
        raise NotFound
    return course


def find_user(user_id: int) -> User:
    """A user of the person's account, else 404."""
    user = accounts.find_user(somebody().account_id, user_id)
    if user is None:
        raise NotFound
    return user


def find_batch(batch_id: int) -> Batch:
    """A bulk change of the person's account, else 404."""
    batch = batches.find(somebody().account_id, batch_id)
    if batch is None:
        raise NotFound
    return batch


def find_invitation(invitation_id: int) -> Invitation:
    """An invitation of the person's account, else 404."""
    invitation = invited.find(somebody().account_id, invitation_id)
    if invitation is None:
        raise NotFound
    return invitation


def find_plan(plan_id: int) -> Plan:
    """A plan of the person's account, else 404."""
    plan = plans.find_plan(somebody().account_id, plan_id)
    if plan is None:
        raise NotFound
    return plan


def session() -> Session:
    """The browser session of the person asking. Raises SignInNeeded."""
    somebody()
    return cast(Session, g.session)
