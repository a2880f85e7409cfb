"""What the audit log says: each event as a sentence, who did it, and what changed, in the reader's language.

Names are found when the log is read, for the log holds ids: whoever was deleted has no name there either.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from flask import url_for
from flask_babel import gettext as _
from flask_babel import lazy_gettext
from markupsafe import Markup, escape

from lti_tool.classroom import history
from lti_tool.classroom.accounts import Role
from lti_tool.classroom.audit import BY_DELETED, AuditEvent
from lti_tool.classroom.batches import Deed
from lti_tool.classroom.history import Names
from lti_tool.classroom.retention import Kind
from lti_tool.pages.batch_words import DEEDS
from lti_tool.pages.retention_words import KEPT
from lti_tool.pages.words import ROLE_NAMES

_Said = Mapping[str, Any]


class Change(NamedTuple):
    """One thing that changed; None: there was, or is, no such thing."""

    label: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None or self.after is None:
            return f"{self.label}: {self.before if self.after is None else self.after}"
        return f"{self.label}: {self.before} → {self.after}"


@dataclass(frozen=True)
class Told:
    """One event in words; `striptags()` makes plain text of them."""

    event: AuditEvent
    sentence: Markup
    by: Markup
    changes: tuple[Change, ...]


def _role_changed(before: _Said, after: _Said) -> Any:
    if "course" in after:
        return lazy_gettext("%(person)s has another role in %(course)s.")
    if not before:
        return lazy_gettext("%(person)s was given a role in the account.")
    return lazy_gettext("%(person)s has another role in the account.")


def _answered(before: _Said, after: _Said) -> Any:
    if after.get("yes"):
        return lazy_gettext("The sync of %(course)s that waited got a yes.")
    return lazy_gettext("The sync of %(course)s that waited got a no.")


def _plan_given(before: _Said, after: _Said) -> Any:
    if before.get("plan"):
        return lazy_gettext("%(course)s was given the plan %(plan)s instead of %(plan_before)s.")
    return lazy_gettext("%(course)s was given the plan %(plan)s.")


# Action → its sentence, or what chooses one by before and after.
SENTENCES: dict[str, Any] = {
    "user.added": lazy_gettext("%(person)s was added."),
    "user.invited": lazy_gettext("%(person)s was invited."),
    "user.renamed": lazy_gettext("%(person)s’s name was set by hand."),
    "user.signed_out": lazy_gettext("%(person)s was signed out everywhere."),
    "user.blocked": lazy_gettext("%(person)s was blocked."),
    "user.unblocked": lazy_gettext("%(person)s was unblocked."),
    "user.exported": lazy_gettext("A copy of everything held about %(person)s was taken."),
    "user.erased": lazy_gettext("%(person)s was deleted."),
    "user.merged": lazy_gettext("%(other)s was merged into %(person)s."),
    "user.unmerged": lazy_gettext("The merge of %(other)s into %(person)s was undone."),
    "mailbox.proven": lazy_gettext("%(person)s proved that the mailbox is theirs."),
    "identity.linked": lazy_gettext("%(person)s was linked with the account in %(lms)s."),
    "users.exported": lazy_gettext("The list of people was saved as a file."),
    "role.changed": _role_changed,
    "enrollment.added": lazy_gettext("%(person)s was added to %(course)s."),
    "enrollment.ended": lazy_gettext("%(person)s was removed from %(course)s."),
    "invitation.accepted": lazy_gettext("%(person)s accepted the invitation."),
    "invitation.declined": lazy_gettext("The invitation of %(person)s was answered with “It’s not me”."),
    "invitation.resent": lazy_gettext("The invitation of %(person)s was sent again."),
    "invitation.reminded": lazy_gettext("%(person)s was reminded of the invitation."),
    "invitation.withdrawn": lazy_gettext("The invitation of %(person)s was withdrawn."),
    "batch.started": lazy_gettext("A bulk change was started: %(batch)s."),
    "batch.undone": lazy_gettext("A bulk change was undone: %(batch)s."),
    "batch.stopped": lazy_gettext("A bulk change was stopped: %(batch)s."),
    "course.added": lazy_gettext("The course %(course)s was added."),
    "course.arrived": lazy_gettext("The course %(course)s came from the LMS."),
    "course.copied": lazy_gettext("The course %(course)s was made for a copy of %(original)s in the LMS."),
    "course.described": lazy_gettext("What %(course)s says of itself was changed."),
    "copy.answered": lazy_gettext("The offer to take over from %(origin)s into %(course)s was answered."),
    "lms_course.moved": lazy_gettext("The LMS course “%(title)s” was led from %(left)s to %(course)s."),
    "room.placed": lazy_gettext("The room of %(course)s was placed in the LMS course “%(title)s”."),
    "room.followed": lazy_gettext("A link of the LMS course “%(title)s” was led to %(course)s."),
    "meeting.started": lazy_gettext("A session in %(course)s began."),
    "meeting.ended": lazy_gettext("The session in %(course)s ended."),
    "plan.granted": lazy_gettext("The plan %(plan)s was granted."),
    "plan.given": _plan_given,
    "plan.freed": lazy_gettext("%(course)s lost the plan %(plan_before)s."),
    "plan.asked": lazy_gettext("A plan was asked for %(course)s."),
    "roster.synced": lazy_gettext("The roster of %(course)s was synced."),
    "roster.answered": _answered,
    "roster.undone": lazy_gettext("The last sync of %(course)s was undone."),
    "platform.connected": lazy_gettext("%(lms)s was connected."),
    "platform.renewed": lazy_gettext("The connection of %(lms)s was renewed."),
    "platform.removed": lazy_gettext("%(lms)s was disconnected."),
    "platform.switched": lazy_gettext("What %(lms)s may decide was changed."),
    "platform.roles_mapped": lazy_gettext("How roles of %(lms)s are read was changed."),
    "registration.added": lazy_gettext("%(lms)s was registered."),
    "deployment.approved": lazy_gettext("A part of %(lms)s was approved."),
    "deployment.refused": lazy_gettext("A part of an LMS was refused."),
    "link.made": lazy_gettext("A link that connects an LMS was made."),
    "link.withdrawn": lazy_gettext("A link that connects an LMS was withdrawn."),
    "account.changed": lazy_gettext("The settings of the account were changed."),
    "retention.applied": lazy_gettext("What is too old to be kept was forgotten."),
}

# What one filters by → its name, and the beginnings of its actions.
GROUPS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "people": (
        lazy_gettext("People and roles"),
        ("user.", "users.", "role.", "enrollment.", "identity.", "mailbox.", "batch."),
    ),
    "invitations": (lazy_gettext("Invitations"), ("user.invited", "invitation.")),
    "courses": (lazy_gettext("Courses"), ("course.", "copy.", "lms_course.", "room.")),
    "sessions": (lazy_gettext("Sessions"), ("meeting.",)),
    "plans": (lazy_gettext("Plans"), ("plan.",)),
    "rosters": (lazy_gettext("Rosters"), ("roster.",)),
    "lms": (lazy_gettext("LMS"), ("platform.", "registration.", "deployment.", "link.")),
    "account": (lazy_gettext("Account"), ("account.", "retention.")),
}

# Who did it where nobody's name stands beside it.
_SOURCES = {
    "lms": lazy_gettext("the LMS"),
    "command": lazy_gettext("the operator, by a command"),
    "link": lazy_gettext("a link for connecting an LMS"),
    "mail": lazy_gettext("a link in a mail"),
    "sign-in": lazy_gettext("the sign-in page"),
    "reminder": lazy_gettext("Doorlist, by itself"),
    "retention": lazy_gettext("Doorlist, by what the account keeps"),
    BY_DELETED: lazy_gettext("a deleted person"),
}

# What before and after call things → how they are called here. Others are not shown.
_LABELS = {
    "role": lazy_gettext("Role"),
    "name": lazy_gettext("Name"),
    "summary": lazy_gettext("Summary"),
    "description": lazy_gettext("Description"),
    "seats": lazy_gettext("Seats"),
    "added": lazy_gettext("Added"),
    "changed": lazy_gettext("Changed"),
    "ended": lazy_gettext("Ended"),
    "people": lazy_gettext("People"),
    "issuer": lazy_gettext("Issuer"),
    "client_id": lazy_gettext("Client ID"),
    "deployment": lazy_gettext("Deployment"),
    "makes_admins": lazy_gettext("Its administrators are admins here"),
    "assistants_teach": lazy_gettext("Its teaching assistants are instructors"),
    "designers_teach": lazy_gettext("Its course designers are instructors"),
    "trusts_addresses": lazy_gettext("Its e-mail addresses are trusted"),
    "instructors_invite": lazy_gettext("Instructors may invite students"),
    "overrides": lazy_gettext("Single roles"),
    "contact": lazy_gettext("Has a contact address"),
    "locale": lazy_gettext("Language"),
    "timezone": lazy_gettext("Time zone"),
    "tells_new_sign_ins": lazy_gettext("Admins are told of sign-ins with new browsers"),
    **{f"keep_{kind}_days": label for kind, label in KEPT.items()},
    **{kind.value: label for kind, label in KEPT.items() if kind is not Kind.ENDED},
}
# Shown only where it changed: what is new or gone is called so in the sentence.
_IN_SENTENCE = ("name", "summary", "description")


def actions_of(group: str) -> tuple[str, ...] | None:
    """The actions of a group; None for no such group."""
    if group not in GROUPS:
        return None
    return tuple(action for action in SENTENCES if action.startswith(GROUPS[group][1]))


def tell(account_id: int, events: Iterable[AuditEvent]) -> list[Told]:
    """The events in words, with the names of everything they are about."""
    events = list(events)
    names = history.names_of(account_id, events)
    return [_tell(event, names) for event in events]


def _tell(event: AuditEvent, names: Names) -> Told:
    before, after = _said(event.before), _said(event.after)
    sentence = SENTENCES.get(event.action, event.action)
    if isinstance(sentence, Callable):  # type: ignore[arg-type] # a Callable is a class at run time
        sentence = sentence(before, after)
    parts = _Parts(event, before, after, names)
    # The sentence is ours, or a translator's; what stands in it is escaped.
    told = Markup(str(sentence)) % parts  # noqa: S704
    return Told(event, told, _by(event, names), tuple(_changes(before, after)))


def _said(value: Any) -> _Said:
    return value if isinstance(value, dict) else {}


class _Parts:
    """What stands in a sentence, each looked up as the sentence asks for it."""

    def __init__(self, event: AuditEvent, before: _Said, after: _Said, names: Names) -> None:
        self.event, self.before, self.after, self.names = event, before, after, names
        kind, _, number = event.target.partition(":")
        self.target = {kind: int(number)} if number.isdigit() else {}

    def __getitem__(self, name: str) -> Markup:
        return getattr(self, f"_{name}")()  # type: ignore[no-any-return] # one of those below

    def _person(self) -> Markup:
        return person(self.target.get("user"), self.names)

    def _other(self) -> Markup:
        return person(self.after.get("user"), self.names)

    def _course(self) -> Markup:
        return self._course_called(self.event.course_id)

    def _batch(self) -> Markup:
        deed = str(self.after.get("deed"))
        called = DEEDS[Deed(deed)] if deed in set(Deed) else _("bulk change")
        # Its page says so where the receipt is gone.
        url = url_for("batches.show", batch_id=self.target.get("batch", 0))
        return Markup('<a href="{}">{}</a>').format(url, called)

    def _left(self) -> Markup:
        return self._course_called(self.before.get("course"))

    def _origin(self) -> Markup:
        return self._course_called(self.after.get("origin"))

    def _original(self) -> Markup:
        return self._course_called(self.after.get("copied_from"))

    def _title(self) -> Markup:
        return Markup("<bdi>{}</bdi>").format(self.after.get("lms_course", ""))

    def _plan(self) -> Markup:
        return self._plan_called(self.target.get("plan", self.after.get("plan")))

    def _plan_before(self) -> Markup:
        return self._plan_called(self.before.get("plan"))

    def _lms(self) -> Markup:
        registration = self.target.get("registration") or self.after.get("registration")
        deployment = self.target.get("deployment", 0)
        called = self.names.platforms.get(registration or -deployment)
        return Markup("<bdi>{}</bdi>").format(called) if called else escape(_("an LMS that is gone"))

    def _course_called(self, course_id: int | None) -> Markup:
        if course_id not in self.names.courses:
            return escape(_("a deleted course"))
        url = url_for("courses.show", course_id=course_id)
        return Markup('<a href="{}"><bdi>{}</bdi></a>').format(url, self.names.courses[course_id])

    def _plan_called(self, plan_id: int | None) -> Markup:
        called = self.names.plans.get(plan_id or 0)
        return Markup("<bdi>{}</bdi>").format(called or _("without a name"))


def person(user_id: int | None, names: Names) -> Markup:
    """Somebody by name, with the way to their panel; whoever is deleted has none."""
    user = names.users.get(user_id or 0)
    if user is None:
        return escape(_("A deleted person (no. %(number)s)", number=user_id or "–"))
    return Markup('<a href="{}"><bdi>{}</bdi></a>').format(
        # Whoever was merged into somebody else has no panel of their own.
        url_for("person.show", user_id=user.merged_into_id or user.id),
        user.label,
    )


def _by(event: AuditEvent, names: Names) -> Markup:
    if event.actor_id is not None and event.actor_id in names.users:
        return person(event.actor_id, names)
    return escape(str(_SOURCES.get(event.source, "Doorlist")))


def _changes(before: _Said, after: _Said) -> Iterable[Change]:
    for key, label in _LABELS.items():
        old, new = before.get(key), after.get(key)
        if key == "overrides":
            old, new = _number(old), _number(new)
        if (old is None and new is None) or old == new or (key in _IN_SENTENCE and None in (old, new)):
            continue
        yield Change(str(label), _value(key, old), _value(key, new))


def _number(value: Any) -> int | None:
    return len(value) if isinstance(value, dict) else None


def _value(key: str, value: Any) -> str | None:
    if value is None:
        return None
    if key == "role" and value in list(Role):
        return str(ROLE_NAMES[Role(value)])
    if isinstance(value, bool):
        return str(_("Yes")) if value else str(_("No"))
    return str(value) or "–"
