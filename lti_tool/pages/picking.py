"""Deep linking: a teacher chooses which rooms are placed in the LMS course (LTI Deep Linking 2.0).

The launch answers with the page on which one chooses. It is carried on in a sealed form field, so that
nothing depends on a cookie, and its answer is a form that takes the signed choice back to the LMS.
"""

import secrets
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

import msgspec
from flask import Blueprint, current_app, g, make_response, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext, ngettext
from flask_wtf import FlaskForm
from werkzeug.exceptions import Forbidden, NotFound
from werkzeug.wrappers import Response as AnyResponse
from wtforms import BooleanField, SelectMultipleField, StringField, ValidationError
from wtforms.validators import Length

from lti_tool import logs
from lti_tool.classroom import access, accounts, placements, roster, syncs
from lti_tool.classroom.accounts import User
from lti_tool.classroom.courses import Context, Course
from lti_tool.classroom.placements import PickingRefused, PickingStale, Placed
from lti_tool.classroom.roster import Arrival
from lti_tool.classroom.syncs import SyncImpossible
from lti_tool.database import db, is_id, now
from lti_tool.lti import deep_linking
from lti_tool.lti.deep_linking import Item
from lti_tool.lti.launch import Launch
from lti_tool.pages import framing, visitor
from lti_tool.sealing import SealBroken, seal, unseal

pages = Blueprint("picking", __name__, url_prefix="/lti/deep-link")

# How long one may take to choose.
LIFETIME = timedelta(minutes=60)
# Rooms that one answer places.
MOST = 20
_PURPOSE = "deep linking"


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """The deep linking launch, as its page carries it on."""

    # Of the form: sent twice it makes one new room.
    form: str
    expires_at: float
    account_id: int
    user_id: int
    # The main tie of the LMS course.
    tie_id: int
    issuer: str
    client_id: str
    deployment_id: str
    return_url: str
    data: Any
    multiple: bool
    line_item: bool
    lms: str
    locale: str


class PickForm(FlaskForm):  # type: ignore[misc]
    """Which rooms; "new" is one that is still to be made."""

    class Meta:
        """The sealed field speaks for the form: a cookie may be withheld in a frame."""

        csrf = False

    room = SelectMultipleField(validate_choice=False)
    name = StringField(
        filters=[lambda text: (text or "").strip()],
        validators=[Length(max=200, message=lazy_gettext("At most 200 characters."))],
    )
    attendance = BooleanField()

    def validate_room(self, field: Any) -> None:
        """At least one, and no more than the LMS and we take."""
        most = MOST if g.asked.multiple else 1
        if not field.data:
            raise ValidationError(_("Choose a room."))
        if len(set(field.data)) > most:
            raise ValidationError(ngettext("Choose one room.", "Choose at most %(num)s rooms.", most))

    def validate_name(self, field: Any) -> None:
        """A new room has a name."""
        if self.wants_new and not field.data:
            raise ValidationError(_("Give the new room a name."))

    @property
    def wants_new(self) -> bool:
        """Is a room to be made?"""
        return "new" in (self.room.data or [])

    @property
    def chosen(self) -> list[int]:
        """The courses whose rooms are chosen; 0 stands for what is none."""
        ids = [
            int(one) if one.isascii() and one.isdigit() and len(one) <= 10 else 0
            for one in self.room.data or []
            if one != "new"
        ]
        return list(dict.fromkeys(one if is_id(one) else 0 for one in ids))


# --- the launch --------------------------------------------------------------------------


def offer(launch: Launch, arrival: Arrival) -> AnyResponse:
    """Answer a deep linking launch with what there is to choose. Raises PickingRefused."""
    wanted = launch.deep_linking
    assert wanted is not None, "only deep linking launches come here"
    main, user = arrival.context, arrival.user
    asked = Asked(
        form=secrets.token_hex(16),
        expires_at=(now() + LIFETIME).timestamp(),
        account_id=user.account_id,
        user_id=user.id,
        tie_id=main.id,
        issuer=launch.issuer,
        client_id=launch.client_id,
        deployment_id=launch.deployment_id,
        return_url=wanted.return_url,
        data=wanted.data,
        multiple=wanted.accept_multiple,
        line_item=wanted.accept_line_item,
        lms=roster.platform_name(arrival.course),
        locale=launch.locale or "",
    )
    _stand_for(asked, user)
    if not access.can_place_course(user, arrival.course):
        error = _("Only teachers of the course can add rooms to it. Nothing was added.")
        raise PickingRefused(asked.return_url, _sign(asked, [], error=error))
    sealed = seal(_PURPOSE, msgspec.json.encode(asked).decode())
    page = _choose_page(asked, main, PickForm(None, room=[str(arrival.course.id)]), sealed)
    registration_id, course_id, user_id = launch.registration_id, arrival.course.id, user.id
    db.session.commit()
    logs.event("picking", registration=registration_id, course=course_id, user=user_id)
    return make_response(page)


def _stand_for(asked: Asked, user: User) -> None:
    """This request is the person's whose launch the form carries, whatever cookies came along."""
    g.asked = asked
    g.session, g.user, g.account = None, user, user.account
    g.launch_locale = asked.locale
    g.frame_ancestors = framing.ancestors(asked.account_id)
    # The platform may lead on to another of its addresses, which browsers hold against the form too.
    g.form_targets = [*framing.origins([asked.return_url]), *g.frame_ancestors]


def _choose_page(
    asked: Asked, main: Context, form: PickForm, sealed: str, *, search: str = "", part: bool = False
) -> str:
    rooms = placements.rooms_of(main)
    there = {room.course.id for room in rooms}
    found = list(placements.courses_to_place(main, access.placeable_by(g.user), search=search))
    more = len(found) > placements.OFFERED
    found = found[: placements.OFFERED]
    # Nobody ticks more, and databases take only so many values in one statement.
    shown = there | {course.id for course in found}
    kept = [one for one in form.chosen if one not in shown][:MOST]
    return render_template(
        "picking/_found.html" if part else "picking/choose.html",
        asked=asked,
        sealed=sealed,
        main=main,
        rooms=rooms,
        # What was chosen stays in sight, whatever is searched for.
        found=[*_placeable(main, kept), *found],
        more=more,
        search=search,
        form=form,
        chosen=set(form.room.data or []),
    )


# --- the form ----------------------------------------------------------------------------


def from_form(rule: Callable[[User, Course], bool]) -> Callable[..., Any]:
    """Only those for whom `rule` says yes; who asks, and for which LMS course, stands in the sealed field."""

    def decorate(page: Callable[[Asked, Context], ResponseReturnValue]) -> Callable[[], ResponseReturnValue]:
        @wraps(page)
        def guarded() -> ResponseReturnValue:
            asked = _unseal(request.form.get("launch", ""))
            user = accounts.find_user(asked.account_id, asked.user_id)
            main = placements.find_main(asked.account_id, asked.tie_id)
            connection = roster.find_connection_of(main.deployment_id) if main else None
            if user is None or user.blocked_at is not None or main is None or connection is None:
                raise PickingStale
            _stand_for(asked, user)
            if connection.account_id != asked.account_id or asked.expires_at < now().timestamp():
                raise PickingStale
            if not rule(user, main.course):
                raise Forbidden
            return page(asked, main)

        return guarded

    return decorate


def _unseal(sealed: str) -> Asked:
    """Raises PickingStale."""
    try:
        asked: Asked = msgspec.json.decode(unseal(_PURPOSE, sealed), type=Asked)
    except (SealBroken, msgspec.MsgspecError, ValueError):
        raise PickingStale from None
    return asked


@pages.post("/search")
@from_form(access.can_place_course)
def search(asked: Asked, main: Context) -> ResponseReturnValue:
    """The page again with courses found by name; for htmx those alone. Writes nothing."""
    part = visitor.wants_fragment()
    wish = request.form.get("q", "").strip()[:200]
    page = _choose_page(asked, main, PickForm(), request.form["launch"], search=wish, part=part)
    response = make_response(page)
    response.vary.add("HX-Request")
    return response


@pages.post("")
@from_form(access.can_place_course)
def place(asked: Asked, main: Context) -> ResponseReturnValue:
    """Tie what was chosen to the LMS course, make what is new, and take the links to the LMS."""
    form = PickForm()
    if not form.validate():
        return _choose_page(asked, main, form, request.form["launch"]), 422
    placed = [_place(main, course) for course in _chosen(main, form)]
    if form.wants_new:
        placed.append(placements.open_room(main, form.name.data, form=asked.form, by=g.user))
    for one in placed:
        if not one.tie.main:
            _ask_for_people(one.course)
    attendance = asked.line_item and form.attendance.data
    items = [
        Item(
            room=tie.room,
            title=course.name,
            text=course.summary,
            line_item=_("Attendance: %(course)s", course=course.name) if attendance else None,
        )
        for tie, course in placed
    ]
    page = _answer_page(asked, items)
    db.session.commit()
    return page


def _placeable(main: Context, ids: list[int]) -> list[Course]:
    """Those of the courses that the person may place; others are left out."""
    if not ids:
        return []
    return list(placements.courses_to_place(main, access.placeable_by(g.user), among=ids))


def _chosen(main: Context, form: PickForm) -> list[Placed | Course]:
    """What the form names: rooms that are there, and courses the person may place. Anything else is 404."""
    known: dict[int, Placed | Course] = {room.course.id: room for room in placements.rooms_of(main)}
    known |= {course.id: course for course in _placeable(main, [i for i in form.chosen if i not in known])}
    if any(one not in known for one in form.chosen):
        raise NotFound
    return [known[one] for one in form.chosen]


def _place(main: Context, chosen: Placed | Course) -> Placed:
    if isinstance(chosen, Placed):
        return chosen
    return Placed(placements.place(main, chosen, by=g.user), chosen)


def _ask_for_people(course: Course) -> None:
    """The people of the LMS course come on the list of a room that was placed there."""
    try:
        syncs.ask_for_sync(course, by=g.user)
    except SyncImpossible:
        logs.event("no_roster", course=course.id)


@pages.post("/cancel")
@from_form(access.can_place_course)
def cancel(asked: Asked, main: Context) -> ResponseReturnValue:
    """Back to the LMS with nothing."""
    page = _answer_page(asked, [])
    db.session.commit()
    return page


# --- back to the LMS ---------------------------------------------------------------------


def _answer_page(asked: Asked, items: list[Item]) -> str:
    return render_template("picking/answer.html", asked=asked, items=items, answer=_sign(asked, items))


def _sign(asked: Asked, items: list[Item], *, error: str = "") -> str:
    launch_url = f"{current_app.config['PUBLIC_URL']}/lti/launch"
    return deep_linking.answer(
        issuer=asked.issuer,
        client_id=asked.client_id,
        deployment_id=asked.deployment_id,
        data=asked.data,
        items=[deep_linking.content_item(item, launch_url) for item in items],
        error=error,
    )
