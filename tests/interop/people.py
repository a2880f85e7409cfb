"""Who is on the platforms that nobody here wrote: one course, its teacher and its students."""

from dataclasses import dataclass
from typing import Any

MEMBERSHIP = "http://purl.imsglobal.org/vocab/lis/v2/membership#"


class Refused(Exception):
    """The platform does not take what the tool sent."""


@dataclass(frozen=True)
class Person:
    """Somebody of the platform's course; `role` is a context role's name, as "Instructor"."""

    id: str
    name: str
    email: str
    role: str

    @property
    def member(self) -> dict[str, Any]:
        """As the roster lists them."""
        given, _, family = self.name.partition(" ")
        return {
            "user_id": self.id,
            "roles": [MEMBERSHIP + self.role],
            "name": self.name,
            "given_name": given,
            "family_name": family,
            "email": self.email,
        }


INES = Person("u-41", "Inês Duarte", "ines@example.org", "Instructor")
OLU = Person("u-42", "Olú Adéyẹmí", "olu@example.org", "Learner")
PEOPLE = [
    INES,
    OLU,
    *(Person(f"u-{n}", f"Student Nº{n}", f"u{n}@example.org", "Learner") for n in range(43, 66)),
]
COURSE = ("course-v1:Alder+GEO1+2026", "Rocks & Rivers")
LABEL = "GEO1"
LINK = "link-1"
