"""One person in an account: what is known of them and from where, and changing, leaving, erasing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import aliased, joinedload

from lti_tool import mail
from lti_tool.classroom import audit, connecting, sessions
from lti_tool.classroom.accounts import Account, Identity, Role, User, owners, rename
from lti_tool.classroom.courses import Context, Course, Enrollment, Source
from lti_tool.classroom.invitations import Invitation
from lti_tool.classroom.rooms import Attendance
from lti_tool.classroom.roster import PLATFORM_NAMES
from lti_tool.database import db, now
from lti_tool.lti.registrations import Deployment, Registration
from lti_tool.mail import OutboxMail


class LastOwner(Exception):
    """The account would be left without an owner."""


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


@dataclass(frozen=True)
class Portrait:
    """What is known of somebody, each fact with where it comes from."""

    belongings: Sequence[Belonging]
    identities: Sequence[Known]
    # The newest invitation, and its newest mail if that is still remembered.
    invitation: Invitation | None
    mail: OutboxMail | None

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


def portray(user: User) -> Portrait:
    """Everything the user's panel says, in four statements."""
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
    known = db.session.execute(
        select(Identity, Registration)
        .join(Registration, Registration.id == Identity.registration_id)
        .where(Identity.account_id == user.account_id, Identity.user_id == user.id)
        .order_by(Identity.id)
    )
    identities = [
        Known(_called(registration), identity.subject, identity.last_launch_at, registration.id)
        for identity, registration in known
    ]
    invitation = db.session.scalar(
        select(Invitation)
        .options(joinedload(Invitation.invited_by))
        .where(Invitation.account_id == user.account_id, Invitation.user_id == user.id)
        .order_by(Invitation.id.desc())
        .limit(1)
    )
    sent = mail.latest_about([invitation.topic]).get(invitation.topic) if invitation else None
    return Portrait(belongings, identities, invitation, sent)


def _called(registration: Registration | None) -> str:
    if registration is None:
        return ""
    return PLATFORM_NAMES.get(registration.family.lower(), registration.name)


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


def erase(user: User, *, by: User | None) -> None:
    """Delete somebody: identities, enrollments, sessions, mail that waits. Attendance stays, nameless.

    Raises LastOwner.
    """
    _line_up(user.account_id)
    if user.role is Role.OWNER:
        _keep_an_owner(user)
    if db.session.scalar(select(User.id).where(User.id == user.id)) is None:
        # Somebody else did it in this very moment.
        return
    invited = db.session.scalars(select(Invitation).filter_by(user_id=user.id))
    for about in [f"user:{user.id}", *(invitation.topic for invitation in invited)]:
        mail.cancel(about)
    connecting.withdraw_all(user, by=by)
    db.session.execute(
        update(Attendance)
        .where(Attendance.user_id == user.id, Attendance.left_at.is_(None))
        .values(left_at=now())
        .execution_options(synchronize_session=False)
    )
    audit.record(user.account_id, "user.erased", f"user:{user.id}", by=by, before={"role": user.role})
    db.session.flush()
    db.session.delete(user)
    db.session.flush()


def _line_up(account_id: int) -> None:
    """Two who remove each other at once come one after the other."""
    one = select(Account.id).where(Account.id == account_id)
    db.session.execute(one.with_for_update(key_share=True))


def _keep_an_owner(leaving: User) -> None:
    """Raises LastOwner."""
    _line_up(leaving.account_id)
    if all(owner.id == leaving.id for owner in owners(leaving.account_id)):
        raise LastOwner
