"""The pages a person sees: the picker, the launch, trouble, and what comes back from the tool."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

import jwt
from flask import Blueprint, abort, current_app, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from . import troubles
from .deep_linking import ContentRefused, content_items, messages_of, place
from .endpoints import the_platform
from .mailbox import Mailbox
from .messages import CLAIM, DEEP_LINKING, RESOURCE_LINK
from .people import CAST, Course, Link, Person
from .registrations import ToolRegistration

pages = Blueprint("pages", __name__)


@pages.get("/")
def picker() -> str:
    """Who are you, which course: the demo's first page."""
    platform = the_platform()
    person, course = _chosen("sam", "geology")
    mailbox: Mailbox | None = current_app.extensions["practice_mailbox"]
    return render_template(
        "practice_lms/picker.html",
        platform=platform,
        cast=_shown_people(person),
        courses=platform.courses,
        sizes={course.id: len(platform.members(course)) for course in platform.courses},
        person=person,
        course=course,
        enrolled=platform.is_enrolled(course, person),
        links={one.id: platform.links(one) for one in platform.courses},
        troubles=[(trouble, trouble.is_on(platform)) for trouble in troubles.TROUBLES],
        trouble_open="trouble" in request.args,
        mails=len(mailbox.mails) if mailbox is not None else None,
    )


@pages.get("/frame")
def frame() -> str:
    """What the frame shows before anything is launched."""
    return render_template("practice_lms/frame.html")


@pages.get("/storage")
def storage() -> str:
    """The hidden frame that keeps values for tools beside the tool's own (1EdTech platform storage 0.1)."""
    return render_template("practice_lms/storage.html")


@pages.route("/launch", methods=["GET", "POST"])
def launch() -> str | Response | tuple[str, int]:
    """Login initiation (Security Framework 1.0, section 5.1.1.1): to the tool, with a one-shot hint."""
    platform = the_platform()
    person, course = _chosen("", "")
    try:
        registration = platform.registration(request.values.get("client_id") or None)
    except LookupError as missing:
        return _refused(f"{missing}.", 409)
    link = _link(request.values.get("link", ""))
    if link is not None:
        course = platform.course(link.course_id)
    in_window = request.values.get("where") == "window"
    deep = request.values.get("kind") == "deep-linking"
    fields = platform.login_parameters(
        person,
        course,
        client_id=registration.client_id,
        deployment_id=request.values.get("deployment_id") or None,
        message_type=DEEP_LINKING if deep else RESOURCE_LINK,
        document_target="window" if in_window else "iframe",
        link=link,
    )
    if in_window:
        # A window of its own has no opener to ask: platform storage is offered in the frame only.
        fields.pop("lti_storage_target", None)
    if request.values.get("method") == "get":
        joint = "&" if urlsplit(registration.login_url).query else "?"
        return redirect(f"{registration.login_url}{joint}{urlencode(fields)}")
    return render_template(
        "practice_lms/post.html",
        action=registration.login_url,
        fields=fields,
        title=f"Opening {course.title}",
    )


@pages.post("/again")
def again() -> str | tuple[str, int]:
    """Sends what was sent last once more, as someone would who had copied it."""
    last = the_platform().last_form
    if last is None:
        return _refused("Nothing was launched yet, so there is nothing to send again.", 409)
    action, fields = last
    return render_template(
        "practice_lms/post.html", action=action, fields=fields, title="The same launch again"
    )


@pages.post("/trouble")
def trouble() -> Response:
    """Turns a switch over and comes back to the picker."""
    platform = the_platform()
    person, course = _chosen("sam", "geology")
    wanted = request.form.get("trouble", "")
    if wanted == "move":
        troubles.move(platform, course, person)
    elif wanted == "rotate":
        platform.rotate_key()
    elif wanted == "revoke":
        platform.tokens.revoke_all()
    elif wanted == "peace":
        troubles.make_peace(platform)
    else:
        try:
            troubles.toggle(platform, wanted)
        except LookupError:
            abort(404)
    back = url_for("pages.picker", person=person.slug, course=course.slug, trouble="open", _anchor="trouble")
    return redirect(back, 303)


@pages.get("/return")
def come_back() -> str:
    """Where the tool sends people back to; it may bring words for them (LTI 1.3 core, section 5.4.4)."""
    said = {name: request.args.get(name, "") for name in ("lti_msg", "lti_errormsg")}
    return render_template("practice_lms/return.html", said=said)


@pages.post("/deep-link-return")
def take_content() -> str | tuple[str, int]:
    """Where the tool brings what was chosen in a deep linking launch."""
    platform = the_platform()
    message = request.form.get("JWT", "")
    try:
        registration = _sender_of(message)
        items = content_items(
            message,
            registration.fetch_keys(),
            registration.client_id,
            registration.deployment_ids,
            platform.issuer,
        )
        place(platform, request.args.get("course", ""), items)
    except (ContentRefused, LookupError, OSError, ValueError) as refusal:
        return _refused(f"The content was not taken: {refusal}.")
    platform.content_items.extend(items)
    return render_template("practice_lms/content.html", items=items, said=messages_of(message))


@pages.post("/copy")
def copy() -> Response:
    """Copies a course with its links, as a teacher does for the next term."""
    person, course = _chosen("ivan", "geology")
    made = the_platform().copy_course(course, person)
    return redirect(url_for("pages.picker", person=person.slug, course=made.slug), 303)


def _sender_of(message: str) -> ToolRegistration:
    try:
        claims = jwt.decode(message, options={"verify_signature": False})
    except jwt.InvalidTokenError as error:
        raise ContentRefused(f"the answer is no JWT: {error}") from error
    if claims.get(CLAIM + "deployment_id") is None:
        raise ContentRefused("the answer names no deployment")
    return the_platform().registration(str(claims.get("iss", "")))


def _chosen(person: str, course: str) -> tuple[Person, Course]:
    """The person and the course a request names; what is not there is not found."""
    platform = the_platform()
    try:
        return (
            platform.person(request.values.get("person", person)),
            platform.course(request.values.get("course", course)),
        )
    except LookupError:
        abort(404)


def _link(wanted: str) -> Link | None:
    """The link a request names, if it names one."""
    try:
        return the_platform().link(wanted) if wanted else None
    except LookupError:
        abort(404)


def _shown_people(chosen: Person) -> list[Person]:
    """The cast, and whoever else an address has chosen."""
    platform = the_platform()
    known = {person.id for person in platform.people}
    shown = [platform.person(member.id) for member in CAST if member.id in known]
    return shown if chosen in shown else [*shown, chosen]


def _refused(reason: str, status: int = 400) -> tuple[str, int]:
    return render_template("practice_lms/refused.html", reason=reason), status
