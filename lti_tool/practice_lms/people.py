"""Who is on the practice platform: a fixed cast, generated members, and the courses they sit in.

Everything is made the same way each time, so that a test or a demo may count on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the platform; `id` is the subject that launches and rosters carry."""

    id: str
    slug: str
    given_name: str = ""
    family_name: str = ""
    email: str = ""
    role: str = "student"
    about: str = ""
    short_name: str = ""
    observes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The full name as the platform shows it; empty for a person without one."""
        return f"{self.given_name} {self.family_name}".strip()

    @property
    def initials(self) -> str:
        """Two letters for the avatar."""
        return (self.short_name or self.given_name)[:2].upper() if self.name else "??"

    @property
    def sort_key(self) -> tuple[str, str]:
        """Where the person stands in a roster."""
        return (f"{self.family_name} {self.given_name}".strip().casefold(), self.id)


@dataclass(frozen=True, slots=True)
class Course:
    """A course of the platform: what LTI calls the context."""

    id: str
    slug: str
    label: str
    title: str
    # What it was copied from, the newest first.
    history: tuple[str, ...] = ()

    @property
    def link_id(self) -> str:
        """The id of the resource link that opens the tool from this course."""
        return f"{self.id}01"


@dataclass(frozen=True, slots=True)
class Link:
    """A link to the tool in a course, as deep linking placed it."""

    id: str
    course_id: str
    title: str
    url: str = ""
    custom: Mapping[str, str] = field(default_factory=dict)
    # What it was copied from, the newest first.
    history: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Membership:
    """One person's place in a course; roles are names of `messages.ROLES` or raw role strings."""

    person: Person
    roles: tuple[str, ...]
    status: str = "Active"


CAST = (
    Person("3", "ivan", "Ivan", "Petrov", "ivan@example.test", "instructor", "Teaches Geology"),
    Person("5", "sam", "Sam", "Rivera", "sam@example.test", "student", "Student of Geology"),
    Person("4", "tess", "Tess", "Okafor", "tess@example.test", "assistant", "Teaching assistant"),
    Person("2", "ada", "Ada", "Lindqvist", "ada@example.test", "administrator", "Administrator"),
    Person(
        "6",
        "mentor",
        "María",
        "Rivera",
        "maria.rivera@example.org",
        "observer",
        "Parent, observes Sam",
        short_name="Mentor",
        observes=("5",),
    ),
    Person("7", "nobody", about="No name, no e-mail", short_name="Nobody"),
    Person("8", "manager", "Max", "Moreau", "max@example.test", "manager", "Site manager", "Manager"),
    Person("9", "designer", "Dora", "Novák", "dora@example.test", "designer", "Course designer", "Designer"),
    Person(
        "10", "test-student", "Test", "Student", "", "test-student", "A teacher’s student view", "Preview"
    ),
)

COURSES = (
    Course("2", "geology", "GEO201", "Geology"),
    Course("3", "statics", "STA110", "Statics"),
    Course("4", "big", "BIG2000", "Roster of 2\u00a0000"),
)

# Members of the cast, by course; generated people fill the rest up to the size.
CAST_IN_COURSES: dict[str, dict[str, str]] = {
    "geology": {"ivan": "instructor", "tess": "assistant", "sam": "student"},
    "statics": {
        "ivan": "instructor",
        "sam": "student",
        "nobody": "student",
        "mentor": "observer",
        "designer": "designer",
    },
    "big": {"ivan": "instructor", "tess": "instructor", "sam": "student"},
}
SIZES = {"geology": 3, "statics": 40, "big": 2000}

_NAMES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("Anna", "Björn", "Chloé", "Dragan", "Eleni", "Fionn", "Zoë"),
        ("Müller", "O’Brien", "Núñez", "Łukasiewicz", "de la Cruz", "Stone & Hill", "Nguyễn"),
    ),
    (("Олена", "Дмитро", "София", "Богдан"), ("Шевченко", "Іваненко", "Смирнова", "Ђорђевић")),
    (("Νίκος", "Ελένη", "Γιώργος"), ("Παπαδόπουλος", "Οικονόμου", "Νικολάου")),
    (("محمد", "فاطمة", "ليلى", "يوسف"), ("الأحمد", "حسن", "الخطيب", "ناصر")),
    (("נועה", "דוד", "יעל"), ("כהן", "לוי", "מזרחי")),
    (("小明", "美玲", "伟"), ("王", "李", "陳")),
    (("さくら", "蓮", "結衣"), ("佐藤", "鈴木", "高橋")),
    (("민준", "서연", "지우"), ("김", "이", "박")),
    (("आरव", "प्रिया", "रोहन"), ("शर्मा", "पटेल", "सिंह")),
    (("สมชาย", "มาลี", "อนงค์"), ("ใจดี", "ศรีสุข", "ทองคำ")),
)


def generated(count: int, first_id: int) -> Iterator[tuple[Person, str]]:
    """People with their roles: one instructor, one assistant in each hundred, the rest students.

    Every 23rd has no e-mail and every 31st no name, as real rosters do.
    """
    for index in range(count):
        givens, families = _NAMES[index % len(_NAMES)]
        turn = index // len(_NAMES)
        nameless = index % 31 == 30
        subject = str(first_id + index)
        role = "instructor" if index == 0 else "assistant" if index % 100 == 1 else "student"
        person = Person(
            id=subject,
            slug=f"p{subject}",
            given_name="" if nameless else givens[turn % len(givens)],
            family_name="" if nameless else families[turn // len(givens) % len(families)],
            email="" if index % 23 == 22 else f"p{subject}@example.{'org' if index % 2 else 'test'}",
            role=role,
        )
        yield person, role
