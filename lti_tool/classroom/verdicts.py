"""What becomes of each row of a list of guests, said before anything is done.

`read` says what can be told from the row alone, `judge` what follows from who is known and who is on which
list. Both ask the database a handful of questions however long the list is.
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES
from sqlalchemy import select

from lti_tool.classroom import access
from lti_tool.classroom.accounts import Account, Connection, Identity, Role, Status, User, email_key
from lti_tool.classroom.courses import Course, Enrollment
from lti_tool.classroom.guest_lists import Entry
from lti_tool.classroom.invitations import AddressWrong, check_address
from lti_tool.database import among, db, fold

LONGEST_NAME = 200
# Of a cell that names courses, kept for the file of rows not taken.
_LONGEST_CELL = 1000
# Unknown course names for which the nearest known one is looked for: each costs a walk through all.
_NEAREST_FOR = 20


class Verdict(StrEnum):
    """What becomes of a row, or why nothing does."""

    INVITE = "invite"
    ADD = "add"
    # Pending already: gets what is new, and a fresh invitation if that is asked for.
    WAITING = "waiting"
    # The name could be run by a spreadsheet: somebody has to look at it.
    FORMULA = "formula"
    NOTHING = "already"
    NO_ADDRESS = "no_address"
    BAD_ADDRESS = "bad_address"
    DUPLICATE = "duplicate"
    UNKNOWN_COURSE = "unknown_course"
    TWO_COURSES = "two_courses"
    UNKNOWN_ROLE = "unknown_role"
    ROLE_REFUSED = "role_above"
    LONG_NAME = "long_name"
    STRANGE_NAME = "strange_name"
    BLOCKED = "blocked"


# Those that something is done for.
TAKEN = (Verdict.INVITE, Verdict.ADD)
# Those that something is done for, or may be.
DOABLE = (*TAKEN, Verdict.WAITING, Verdict.FORMULA)
REFUSED = tuple(verdict for verdict in Verdict if verdict not in (*DOABLE, Verdict.NOTHING))


@dataclass(frozen=True)
class Known:
    """Somebody whom the account knows by a row's address."""

    id: int
    name: str
    role: Role
    status: Status
    blocked: bool
    locale: str
    # Proven by mail, or said by an LMS whose addresses the account trusts, or by one it does not.
    proven: bool
    trusted: bool


@dataclass(slots=True)
class Guest:
    """One row, read: who, as what, into which courses."""

    number: int
    name: str
    email: str
    role: Role
    courses: Sequence[int]
    # As the row said it, where nothing fits.
    role_said: str = ""
    course_said: str = ""
    verdict: Verdict = Verdict.INVITE
    # What the verdict's words need: the row it repeats, the nearest course, who it is.
    facts: dict[str, Any] = field(default_factory=dict)
    known: Known | None = None
    raised: bool = False
    new_courses: Sequence[int] = ()

    @property
    def course_role(self) -> Role:
        """As what the person stands on the courses' lists."""
        return self.role.in_courses


@dataclass(frozen=True)
class Terms:
    """What holds for every row that does not say otherwise; `role_words` are folded."""

    role: Role
    courses: Sequence[int]
    role_words: Mapping[str, Role]


# --- reading rows ------------------------------------------------------------------------

_FORMULA = re.compile(r"[=+\-@＝＋－＠]")
# What copying leaves in names: a byte order mark, marks of direction, spaces without width, soft hyphens.
_LEFTOVERS = re.compile("[\ufeff\u200b\u200e\u200f\u2060\u00ad]")
_PLAIN_LOCAL = re.compile(r"[A-Za-z0-9_+'-]+(?:\.[A-Za-z0-9_+'-]+)*")


def clean_name(text: str) -> str | None:
    """A name on one line; None if it holds what nobody can see, which joins letters in no script."""
    name = " ".join(text.split())
    if name.isprintable():
        return name
    name = " ".join(_LEFTOVERS.sub("", name).split())
    visible = name.replace("\u200c", "").replace("\u200d", "")
    return name if visible.isprintable() else None


def address_checker() -> Callable[[str], str]:
    """`check_address` for many addresses: each domain is looked at once."""
    domains: dict[str, str | None] = {}

    def check(text: str) -> str:
        local, _, domain = text.rpartition("@")
        plain = (
            len(local) <= 64
            and len(text) <= 200
            and _PLAIN_LOCAL.fullmatch(local)
            and local.lower() not in CASE_INSENSITIVE_MAILBOX_NAMES
        )
        if not plain or "@" in domain:
            return check_address(text)
        if domain not in domains:
            try:
                domains[domain] = check_address(f"a@{domain}").partition("@")[2]
            except AddressWrong:
                domains[domain] = None
        known = domains[domain]
        # The reason is for whoever typed it, so it is found out about the whole.
        return f"{local}@{known}" if known is not None else check_address(text)

    return check


def read(account: Account, entries: Iterable[Entry], terms: Terms, *, by: User) -> list[Guest]:
    """Each row with what can be said of it without asking who it is."""
    entries = list(entries)
    courses = _Courses(account.id, {entry.course for entry in entries if entry.course})
    check = address_checker()
    guests: list[Guest] = []
    seen: dict[str, int] = {}
    for entry in entries:
        guest = Guest(entry.number, entry.name, entry.email, terms.role, terms.courses)
        guests.append(guest)
        _read_one(guest, entry, terms, courses, check, by)
        if guest.verdict is Verdict.INVITE:
            first = seen.setdefault(email_key(guest.email), guest.number)
            if first != guest.number:
                guest.verdict, guest.facts = Verdict.DUPLICATE, {"row": first}
    return guests


def _read_one(
    guest: Guest, entry: Entry, terms: Terms, courses: "_Courses", check: Callable[[str], str], by: User
) -> None:
    name = clean_name(entry.name)
    guest.name = (name if name is not None else re.sub(r"[^\w .,'’-]", "�", entry.name))[:LONGEST_NAME]
    if entry.role:
        role = terms.role_words.get(fold(entry.role))
        if role is None:
            guest.role_said = entry.role[:LONGEST_NAME]
        else:
            guest.role = role
    if entry.course:
        guest.courses = courses.named(entry.course)
        guest.course_said = entry.course[:_LONGEST_CELL]
    if not entry.email:
        guest.verdict = Verdict.NO_ADDRESS
        return
    try:
        guest.email = check(entry.email)
    except AddressWrong:
        guest.email, guest.verdict = entry.email[:254], Verdict.BAD_ADDRESS
        return
    if name is None:
        guest.verdict = Verdict.STRANGE_NAME
    elif len(name) > LONGEST_NAME:
        guest.verdict = Verdict.LONG_NAME
    elif guest.role_said:
        guest.verdict = Verdict.UNKNOWN_ROLE
    elif not access.can_invite_as(by, guest.role):
        guest.verdict = Verdict.ROLE_REFUSED
    elif guest.role.rank >= Role.ADMIN.rank:
        # Admins are in every course.
        guest.courses = ()
    elif entry.course and (flaw := courses.flaw(entry.course)):
        guest.verdict, guest.facts = flaw


class _Courses:
    """The account's courses as rows name them: by name, several of them parted by | or ;."""

    def __init__(self, account_id: int, said: Collection[str]) -> None:
        keys = {text: [fold(name) for name in self._parts(text)] for text in said}
        whole = {text: fold(text) for text in said}
        wanted = {key for names in keys.values() for key in names} | set(whole.values())
        self.ids: dict[str, list[int]] = {}
        if wanted:
            for course_id, key in db.session.execute(
                select(Course.id, Course.name_key)
                .where(Course.account_id == account_id, among(Course.name_key, wanted))
                .order_by(Course.id)
            ):
                self.ids.setdefault(key, []).append(course_id)
        # A name that holds the sign that would part it is one name.
        self.keys = {
            text: [whole[text]] if whole[text] in self.ids else names for text, names in keys.items()
        }
        unknown = {key for names in self.keys.values() for key in names if key not in self.ids}
        self.nearest = self._nearest(account_id, sorted(unknown)[:_NEAREST_FOR]) if unknown else {}

    @staticmethod
    def _parts(text: str) -> list[str]:
        return [part for part in re.split(r"[|;\n]", text) if part.strip()] or [text]

    def _nearest(self, account_id: int, unknown: Sequence[str]) -> dict[str, str]:
        names = {
            row.name_key: row.name
            for row in db.session.execute(
                select(Course.name_key, Course.name)
                .where(Course.account_id == account_id)
                .order_by(Course.name_key)
                .limit(5000)
            )
        }
        found = {key: difflib.get_close_matches(key, names, n=1) for key in unknown}
        return {key: names[close[0]] for key, close in found.items() if close}

    def named(self, text: str) -> list[int]:
        """Ids of the courses that a cell names."""
        return [self.ids[key][0] for key in dict.fromkeys(self.keys[text]) if key in self.ids]

    def flaw(self, text: str) -> tuple[Verdict, dict[str, Any]] | None:
        """Why a cell does not name courses."""
        parts = self._parts(text)
        for place, key in enumerate(self.keys[text]):
            said = (text if len(self.keys[text]) == 1 else parts[place]).strip()[:LONGEST_NAME]
            if key not in self.ids:
                return Verdict.UNKNOWN_COURSE, {"course": said, "nearest": self.nearest.get(key, "")}
            if len(self.ids[key]) > 1:
                return Verdict.TWO_COURSES, {"course": said}
        return None


# --- judging -----------------------------------------------------------------------------


def judge(account: Account, guests: Sequence[Guest], *, formulas: bool = False) -> None:
    """Say of each row that is in order what becomes of it, given who is known and on which lists."""
    open_rows = [guest for guest in guests if guest.verdict is Verdict.INVITE]
    found = find_known(account.id, [email_key(guest.email) for guest in open_rows])
    held = roles_held({known.id for people in found.values() for known in people})
    for guest in open_rows:
        _judge_one(guest, found.get(email_key(guest.email), ()), held, formulas=formulas)


def _judge_one(
    guest: Guest, people: Sequence[Known], held: Mapping[tuple[int, int], Role], *, formulas: bool
) -> None:
    # An LMS's word about an address, trusted or not, makes nobody an admin.
    trusting = guest.role.rank < Role.ADMIN.rank
    known = next((one for one in people if one.proven or (trusting and one.trusted)), None)
    guest.known = known
    if known is None:
        guest.new_courses = guest.courses
        if people:
            guest.facts = {"claimed": people[0].name}
    else:
        guest.raised = guest.role.rank > known.role.rank
        guest.new_courses = [
            course
            for course in guest.courses
            if (there := held.get((known.id, course))) is None or there.rank < guest.course_role.rank
        ]
    named_here = known is None or (known.status is Status.PENDING and not known.name)
    if known is not None and known.blocked:
        guest.verdict = Verdict.BLOCKED
    elif named_here and not formulas and _FORMULA.match(guest.name):
        guest.verdict = Verdict.FORMULA
    elif known is not None and known.status is Status.PENDING:
        guest.verdict = Verdict.WAITING
    elif known is not None:
        guest.verdict = Verdict.ADD if guest.new_courses or guest.raised else Verdict.NOTHING
        guest.facts = {"raised": True} if guest.raised else {}


def find_known(account_id: int, keys: Collection[str]) -> dict[str, list[Known]]:
    """Address → who has it: who proved it first, then whom a trusted LMS calls so, then whom any LMS does."""
    found: dict[str, list[Known]] = {}
    if not keys:
        return found
    columns = (User.id, User.email_key, User.name, User.role, User.status, User.blocked_at, User.locale)
    for row in db.session.execute(
        select(*columns).where(
            User.account_id == account_id, User.mailbox_proven, among(User.email_key, keys)
        )
    ):
        found[row.email_key] = [_known(row, proven=True, trusted=False)]
    claims = db.session.execute(
        select(*columns, Connection.trusts_addresses)
        .join(Identity, (Identity.account_id == User.account_id) & (Identity.user_id == User.id))
        .join(
            Connection,
            (Connection.registration_id == Identity.registration_id)
            & (Connection.account_id == Identity.account_id),
        )
        .where(
            User.account_id == account_id,
            User.mailbox_proven.is_(False),
            User.is_test.is_(False),
            User.role.in_([Role.STUDENT, Role.INSTRUCTOR]),
            among(User.email_key, keys),
        )
        .order_by(Connection.trusts_addresses.desc(), User.id)
    )
    for claim in claims:
        found.setdefault(claim.email_key, []).append(
            _known(claim, proven=False, trusted=claim.trusts_addresses)
        )
    return found


def _known(row: Any, *, proven: bool, trusted: bool) -> Known:
    return Known(
        row.id,
        row.name,
        row.role,
        row.status,
        row.blocked_at is not None,
        row.locale,
        proven=proven,
        trusted=trusted,
    )


def roles_held(user_ids: Collection[int]) -> dict[tuple[int, int], Role]:
    """(user, course) → the highest role there now."""
    held: dict[tuple[int, int], Role] = {}
    if not user_ids:
        return held
    for user_id, course_id, role in db.session.execute(
        select(Enrollment.user_id, Enrollment.course_id, Enrollment.role).where(
            among(Enrollment.user_id, user_ids), Enrollment.ended_at.is_(None)
        )
    ):
        there = held.get((user_id, course_id))
        if there is None or role.rank > there.rank:
            held[user_id, course_id] = role
    return held
