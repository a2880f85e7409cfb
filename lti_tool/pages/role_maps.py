"""The role map of an LMS: how its roles are read, changing that with a preview, and trying roles out.

One form holds the map as it is being edited; its buttons look at what it would do, save it, or try roles
with it. Nothing that is tried is kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flask import Blueprint, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext
from flask_wtf import FlaskForm
from markupsafe import Markup
from werkzeug.exceptions import BadRequest, NotFound
from wtforms import (
    BooleanField,
    FieldList,
    Form,
    FormField,
    HiddenField,
    IntegerField,
    StringField,
)
from wtforms.validators import AnyOf, Length, Optional, ValidationError

from lti_tool.classroom import access, accounts, carried_roles, role_changes
from lti_tool.classroom.access import Gate
from lti_tool.classroom.accounts import Connection, Role
from lti_tool.classroom.carried_roles import Told
from lti_tool.classroom.role_changes import MOST_OVERRIDES, RoleMapMoved, Said
from lti_tool.classroom.role_maps import Reading, RolePolicy, higher, policy_of, read_roles
from lti_tool.classroom.roster import lms_name
from lti_tool.database import db
from lti_tool.lti.claims import LONGEST_ROLE
from lti_tool.lti.pasted import Pasted, PastedUnreadable, read_pasted
from lti_tool.lti.roles import RoleName, parse
from lti_tool.pages import role_words, visitor
from lti_tool.pages.visitor import allowed

pages = Blueprint("role_maps", __name__)
pages.after_request(visitor.vary)
pages.add_app_template_filter(role_words.where, "role_where")
pages.add_app_template_filter(parse, "role_parsed")
pages.add_app_template_global(role_words.called, "role_called")
pages.add_app_template_global(role_words.because, "role_because")

# Rows that come with a form at most: what people carry, overrides of what nobody carries, a new one.
MOST_ROWS = MOST_OVERRIDES + carried_roles.MOST_CARRIED + 1
LONGEST_PASTE = 100_000


# --- the form ----------------------------------------------------------------------------


class RowForm(Form):  # type: ignore[misc]
    """One role and what it becomes."""

    role = StringField(
        validators=[Length(max=LONGEST_ROLE, message=lazy_gettext("No LMS sends a role as long as this."))],
        filters=[lambda text: (text or "").strip()],
    )
    becomes = StringField(
        validators=[
            AnyOf(["", Role.STUDENT, Role.INSTRUCTOR], message=lazy_gettext("It cannot become that."))
        ],
        filters=[lambda text: text or ""],
    )

    def validate_role(self, role: StringField) -> None:
        """Raises ValidationError for what no LMS could send, and for what stays what it is."""
        if not role.data.isprintable():
            raise ValidationError(_("There is a character in it that no role has."))
        if self.becomes.data and parse(role.data) == RoleName("system", "TestUser"):
            raise ValidationError(_("This marks a preview account, and stays that."))


class Rows(FieldList):  # type: ignore[misc]
    """Rows by their number."""

    def process(self, *args: Any, **kwargs: Any) -> None:
        """Raises BadRequest for a number that is none, as “²”, which WTForms takes for one."""
        try:
            super().process(*args, **kwargs)
        except ValueError:
            raise BadRequest from None


class MapForm(FlaskForm):  # type: ignore[misc]
    """The map as it is being edited, and what is tried with it."""

    # The map that the editing began with.
    seen = HiddenField()
    makes_admins = BooleanField()
    assistants_teach = BooleanField()
    designers_teach = BooleanField()
    rows = Rows(FormField(RowForm), max_entries=MOST_ROWS)
    pasted = StringField(
        validators=[Length(max=LONGEST_PASTE, message=lazy_gettext("That is too long to be a launch."))]
    )
    who = StringField(validators=[Length(max=200)])
    told = IntegerField(validators=[Optional()])

    def validate_rows(self, rows: FieldList) -> None:
        """Raises ValidationError."""
        if len(self.overrides()) > MOST_OVERRIDES:
            raise ValidationError(_("At most %(number)s roles can have a rule.", number=MOST_OVERRIDES))

    def overrides(self) -> dict[str, str]:
        """Role → what it becomes, of those that become anything."""
        return {row["role"]: row["becomes"] for row in self.rows.data if row["role"] and row["becomes"]}

    def policy(self) -> RolePolicy:
        """The policy that saving this form would make; it has been validated."""
        return RolePolicy(
            self.makes_admins.data,
            self.assistants_teach.data,
            self.designers_teach.data,
            {sent: Role(becomes) for sent, becomes in self.overrides().items()},
        )


@dataclass(frozen=True)
class Line:
    """One role of the map as the page shows it."""

    sent: str
    name: RoleName | None
    people: int
    # "student", "instructor" or empty: as the standard reads it.
    becomes: str
    # How it is read without a rule of its own.
    reading: Reading
    said: Said | None

    @property
    def marks_test(self) -> bool:
        """Does it mark a preview account? Then there is nothing to choose."""
        return self.reading.test


def _lines(connection: Connection, form: MapForm | None, policy: RolePolicy) -> list[Line]:
    """Every role that people carry or that has a rule, the most frequent first."""
    people: dict[str, int] = {}
    for sent, number in carried_roles.carried_roles(connection):
        people[sent.strip()] = people.get(sent.strip(), 0) + number
    chosen: dict[str, str] = {sent: role.value for sent, role in policy.overrides.items()}
    if form is not None:
        wrong = {row.role.data for row in form.rows if row.errors}
        chosen = {sent: becomes for sent, becomes in form.overrides().items() if sent not in wrong}
    said = role_changes.overridden_by(connection)
    plain = RolePolicy(policy.makes_admins, policy.assistants_teach, policy.designers_teach)
    roles = [*filter(None, people), *(sent for sent in chosen if sent not in people)]
    held = policy_of(connection).overrides
    return [
        Line(
            sent,
            parse(sent),
            people.get(sent, 0),
            chosen.get(sent, ""),
            read_roles([sent], plain),
            said.get(sent) if held.get(sent) == chosen.get(sent) else None,
        )
        for sent in roles
    ]


# --- trying roles ------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What roles would make of somebody, and where each part of that comes from."""

    # Heading → how that list of roles is read.
    readings: Sequence[tuple[str, Reading]]
    role: Role | None
    admin: bool
    # Whose roles they are, where that was said.
    name: str = ""
    course: str = ""
    from_token: bool = False
    # Course with and without a plan in force.
    doors: Sequence[tuple[bool, Gate]] = field(default_factory=tuple)

    @property
    def test(self) -> bool:
        """A preview account?"""
        return any(reading.test for heading, reading in self.readings)

    @property
    def unsaid(self) -> bool:
        """Was no course role said that we know?"""
        return all(reading.unsaid for heading, reading in self.readings)

    @property
    def decisive(self) -> str:
        """The role as sent that made the course role; empty where none did."""
        for _heading, reading in self.readings:
            if reading.decisive is not None and reading.role is self.role:
                return reading.decisive.sent
        return ""


def _outcome(lists: Sequence[tuple[str, Sequence[str]]], policy: RolePolicy, **whose: Any) -> Outcome:
    readings = [(heading, read_roles(roles, policy)) for heading, roles in lists]
    found = [reading.role for heading, reading in readings if reading.role is not None]
    role = higher(*found) if found else None
    admin = any(reading.admin for heading, reading in readings)
    doors = [(active, access.rehearse_gate(role, admin=admin, active=active)) for active in (True, False)]
    return Outcome(readings, role, admin, doors=doors, **whose)


def _try_pasted(pasted: Pasted, policy: RolePolicy) -> Outcome:
    return _outcome(
        [("", pasted.roles)], policy, name=pasted.name, course=pasted.course, from_token=pasted.from_token
    )


def _try_told(told: Told, policy: RolePolicy) -> Outcome:
    """Somebody known, by what launch and list said last; what the list took back counts no more."""
    one = told.enrollment
    lists = [
        (heading, roles)
        for heading, roles, role in (
            (_("At the last launch"), one.launch_roles, one.launch_role),
            (_("In the list"), one.roster_roles, one.roster_role),
        )
        if role is not None and isinstance(roles, list)
    ]
    return _outcome(lists, policy, name=one.user.label, course=told.course.name)


# --- the pages ---------------------------------------------------------------------------


@pages.get("/lms/<int:registration_id>/roles")
@allowed(access.can_manage_platforms)
def show(registration_id: int) -> ResponseReturnValue:
    """How this LMS's roles are read."""
    connection = _find_connection(registration_id)
    return _page(connection, None, policy_of(connection))


@pages.post("/lms/<int:registration_id>/roles/preview")
@allowed(access.can_manage_platforms)
def preview(registration_id: int) -> ResponseReturnValue:
    """Whom the map as edited would make what. Nothing is changed."""
    connection = _find_connection(registration_id)
    form = MapForm()
    valid = form.validate_on_submit()
    policy = form.policy() if valid else policy_of(connection)
    if visitor.wants_fragment() and request.headers.get("HX-Target") == "effect":
        return render_template("lms/_effect.html", **_effect(connection, form, policy)), 200 if valid else 422
    return _page(connection, form, policy)


@pages.post("/lms/<int:registration_id>/roles/try")
@allowed(access.can_manage_platforms)
def try_roles(registration_id: int) -> ResponseReturnValue:
    """What roles, pasted or somebody's, would become with the map as edited. Nothing is kept."""
    connection = _find_connection(registration_id)
    form = MapForm()
    valid = form.validate_on_submit()
    policy = form.policy() if valid else policy_of(connection)
    tried = _tried(connection, form, policy)
    if visitor.wants_fragment():
        return render_template(
            "lms/_tried.html", connection=connection, form=form, policy=policy, swapped=True, **tried
        ), 422 if form.pasted.errors else 200
    return _page(connection, form, policy, **tried)


@pages.post("/lms/<int:registration_id>/roles")
@allowed(access.can_manage_platforms)
def save(registration_id: int) -> ResponseReturnValue:
    """Read roles by the map as edited from now on."""
    connection = _find_connection(registration_id)
    form = MapForm()
    if not form.validate_on_submit():
        return _page(connection, form, policy_of(connection))
    if form.seen.data != policy_of(connection).stamp:
        raise RoleMapMoved
    if form.policy() == policy_of(connection):
        flash(_("The role map says that already. Nothing was changed."), "open")
        return redirect(url_for(".show", registration_id=registration_id), 303)
    role_changes.change(connection, form.policy(), by=g.user)
    db.session.commit()
    toast = render_template(
        "lms/_undo.html", registration=connection.registration, stamp=policy_of(connection).stamp
    )
    flash(Markup(toast), "open")  # noqa: S704 — our own template, which escapes what it is given
    return redirect(url_for(".show", registration_id=registration_id), 303)


@pages.post("/lms/<int:registration_id>/roles/undo")
@allowed(access.can_manage_platforms)
def undo(registration_id: int) -> ResponseReturnValue:
    """Read roles as before the last change."""
    connection = _find_connection(registration_id)
    role_changes.undo(connection, request.form.get("stamp", ""), by=g.user)
    db.session.commit()
    flash(_("Roles of %(lms)s are read as before.", lms=lms_name(connection.registration)), "open")
    return redirect(url_for(".show", registration_id=registration_id), 303)


def _find_connection(registration_id: int) -> Connection:
    connection = accounts.find_connection(g.account, registration_id)
    if connection is None:
        raise NotFound
    return connection


def _page(
    connection: Connection, form: MapForm | None, policy: RolePolicy, **tried: Any
) -> ResponseReturnValue:
    """The whole page: as stored, or as edited by a browser without script."""
    fresh = form is None
    if form is None:
        form = MapForm(
            formdata=None,
            seen=policy.stamp,
            **{name: getattr(policy, name) for name in role_changes.SWITCHES},
        )
    return render_template(
        "lms/roles.html",
        registration=connection.registration,
        lines=_lines(connection, None if fresh else form, policy),
        unsent=_unsent(form),
        **{"outcome": None, "found": None, "unreadable": "", **tried},
        **_effect(connection, form, policy),
    ), 422 if form.errors else 200


def _unsent(form: MapForm) -> Mapping[str, str]:
    """The row for another role, as it came back: what is wrong there is told beside it."""
    for row in form.rows:
        if row.errors and row.role.data:
            return {"role": row.role.data, "becomes": row.becomes.data or "", "error": _first_error(row)}
    return {"role": "", "becomes": "", "error": ""}


def _first_error(row: FormField) -> str:
    return str(next(problem for problems in row.errors.values() for problem in problems))


def _effect(connection: Connection, form: MapForm, policy: RolePolicy) -> dict[str, Any]:
    held = policy_of(connection)
    changed = policy != held
    return {
        "connection": connection,
        "form": form,
        "policy": policy,
        "held": held,
        "changed": changed,
        "effect": role_changes.foresee(connection, policy) if changed else None,
        "moved": bool(form.seen.data) and form.seen.data != held.stamp,
    }


def _tried(connection: Connection, form: MapForm, policy: RolePolicy) -> dict[str, Any]:
    """What is shown under the simulator: people to choose from, an outcome, or why it cannot be read."""
    search = (form.who.data or "").strip()
    shown: dict[str, Any] = {"outcome": None, "found": None, "unreadable": ""}
    if form.told.data:
        told = carried_roles.told_by(connection, form.told.data)
        if told is None:
            raise NotFound
        return shown | {"outcome": _try_told(told, policy)}
    if search:
        shown["found"] = carried_roles.find_told(connection, search)
    if not form.pasted.errors and (form.pasted.data or "").strip():
        try:
            shown["outcome"] = _try_pasted(read_pasted(form.pasted.data), policy)
        except PastedUnreadable as wrong:
            form.pasted.errors = [role_words.unreadable(wrong.reason)]
    if form.pasted.errors:
        shown["unreadable"] = form.pasted.errors[0]
    return shown
