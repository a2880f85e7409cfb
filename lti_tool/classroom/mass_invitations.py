"""Inviting many people at once: the deed, done to many rows of a batch together.

Rows were judged when their list was shown; they are judged again here, since in between others invite people
too. Writing is set-based: what goes into a table goes together.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.exc import IntegrityError

from lti_tool import mail
from lti_tool.classroom import access, enrolling, invitations, search, verdicts
from lti_tool.classroom.accounts import Role, Status, User, email_key
from lti_tool.classroom.audit import AuditEvent, course_of
from lti_tool.classroom.batches import Batch, BatchRow
from lti_tool.classroom.courses import Course, Enrollment, Source
from lti_tool.classroom.guest_lists import MAX_ROWS
from lti_tool.classroom.invitations import Invitation
from lti_tool.classroom.verdicts import Guest, Verdict
from lti_tool.database import among, db, fold, insert_many, new_ids, now
from lti_tool.mail import Addressed

Outcome = tuple[str, int | None]


def invite_waiting(batch: Batch, *, lifetime: timedelta, public_url: str) -> None:
    """Invite everybody of the batch who waits, as `invitations.invite` would one by one; note what became."""
    by = batch.by
    if by is None:
        # Who asked for it is gone; the caller ends the batch.
        return
    rows = db.session.execute(
        select(BatchRow.number, BatchRow.words)
        .where(BatchRow.batch_id == batch.id, BatchRow.outcome == "")
        .order_by(BatchRow.number)
        .limit(MAX_ROWS)
    ).all()
    for last in (False, False, True):
        try:
            with db.session.begin_nested():
                guests = [_recall(row.number, row.words) for row in rows]
                _note(batch, _Deed(batch, by, guests, lifetime=lifetime, public_url=public_url).do())
            break
        except IntegrityError:
            # Somebody else invited one of them in this very moment; the next look finds them.
            if last:
                raise


def _recall(number: int, words: dict[str, Any]) -> Guest:
    return Guest(number, words["name"], words["email"], Role(words["role"]), words["courses"])


def _note(batch: Batch, outcomes: Mapping[int, Outcome]) -> None:
    if not outcomes:
        return
    table = BatchRow.__table__
    db.session.connection().execute(
        update(BatchRow)
        .where(table.c.batch_id == batch.id, table.c.number == bindparam("b_number"))
        .values(outcome=bindparam("outcome"), user_id=bindparam("user_id")),
        [
            {"b_number": number, "outcome": outcome, "user_id": user_id}
            for number, (outcome, user_id) in outcomes.items()
        ],
    )


class _Deed:
    """One part of a batch being done: what of it is for whom, and the rows that follow."""

    def __init__(
        self, batch: Batch, by: User, guests: list[Guest], *, lifetime: timedelta, public_url: str
    ) -> None:
        self.account, self.by, self.guests = batch.account, by, guests
        self.part_of = f"batch:{batch.id}"
        self.again = bool(batch.terms.get("again"))
        self.public_url, self.expires = public_url, now() + lifetime
        wanted = {course for guest in guests for course in guest.courses}
        self.courses = {
            course.id: course
            for course in db.session.scalars(
                select(Course).where(Course.account_id == batch.account_id, among(Course.id, wanted))
            )
        }
        self.outcomes: dict[int, Outcome] = {}
        verdicts.judge(batch.account, self._allowed(), formulas=True)

    def _allowed(self) -> list[Guest]:
        """Those whom the asker may still invite to what there still is; the others get their outcome."""
        allowed = []
        for guest in self.guests:
            if not guest.email:
                # Erased since the list was judged. People whom an LMS sent may have no address either.
                self.outcomes[guest.number] = ("no_address", None)
            elif not access.can_invite_as(self.by, guest.role):
                self.outcomes[guest.number] = ("role_above", None)
            elif not all(course in self.courses for course in guest.courses):
                self.outcomes[guest.number] = ("course_gone", None)
            else:
                allowed.append(guest)
        self.guests = allowed
        return allowed

    def do(self) -> dict[int, Outcome]:
        """Write everything; row → outcome."""
        of = {verdict: [g for g in self.guests if g.verdict is verdict] for verdict in Verdict}
        self._invite_new(of[Verdict.INVITE])
        known = [*of[Verdict.ADD], *of[Verdict.WAITING]]
        self._raise(known)
        self._enroll_known(known)
        self._tell_registered(of[Verdict.ADD])
        self._name_pending(of[Verdict.WAITING])
        if self.again:
            self._invite_again(of[Verdict.WAITING])
        for guest in self.guests:
            if guest.number not in self.outcomes:
                self.outcomes[guest.number] = (self._outcome(guest), guest.known.id if guest.known else None)
        return self.outcomes

    def _outcome(self, guest: Guest) -> str:
        if guest.verdict is Verdict.WAITING and self.again:
            return "mailed"
        if guest.verdict in (Verdict.ADD, Verdict.WAITING):
            if guest.new_courses:
                return "added"
            return "changed" if guest.raised else "already"
        return guest.verdict.value

    # --- people who are new ---

    def _invite_new(self, guests: Sequence[Guest]) -> None:
        if not guests:
            return
        at, account = now(), self.account
        user_ids = new_ids(User.__table__, len(guests))
        with search.in_bulk():
            insert_many(
                User.__table__,
                {
                    "id": user_ids,
                    "name": [guest.name for guest in guests],
                    "name_key": [fold(guest.name or guest.email) for guest in guests],
                    "email": [guest.email for guest in guests],
                    "email_key": [email_key(guest.email) for guest in guests],
                    "role": [guest.role for guest in guests],
                },
                {
                    "account_id": account.id,
                    "mailbox_proven": True,
                    "status": Status.PENDING,
                    "created_at": at,
                },
            )
        placed = [
            (user_id, course, guest.course_role)
            for user_id, guest in zip(user_ids, guests, strict=True)
            for course in guest.courses
        ]
        insert_many(
            Enrollment.__table__,
            {
                "user_id": [user_id for user_id, _, _ in placed],
                "course_id": [course for _, course, _ in placed],
                "role": [role for _, _, role in placed],
            },
            {
                "account_id": account.id,
                "source": Source.INVITATION,
                "since": at,
                "added_by_id": self.by.id,
                "role_unsaid": False,
            },
        )
        # One object for all who get the same, so that it is written out once.
        after: dict[Any, Any] = {}
        for guest in guests:
            key = (guest.role, tuple(guest.courses))
            after.setdefault(key, {"role": guest.role, "courses": list(guest.courses)})
        self._log(
            "user.invited",
            [f"user:{user_id}" for user_id in user_ids],
            [after[guest.role, tuple(guest.courses)] for guest in guests],
        )
        self._mail(
            self._new_invitations(user_ids),
            [
                (user_id, guest.email, guest.name, guest.role, guest.courses, account.locale)
                for user_id, guest in zip(user_ids, guests, strict=True)
            ],
        )
        for user_id, guest in zip(user_ids, guests, strict=True):
            self.outcomes[guest.number] = ("invited", user_id)

    def _new_invitations(self, user_ids: Sequence[int]) -> Mapping[int, int]:
        """User id → id of an invitation made now."""
        at = now()
        ids = new_ids(Invitation.__table__, len(user_ids))
        insert_many(
            Invitation.__table__,
            {"id": ids, "user_id": user_ids},
            {
                "account_id": self.account.id,
                "invited_by_id": self.by.id,
                "created_at": at,
                "sent_at": at,
                "expires_at": self.expires,
            },
        )
        return dict(zip(user_ids, ids, strict=True))

    def _mail(
        self,
        held: Mapping[int, int],
        people: Sequence[tuple[int, str, str, Role, Sequence[int], str]],
        *,
        replace: bool = False,
    ) -> None:
        """Mail each of them a link to their invitation; `held` is user id → invitation id."""
        tokens = invitations.new_links([held[user_id] for user_id, *_ in people], by=self.by, replace=replace)
        told: dict[tuple[int, ...], list[tuple[str, str]]] = {}
        letters = []
        for token, (user_id, email, name, role, courses, locale) in zip(tokens, people, strict=True):
            key = tuple(courses)
            if key not in told:
                told[key] = [(self.courses[one].name, self.courses[one].summary) for one in courses]
            letters.append(
                Addressed(
                    to=email,
                    name=name,
                    courses=told[key],
                    role=role,
                    link=f"{self.public_url}/invitations/{token}",
                    about=f"invitation:{held[user_id]}",
                    locale=locale,
                )
            )
        mail.queue_invitations(
            letters,
            sender=self.by.label,
            account=self.account.name,
            expires=self.expires,
            part_of=self.part_of,
        )

    # --- people whom the account knows ---

    def _raise(self, guests: Sequence[Guest]) -> None:
        raised = [(guest, guest.known) for guest in guests if guest.raised and guest.known]
        if not raised:
            return
        db.session.connection().execute(
            update(User)
            # Who was given another role in this very moment keeps it.
            .where(User.__table__.c.id == bindparam("b_id"), User.__table__.c.role == bindparam("was"))
            .values(role=bindparam("role"), made_admin_by_id=None),
            [{"b_id": known.id, "was": known.role, "role": guest.role} for guest, known in raised],
        )
        self._log(
            "role.changed",
            [f"user:{known.id}" for _, known in raised],
            [{"role": guest.role} for guest, _ in raised],
            before=[{"role": known.role} for _, known in raised],
        )

    def _enroll_known(self, guests: Sequence[Guest]) -> None:
        wanted = [
            (guest.known.id, course, guest.course_role)
            for guest in guests
            if guest.known
            for course in guest.new_courses
        ]
        if not wanted:
            return
        enrolling.enroll_many(self.account.id, wanted, Source.INVITATION, by=self.by)
        self._log(
            "enrollment.added",
            [f"user:{user_id}" for user_id, _, _ in wanted],
            [{"course": course, "role": role} for _, course, role in wanted],
        )

    def _tell_registered(self, guests: Sequence[Guest]) -> None:
        mail.queue_additions(
            [
                Addressed(
                    to=guest.email,
                    name=guest.known.name,
                    courses=[
                        (self.courses[one].name, self.courses[one].summary) for one in guest.new_courses
                    ],
                    role=guest.role,
                    link=f"{self.public_url}/courses",
                    about=f"user:{guest.known.id}",
                    locale=guest.known.locale or self.account.locale,
                )
                for guest in guests
                if guest.known
            ],
            sender=self.by.label,
            account=self.account.name,
            part_of=self.part_of,
        )

    def _name_pending(self, guests: Sequence[Guest]) -> None:
        """Who was invited without a name has one now."""
        named = [
            (guest.known.id, guest.name)
            for guest in guests
            if guest.known and guest.name and not guest.known.name
        ]
        if named:
            db.session.connection().execute(
                update(User)
                .where(User.__table__.c.id == bindparam("b_id"))
                .values(name=bindparam("name"), name_key=bindparam("name_key")),
                [{"b_id": one, "name": name, "name_key": fold(name)} for one, name in named],
            )

    def _invite_again(self, guests: Sequence[Guest]) -> None:
        """A fresh link for people who are pending; those mailed before stop working."""
        people = {guest.known.id: guest for guest in guests if guest.known}
        if not people:
            return
        held = {
            row.user_id: row.id
            for row in db.session.execute(
                select(Invitation.user_id, Invitation.id).where(
                    among(Invitation.user_id, people), Invitation.answer.is_(None)
                )
            )
        }
        db.session.execute(
            update(Invitation)
            .where(among(Invitation.id, held.values()))
            .values(
                expires_at=self.expires,
                sent_at=now(),
                invited_by_id=func.coalesce(Invitation.invited_by_id, self.by.id),
            )
            .execution_options(synchronize_session=False)
        )
        # One that still waits to be sent carries a link that no longer works.
        mail.cancel(*(f"invitation:{one}" for one in held.values()))
        held.update(self._new_invitations([one for one in people if one not in held]))
        offered: dict[int, list[int]] = {}
        for user_id, course in db.session.execute(
            select(Enrollment.user_id, Course)
            .join(Course, Course.id == Enrollment.course_id)
            .where(among(Enrollment.user_id, people), Enrollment.ended_at.is_(None))
            .order_by(Course.name_key, Course.id)
        ):
            self.courses[course.id] = course
            courses = offered.setdefault(user_id, [])
            if course.id not in courses:
                courses.append(course.id)
        self._mail(
            held,
            [
                (
                    user_id,
                    guest.email,
                    guest.known.name or guest.name,
                    max(guest.role, guest.known.role, key=lambda role: role.rank),
                    offered.get(user_id, []),
                    guest.known.locale or self.account.locale,
                )
                for user_id, guest in people.items()
                if guest.known
            ],
            replace=True,
        )
        self._log("invitation.resent", [f"user:{one}" for one in people], [None] * len(people))

    def _log(
        self, action: str, targets: Sequence[str], after: Sequence[Any], *, before: Sequence[Any] = ()
    ) -> None:
        courses = [course_of(target, None, said) for target, said in zip(targets, after, strict=True)]
        each: dict[str, Sequence[Any]] = {"target": targets, "after": after, "course_id": courses}
        if before:
            each["before"] = before
        insert_many(
            AuditEvent.__table__,
            each,
            {"account_id": self.account.id, "at": now(), "actor_id": self.by.id, "action": action},
        )
