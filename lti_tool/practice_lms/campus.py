"""The people and the courses of the platform, and who is in what."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from .people import CAST, CAST_IN_COURSES, COURSES, SIZES, Course, Link, Membership, Person, generated


class Campus:
    """People, courses and enrollments in memory; may be used by any number of threads."""

    def __init__(self, *, with_people: bool = True) -> None:
        self._lock = threading.RLock()
        self._people: dict[str, Person] = {}
        self._courses: dict[str, Course] = {}
        self._members: dict[str, dict[str, tuple[tuple[str, ...], str]]] = {}
        self._links: dict[str, Link] = {}
        self._next_id = 1001
        self._next_link = 9001
        if with_people:
            self._settle()

    @property
    def people(self) -> list[Person]:
        """Everybody, the cast first."""
        with self._lock:
            return list(self._people.values())

    @property
    def courses(self) -> list[Course]:
        """Every course, in the order they were added."""
        with self._lock:
            return list(self._courses.values())

    def person(self, who: Person | str) -> Person:
        """A person by id or short name."""
        with self._lock:
            wanted = who.id if isinstance(who, Person) else who
            if wanted in self._people:
                return self._people[wanted]
            for person in self._people.values():
                if person.slug == wanted:
                    return person
        raise LookupError(f"nobody here is called {wanted!r}")

    def course(self, which: Course | str) -> Course:
        """A course by id or short name."""
        with self._lock:
            wanted = which.id if isinstance(which, Course) else which
            if wanted in self._courses:
                return self._courses[wanted]
            for course in self._courses.values():
                if course.slug == wanted:
                    return course
        raise LookupError(f"no course here is called {wanted!r}")

    def add_person(self, person: Person) -> Person:
        """Adds a person, or replaces the one with this id (a new name, another e-mail)."""
        with self._lock:
            self._people[person.id] = person
        return person

    def add_course(
        self, id: str, title: str, count: int = 0, *, slug: str | None = None, label: str | None = None
    ) -> Course:
        """Adds a course with `count` generated members, the first of them its instructor."""
        course = Course(str(id), slug or str(id), label or f"C{id}", title)
        with self._lock:
            self._courses[course.id] = course
            self._members[course.id] = {}
            for person, role in generated(count, self._next_id):
                self.enroll(course, self.add_person(person), role)
            self._next_id += count
        return course

    def members(self, course: Course | str) -> list[Membership]:
        """Who is in a course, in the order they were enrolled."""
        with self._lock:
            rows = self._members[self.course(course).id].items()
            return [Membership(self._people[subject], roles, status) for subject, (roles, status) in rows]

    def enroll(
        self, course: Course | str, person: Person | str, roles: str | Iterable[str], status: str = "Active"
    ) -> Membership:
        """Puts a person into a course, or changes their roles there.

        Roles are names of `messages.ROLES`; any other string goes out as it is.
        """
        wanted = (roles,) if isinstance(roles, str) else tuple(roles)
        with self._lock:
            if isinstance(person, Person) and person.id not in self._people:
                self.add_person(person)
            found = self.person(person)
            self._members[self.course(course).id][found.id] = (wanted, status)
        return Membership(found, wanted, status)

    def withdraw(self, course: Course | str, person: Person | str) -> None:
        """Takes a person off a course; the roster no longer lists them."""
        with self._lock:
            self._members[self.course(course).id].pop(self.person(person).id, None)

    def membership(self, course: Course | str, person: Person | str) -> Membership:
        """A person's place in a course; someone not enrolled takes their usual role."""
        with self._lock:
            found = self.person(person)
            roles, status = self._members[self.course(course).id].get(found.id, ((found.role,), "Active"))
        return Membership(found, roles, status)

    def is_enrolled(self, course: Course | str, person: Person | str) -> bool:
        """Whether the roster of a course lists a person."""
        with self._lock:
            return self.person(person).id in self._members[self.course(course).id]

    def place_link(
        self,
        course: Course | str,
        title: str,
        *,
        url: str = "",
        custom: Mapping[str, str] | None = None,
        history: tuple[str, ...] = (),
    ) -> Link:
        """Puts a link to the tool into a course, with an id of its own."""
        with self._lock:
            place = self.course(course).id
            link = Link(str(self._next_link), place, title, url, dict(custom or {}), history)
            self._next_link += 1
            self._links[link.id] = link
        return link

    def link(self, which: Link | str) -> Link:
        """A link by its id."""
        with self._lock:
            wanted = which.id if isinstance(which, Link) else which
            if wanted not in self._links:
                raise LookupError(f"no link here is called {wanted!r}")
            return self._links[wanted]

    def links(self, course: Course | str) -> list[Link]:
        """The links in a course, in the order they were placed."""
        with self._lock:
            place = self.course(course).id
            return [link for link in self._links.values() if link.course_id == place]

    def copy_course(self, course: Course | str, by: Person | str) -> Course:
        """A copy as Moodle makes it: new ids for course and links, the same custom parameters, no people."""
        with self._lock:
            original, teacher = self.course(course), self.person(by)
            number = 1 + sum(original.id in one.history for one in self._courses.values())
            made = Course(
                str(1 + max(int(one) for one in self._courses if one.isdigit())),
                f"{original.slug}-copy-{number}",
                f"{original.label}_{number}",
                f"{original.title} copy {number}",
                (original.id, *original.history),
            )
            roles = self.membership(original, teacher).roles
            self._courses[made.id], self._members[made.id] = made, {}
            self.enroll(made, teacher, roles)
            for link in self.links(original):
                copied = (link.id, *link.history)
                self.place_link(made, link.title, url=link.url, custom=link.custom, history=copied)
        return made

    def _settle(self) -> None:
        for person in CAST:
            self.add_person(person)
        for course in COURSES:
            roles = CAST_IN_COURSES[course.slug]
            count = SIZES[course.slug] - len(roles)
            self.add_course(course.id, course.title, count, slug=course.slug, label=course.label)
            for slug, role in roles.items():
                self.enroll(course, slug, role)
