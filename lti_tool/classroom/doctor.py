"""The integration doctor: does an LMS still work with us, and if not, what mends it?

A check asks the platform (keys, a token, the gradebook) and looks at what launches and syncs left behind.
What it finds is kept as codes with facts; pages/doctor_words.py says them in each LMS's own words.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from flask import current_app
from sqlalchemy import func, or_, select
from sqlalchemy.orm import aliased

from lti_tool.classroom import outcomes
from lti_tool.classroom.accounts import Connection, Identity, User, waiting_deployments
from lti_tool.classroom.checkups import Finding, Kind
from lti_tool.classroom.courses import Context, Course
from lti_tool.classroom.syncs import SyncRun, SyncState
from lti_tool.database import db, now
from lti_tool.lti import keys, platform_keys, tokens
from lti_tool.lti.claims import Gradebook
from lti_tool.lti.grades import GradebookService, GradebookUnavailable, ScopeMissing
from lti_tool.lti.outgoing import PlatformUnavailable
from lti_tool.lti.refusal import Refusal
from lti_tool.lti.registrations import Deployment, Platform, Registration
from lti_tool.lti.scopes import LINE_ITEMS, ROSTER, SCORES
from lti_tool.lti.tokens import TokenRefused

# A roster older than this is worth a look.
ROSTER_OLD = timedelta(days=1)
# Refusals older than this are history.
RECENT = timedelta(days=1)
# Courses named in a finding; the details page has them all.
NAMED = 5
# So large a share of people without a name is the LMS's doing, and from here on worth a look.
WITHHELD, SOME = 0.9, 0.2
# Seconds of a clock that nobody notices yet, but that only ever grow.
DRIFT = 5.0
# Refusals that people meet every day, by pressing Back or with a browser that keeps cookies back. The page
# lists them; nothing is wrong with the LMS.
_EVERYDAY = {
    Refusal.NONCE_USED,
    Refusal.STATE_MISSING,
    Refusal.STATE_WRONG,
    Refusal.STATE_EXPIRED,
    Refusal.COOKIE_MISSING,
    Refusal.COOKIE_WRONG,
    Refusal.PLATFORM_LOGIN_REQUIRED,
    Refusal.PLATFORM_DENIED,
    Refusal.PLATFORM_LAUNCH_EXPIRED,
}
WANTED = (ROSTER, LINE_ITEMS, SCORES)


# --- asking the platform -----------------------------------------------------------------


class Patient(NamedTuple):
    """What a check needs to ask a platform, apart from the database session."""

    platform: Platform
    # Of the LMS course that was launched last and has a gradebook.
    gradebook: Gradebook | None


def prepare(connection: Connection) -> Patient:
    """Whom to ask and about what; the caller commits, then calls `ask_platform`."""
    # The key we sign with must be published before a platform looks for it.
    keys.current_key()
    context = db.session.scalar(
        _contexts(connection)
        .where(or_(Context.lineitems_url != "", Context.lineitem_url != ""))
        .order_by(Context.last_launch_at.desc(), Context.id)
        .limit(1)
    )
    gradebook = None
    if context is not None:
        gradebook = Gradebook(
            context.lineitems_url or None,
            context.lineitem_url or None,
            tuple(context.service_scopes or ()),
        )
    return Patient(Platform.of(connection.registration), gradebook)


def ask_platform(patient: Patient, on_step: Callable[[str], None] = lambda step: None) -> list[Finding]:
    """Everything that the platform itself must answer. Ends open transactions (outgoing.let_go)."""
    on_step("keys")
    found = [_look_at_keys(patient.platform)]
    on_step("token")
    scopes, token = _ask_for_token(patient.platform)
    found.append(token)
    if scopes is not None:
        found += _judge_scopes(scopes)
        if scopes & {LINE_ITEMS, SCORES}:
            on_step("grades")
            found.append(_look_at_gradebook(patient))
    on_step("rosters")
    return found


def _look_at_keys(platform: Platform) -> Finding:
    try:
        held = platform_keys.look(platform)
    except PlatformUnavailable as error:
        return Finding("keys_unavailable", Kind.MEND, {"reason": error.reason, "status": error.status})
    facts = {"kids": list(held.kids)[:NAMED], "keys": len(held.kids), "weak": list(held.weak)[:NAMED]}
    if not held.kids:
        return Finding("keys_weak", Kind.MEND, facts)
    return (
        Finding("keys_some_weak", Kind.LOOK, facts) if held.weak else Finding("keys_good", Kind.GOOD, facts)
    )


def _ask_for_token(platform: Platform) -> tuple[frozenset[str] | None, Finding]:
    """Which scopes we are granted, None if that was not to be found out."""
    try:
        granted = tokens.granted_scopes(platform, WANTED)
    except TokenRefused as refused:
        facts = {"error": refused.error, "status": refused.status}
        return None, Finding("token_refused", Kind.MEND, facts)
    except PlatformUnavailable as error:
        if error.reason == "own_key_unreadable":
            return None, Finding("own_key_unreadable", Kind.MEND)
        return None, Finding("token_unavailable", Kind.MEND, {"reason": error.reason, "status": error.status})
    return granted, Finding("token_good", Kind.GOOD)


def _judge_scopes(granted: frozenset[str]) -> list[Finding]:
    found = []
    if ROSTER in granted:
        found.append(Finding("roster_service_good", Kind.GOOD))
    else:
        found.append(Finding("roster_scope_missing", Kind.MEND))
    missing = [scope for scope in (LINE_ITEMS, SCORES) if scope not in granted]
    if missing:
        found.append(Finding("grades_scope_missing", Kind.LOOK, {"all": len(missing) == 2}))
    return found


def _look_at_gradebook(patient: Patient) -> Finding:
    if patient.gradebook is None or patient.gradebook.lineitems_url is None:
        return Finding("grades_unseen", Kind.LOOK)
    try:
        items = GradebookService(patient.platform, patient.gradebook).list_items()
    except ScopeMissing:
        return Finding("grades_scope_missing", Kind.LOOK, {"all": False})
    except GradebookUnavailable as error:
        return Finding("grades_failed", Kind.LOOK, {"reason": error.reason, "status": error.status})
    return Finding("grades_good", Kind.GOOD, {"items": len(items)})


# What a platform says of our signature when it does not hold at its own time, too.
_OF_SIGNATURE = {"", "invalid_client", "invalid_grant", "invalid_request"}


def sum_up(found: Sequence[Finding]) -> list[Finding]:
    """One cause is named once: where the clock is far off, our signature is refused whatever the keys are."""
    if all(one.code != "clock_off" for one in found):
        return list(found)
    return [
        Finding("token_waits_for_clock", Kind.LOOK, one.facts)
        if one.code == "token_refused" and one.facts["error"] in _OF_SIGNATURE
        else one
        for one in found
    ]


# --- looking at what is here -------------------------------------------------------------


def look_here(connection: Connection) -> list[Finding]:
    """What launches and syncs left behind, and our own side."""
    registration = connection.registration
    account = connection.account
    found = [_judge_clock(registration), *_judge_rosters(connection), *_judge_people(connection)]
    waiting = [one for one in waiting_deployments(account) if one.registration_id == registration.id]
    if waiting:
        found.append(Finding("deployments_waiting", Kind.MEND, {"count": len(waiting)}))
    latest = outcomes.latest(account, [registration.id], since=now() - RECENT)
    recent = [one for one in latest if one.code not in _EVERYDAY]
    if recent:
        worst = max(recent, key=lambda one: one.times)
        facts = {"reasons": len(recent), "code": worst.code, "at": worst.at.isoformat()}
        found.append(Finding("refusals", Kind.LOOK, facts))
    if not _is_secure(current_app.config["PUBLIC_URL"]):
        found.append(Finding("public_url_insecure", Kind.LOOK))
    return found


def _is_secure(public_url: str) -> bool:
    """Do browsers keep our cookies there? On this machine they do without https too."""
    parts = urlsplit(public_url)
    host = parts.hostname or ""
    return parts.scheme == "https" or host in ("localhost", "127.0.0.1") or host.endswith(".localhost")


def _judge_clock(registration: Registration) -> Finding:
    offset = registration.clock_offset
    if offset is None:
        return Finding("nobody_launched", Kind.LOOK)
    skew = current_app.config["CLOCK_SKEW_SECONDS"]
    facts = {"offset": offset, "allowed": skew}
    if abs(offset) > skew:
        return Finding("clock_off", Kind.MEND, facts)
    return (
        Finding("clock_drifts", Kind.LOOK, facts)
        if abs(offset) > 5
        else Finding("clock_good", Kind.GOOD, facts)
    )


class Roster(NamedTuple):
    """The roster of one LMS course: its newest sync, and when one last ended well."""

    context: Context
    course: Course
    run: SyncRun | None
    in_force_at: datetime | None

    @property
    def old(self) -> bool:
        """Is the roster in force older than a day?"""
        return self.in_force_at is not None and self.in_force_at < now() - ROSTER_OLD


def rosters(connection: Connection, *, limit: int = 500) -> list[Roster]:
    """The LMS's courses with how their rosters stand, in one statement, the worst in front."""
    other, good = aliased(SyncRun), aliased(SyncRun)
    newest = select(func.max(other.id)).where(other.context_id == Context.id).correlate(Context)
    ends = (SyncState.APPLIED, SyncState.UNCHANGED)
    in_force = (
        select(func.max(good.finished_at))
        .where(good.context_id == Context.id, good.state.in_(ends))
        .correlate(Context)
        .scalar_subquery()
    )
    rows = db.session.execute(
        _contexts(connection)
        .join(Course, Course.id == Context.course_id)
        .add_columns(Course)
        .outerjoin(SyncRun, SyncRun.id == newest.scalar_subquery())
        .add_columns(SyncRun, in_force)
        .order_by(in_force.is_not(None), in_force, Context.id)
        .limit(limit)
    )
    return [Roster(*row) for row in rows]


def _contexts(connection: Connection) -> Any:
    """The LMS courses of an account's LMS."""
    return (
        select(Context)
        .join(Deployment, Deployment.id == Context.deployment_id)
        .where(
            Context.account_id == connection.account_id,
            Deployment.registration_id == connection.registration_id,
        )
    )


def _judge_rosters(connection: Connection) -> list[Finding]:
    standings = rosters(connection)
    offered = [one for one in standings if one.context.memberships_url]
    found = []
    if standings and not offered:
        found.append(Finding("roster_not_offered", Kind.MEND))
    failed = [one for one in offered if one.run and one.run.state is SyncState.FAILED]
    if failed:
        facts = {**_named(failed), "error": failed[0].run.error if failed[0].run else ""}
        found.append(Finding("rosters_failed", Kind.MEND, facts))
    held = [one for one in offered if one.run and one.run.state is SyncState.HELD]
    if held:
        found.append(Finding("rosters_held", Kind.LOOK, _named(held)))
    old = [one for one in offered if one.old and one not in failed and one not in held]
    if old:
        found.append(Finding("rosters_old", Kind.LOOK, _named(old)))
    never = [one for one in offered if one.run is None]
    if never:
        found.append(Finding("rosters_never", Kind.LOOK, _named(never)))
    if offered and not found:
        people = sum(one.run.members for one in offered if one.run)
        found.append(Finding("rosters_good", Kind.GOOD, {"courses": len(offered), "people": people}))
    return found


def _named(standings: Sequence[Roster]) -> dict[str, Any]:
    courses = [
        {"id": one.course.id, "name": one.context.label or one.course.name} for one in standings[:NAMED]
    ]
    return {"courses": courses, "count": len(standings)}


def _judge_people(connection: Connection) -> list[Finding]:
    """Names and addresses that the LMS keeps to itself: in its newest rosters, else of those who came."""
    members, nameless, mailless = _told_of_members(connection)
    if not members:
        members, nameless, mailless = _told_of_people(connection)
    if not members:
        return []
    found = []
    for what, missing in (("names", nameless), ("emails", mailless)):
        facts = {"missing": missing, "people": members}
        if missing / members >= WITHHELD:
            found.append(Finding(f"{what}_withheld", Kind.MEND, facts))
        elif missing / members >= SOME:
            found.append(Finding(f"{what}_some_missing", Kind.LOOK, facts))
    return found or [Finding("people_told", Kind.GOOD, {"people": members})]


def _told_of_members(connection: Connection) -> tuple[int, int, int]:
    other = aliased(SyncRun)
    ends = (SyncState.APPLIED, SyncState.UNCHANGED, SyncState.HELD)
    newest = (
        select(func.max(other.id))
        .where(other.context_id == Context.id, other.state.in_(ends))
        .correlate(Context)
        .scalar_subquery()
    )
    row = db.session.execute(
        _contexts(connection)
        .join(SyncRun, SyncRun.id == newest)
        .with_only_columns(func.sum(SyncRun.members), func.sum(SyncRun.nameless), func.sum(SyncRun.mailless))
    ).one()
    return row[0] or 0, row[1] or 0, row[2] or 0


def _told_of_people(connection: Connection) -> tuple[int, int, int]:
    row = db.session.execute(
        select(
            func.count(),
            func.count().filter(User.name == ""),
            func.count().filter(User.email == ""),
        )
        .select_from(Identity)
        .join(User, User.id == Identity.user_id)
        .where(
            Identity.account_id == connection.account_id,
            Identity.registration_id == connection.registration_id,
            User.is_test.is_(False),
        )
    ).one()
    return row[0], row[1], row[2]
