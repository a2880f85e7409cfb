"""One person in an account: what is known of them and from where; changing, blocking, erasing them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, func, select, update
from sqlalchemy.orm import aliased, joinedload, lazyload

from lti_tool import mail
from lti_tool.classroom import answers, audit, connecting, enrolling, erasing, sessions
from lti_tool.classroom.accounts import Account, Identity, Role, Status, User, rename
from lti_tool.classroom.courses import Context, Course, Enrollment, Source
from lti_tool.classroom.invitations import Invitation
from lti_tool.classroom.rooms import Attendance
from lti_tool.classroom.roster import PLATFORM_NAMES
from lti_tool.classroom.sessions import Session
from lti_tool.database import db, now
from lti_tool.lti.registrations import Deployment, Registration
from lti_tool.mail import OutboxMail
from lti_tool.sealing import fingerprint


class LastOwner(Exception):
    """The account would be left without an owner."""


class ChangedMeanwhile(Exception):
    """Somebody else changed the person after the form that now comes back was opened."""


@dataclass(frozen=True)
class Belonging:
    """One reason why somebody is in a course; `by` is who added them, `platform` the LMS that did."""

    course: Course
    role: Role
    source: Source
    since: datetime
    platform: str
    by: User | None


@dataclass(frozen=True)
class Known:
    """How an LMS knows somebody."""

    platform: str
    subject: str
    last_launch_at: datetime | None
    registration_id: int
    since: datetime


@dataclass(frozen=True)
class Portrait:
    """What is known of somebody, each fact with where it comes from."""

    belongings: Sequence[Belonging]
    identities: Sequence[Known]
    # The newest invitation, and its newest mail if that is still remembered.
    invitation: Invitation | None
    mail: OutboxMail | None
    # The browsers that are signed in, the one used last in front, with the LMS they came from.
    browsers: Sequence[tuple[Session, str]]

    @property
    def courses(self) -> list[tuple[Course, Role]]:
        """Each course once, with the highest role."""
        best: dict[int, tuple[Course, Role]] = {}
        for one in self.belongings:
            held = best.get(one.course.id)
            if held is None or one.role.rank > held[1].rank:
                best[one.course.id] = (one.course, one.role)
        return list(best.values())

    @property
    def from_lms(self) -> set[int]:
        """The courses that an LMS lists the person in, so that its next sync would bring them back."""
        return {one.course.id for one in self.belongings if one.source is Source.LMS}


def portray(user: User, *, idle: timedelta) -> Portrait:
    """Everything the user's panel says, in three statements; who was idle for that long is signed out."""
    adder = aliased(User)
    rows = db.session.execute(
        select(Enrollment, Course, Registration, adder)
        .join(Course, Course.id == Enrollment.course_id)
        .outerjoin(Context, Context.id == Enrollment.context_id)
        .outerjoin(Deployment, Deployment.id == Context.deployment_id)
        .outerjoin(Registration, Registration.id == Deployment.registration_id)
        .outerjoin(adder, adder.id == Enrollment.added_by_id)
        .where(
            Enrollment.account_id == user.account_id,
            Enrollment.user_id == user.id,
            Enrollment.ended_at.is_(None),
        )
        .order_by(Course.name_key, Course.id, Enrollment.id)
    )
    belongings = [
        Belonging(course, held.role, held.source, held.since, _called(registration), by)
        for held, course, registration, by in rows
    ]
    # Of several invitations the newest. One statement finds it beside identities and sessions, each with
    # each, since there are few of them.
    newest = select(func.max(Invitation.id)).where(Invitation.user_id == user.id).scalar_subquery()
    living = and_(Session.user_id == User.id, Session.expires_at > now(), Session.seen_at > now() - idle)
    found = db.session.execute(
        select(Identity, Registration, Invitation, Session)
        .select_from(User)
        .outerjoin(Identity, Identity.user_id == User.id)
        .outerjoin(Registration, Registration.id == Identity.registration_id)
        .outerjoin(Invitation, Invitation.id == newest)
        .outerjoin(Session, living)
        .options(joinedload(Invitation.invited_by), lazyload(Session.user))
        .where(User.account_id == user.account_id, User.id == user.id)
        .order_by(Identity.id, Session.seen_at.desc(), Session.id.desc())
    ).all()
    known = {row[0].id: row for row in found if row[0] is not None}
    lms_of = {row[1].id: _called(row[1]) for row in known.values()}
    identities = [
        Known(
            lms_of[one.registration_id],
            one.subject,
            one.last_launch_at,
            one.registration_id,
            one.created_at,
        )
        for one, *_ in known.values()
    ]
    browsers = {row[3].id: row[3] for row in found if row[3] is not None}
    invitation = found[0][2] if found else None
    sent = None
    if invitation is not None and user.status is Status.PENDING:
        sent = mail.latest_about([invitation.topic]).get(invitation.topic)
    return Portrait(
        belongings,
        identities,
        invitation,
        sent,
        [(one, lms_of.get(one.registration_id or 0, "")) for one in browsers.values()],
    )


def _called(registration: Registration | None) -> str:
    if registration is None:
        return ""
    return PLATFORM_NAMES.get(registration.family.lower(), registration.name)


# --- changing ----------------------------------------------------------------------------


def version_of(user: User) -> str:
    """Names what can be changed of somebody as it is now; another one after every change."""
    return fingerprint(f"{user.id}\n{user.name}\n{user.role}\n{user.name_by_hand}")[:16]


def hold(user: User, version: str) -> None:
    """From here to the commit nobody else changes `user`. Raises ChangedMeanwhile if it is not `version`."""
    # In the order of `erase`, or two would wait for each other.
    _line_up(user.account_id)
    held = db.session.scalar(
        select(User)
        .where(User.account_id == user.account_id, User.id == user.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if held is None or version_of(held) != version:
        raise ChangedMeanwhile


def name_by_hand(user: User, name: str, *, by: User) -> None:
    """Set somebody's name here; from now on no LMS overwrites it."""
    if name == user.name:
        return
    rename(user, name=name, email=user.email)
    user.name_by_hand = True
    # The log tells that it happened; a name in it would outlive the person's erasure.
    audit.record(user.account_id, "user.renamed", f"user:{user.id}", by=by)


def change_role(user: User, role: Role, *, by: User | None = None, source: str = "") -> None:
    """Change what somebody is in the account; who loses power is signed out everywhere.

    Raises LastOwner. A role set by hand is no LMS's to take back.
    """
    if role is user.role:
        return
    if user.role is Role.OWNER:
        _keep_an_owner(user)
    audit.record(
        user.account_id,
        "role.changed",
        f"user:{user.id}",
        by=by,
        source=source,
        before={"role": user.role},
        after={"role": role},
    )
    if role.rank < user.role.rank:
        sessions.end_all(user)
    user.role, user.made_admin_by_id = role, None


def add_to_course(user: User, course: Course, role: Role, *, by: User) -> bool:
    """Put somebody on a course's list by hand; False if they have that role there, or a higher one.

    Nobody is mailed. Who teaches a course is an instructor in the account too.
    """
    if not enrolling.enroll(course, user, role, Source.MANUAL, by=by):
        return False
    if role.rank > user.role.rank:
        change_role(user, role, by=by)
    return True


def remove_from_course(user: User, course: Course, *, by: User) -> bool:
    """End every reason why somebody is in a course; does an LMS still list them, so that they come back?"""
    ended = db.session.scalars(
        update(Enrollment)
        .where(
            Enrollment.account_id == user.account_id,
            Enrollment.course_id == course.id,
            Enrollment.user_id == user.id,
            Enrollment.ended_at.is_(None),
        )
        # Without its digest the LMS's next word about them counts as news.
        .values(ended_at=now(), digest=None)
        .returning(Enrollment.source)
        .execution_options(synchronize_session=False)
    ).all()
    if ended:
        audit.record(
            user.account_id, "enrollment.ended", f"user:{user.id}", by=by, before={"course": course.id}
        )
    return Source.LMS in ended


def sign_out_everywhere(user: User, *, by: User) -> None:
    """End every browser session of somebody; they can sign in again."""
    sessions.end_all(user)
    audit.record(user.account_id, "user.signed_out", f"user:{user.id}", by=by)


# --- blocking ----------------------------------------------------------------------------


def block(user: User, *, by: User | None, source: str = "") -> None:
    """Shut somebody out: signed out at once, and no launch, link or code lets them in again.

    They stay on every list, where syncs go on keeping them. Raises LastOwner.
    """
    if user.role is Role.OWNER:
        _keep_an_owner(user)
    if user.blocked_at is not None:
        return
    user.blocked_at = now()
    sessions.shut_out(user)
    erasing.cancel_mail(user)
    connecting.withdraw_all(user, by=by)
    audit.record(user.account_id, "user.blocked", f"user:{user.id}", by=by, source=source)


def unblock(user: User, *, by: User | None, source: str = "") -> None:
    """Let somebody in again as what they are on the lists by now; they sign in anew."""
    if user.blocked_at is None:
        return
    user.blocked_at = None
    audit.record(user.account_id, "user.unblocked", f"user:{user.id}", by=by, source=source)


# --- deleting ----------------------------------------------------------------------------


def erase(user: User, *, by: User | None) -> None:
    """Delete somebody: identities, enrollments, sessions, mail that waits. Attendance stays, nameless.

    Whoever was merged into them goes with them. Raises LastOwner.
    """
    _line_up(user.account_id)
    if user.role is Role.OWNER:
        _keep_an_owner(user)
    if db.session.scalar(select(User.id).where(User.id == user.id)) is None:
        # Somebody else did it in this very moment.
        return
    same = db.session.scalars(select(User).where(User.merged_into_id == user.id)).all()
    for one in (user, *same):
        erasing.cancel_mail(one)
        answers.close(one, by=by)
        connecting.withdraw_all(one, by=by)
        erasing.forget(one)
    db.session.execute(
        update(Attendance)
        .where(Attendance.user_id == user.id, Attendance.left_at.is_(None))
        .values(left_at=now())
        .execution_options(synchronize_session=False)
    )
    audit.record(user.account_id, "user.erased", f"user:{user.id}", by=by, before={"role": user.role})
    db.session.flush()
    for one in same:
        db.session.delete(one)
    db.session.flush()
    db.session.delete(user)
    db.session.flush()


def _line_up(account_id: int) -> None:
    """Two who remove each other at once come one after the other."""
    one = select(Account.id).where(Account.id == account_id)
    db.session.execute(one.with_for_update(key_share=True))


def _keep_an_owner(leaving: User) -> None:
    """Raises LastOwner. One who is blocked cannot look after the account."""
    _line_up(leaving.account_id)
    # Asked of the database: what this transaction read before it stood in line may be over.
    another = select(User.id).where(
        User.account_id == leaving.account_id,
        User.id != leaving.id,
        User.role == Role.OWNER,
        User.blocked_at.is_(None),
    )
    if db.session.scalar(another.limit(1)) is None:
        raise LastOwner
