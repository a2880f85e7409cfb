"""A list of people as somebody uploads or pastes it: bytes or text in, rows of cells out. Asks nobody.

Spreadsheets write CSV in many ways and say none of them: the encoding, the separator, whether the first row
is a heading and what each column holds are guessed here, shown to the person, and theirs to change.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from lti_tool.database import fold

MAX_ROWS = 10_000
MAX_BYTES = 2 * 1024 * 1024
# Columns that can be chosen from; a sheet with more is cut there.
MAX_COLUMNS = 30
# Rows that are looked at when something is guessed.
_LOOKED_AT = 200


class Flaw(StrEnum):
    """Why a list cannot be read at all."""

    EMPTY = "empty"
    TOO_MANY_ROWS = "too_many_rows"
    TOO_LARGE = "too_large"
    SPREADSHEET = "spreadsheet"
    NO_TEXT = "no_text"


class ListRefused(Exception):
    """What was sent is no list that can be taken; `.flaw` says why, `.rows` how many there were."""

    def __init__(self, flaw: Flaw, rows: int = 0) -> None:
        super().__init__(flaw)
        self.flaw, self.rows = flaw, rows


class Field(StrEnum):
    """What a column may hold."""

    NAME = "name"
    FIRST = "first"
    LAST = "last"
    EMAIL = "email"
    ROLE = "role"
    COURSE = "course"


@dataclass(frozen=True)
class GuestList:
    """Rows with the number a spreadsheet shows for them. `separator` is empty where there is one column."""

    rows: Sequence[tuple[int, Sequence[str]]]
    separator: str
    # The first row names the columns.
    headed: bool
    # A quotation mark was opened and never closed: they were read as plain characters.
    quotes_broken: bool = False

    @property
    def width(self) -> int:
        """How many columns there are; a last separator begins none."""
        return max((len(cells) - (not cells[-1]) for _, cells in self.rows), default=0)


@dataclass(frozen=True, slots=True)
class Entry:
    """What one row says, as it says it."""

    number: int
    name: str
    email: str
    role: str
    course: str


def decode(content: bytes) -> tuple[str, str]:
    """The file's text and its encoding. Raises ListRefused."""
    if len(content) > MAX_BYTES:
        raise ListRefused(Flaw.TOO_LARGE)
    # A workbook, new (a zip) or old.
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise ListRefused(Flaw.SPREADSHEET)
    try:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            return _readable(content.decode("utf-16")), "UTF-16"
        try:
            return _readable(content.decode("utf-8-sig")), "UTF-8"
        except UnicodeDecodeError:
            # What Windows programs write that know nothing of UTF-8. Any bytes are some text in it.
            return _readable(content.decode("cp1252", errors="replace")), "Windows-1252"
    except UnicodeDecodeError:
        raise ListRefused(Flaw.NO_TEXT) from None


def _readable(text: str) -> str:
    if "\0" in text or text.startswith("%PDF"):
        raise ListRefused(Flaw.NO_TEXT)
    return text.removeprefix("\ufeff")


def read_table(text: str) -> GuestList:
    """A list whose columns stand below each other, as spreadsheets write it. Raises ListRefused."""
    # Excel's own first line.
    told = re.match(r"sep=([,;\t])\r?\n", text)
    separator = told[1] if told else _guess_separator(text)
    records, broken = _records(text, separator or "\t")
    first = 2 if told else 1
    rows = [
        (number, [cell.strip() for cell in cells[:MAX_COLUMNS]])
        for number, cells in enumerate(records[first - 1 :], start=first)
        if any(not cell.isspace() for cell in cells if cell)
    ]
    return _counted(GuestList(rows, separator, _has_heading(rows), broken))


def read_lines(text: str) -> GuestList:
    """People as somebody pastes them: out of a spreadsheet, or a line each. Raises ListRefused.

    Lines may differ: “Name <a@b>”, “a@b”, “name; a@b; role; course”. Then they become columns in this order.
    """
    table = read_table("\n".join(_one_a_line(text.removeprefix("\ufeff"))))
    places = {_place_of_address(cells) for _, cells in table.rows} - {None}
    if table.headed or table.separator == "\t" or len(places) < 2:
        return table
    rows = []
    for number, cells in table.rows:
        place = _place_of_address(cells)
        if place is None:
            rows.append((number, cells))
            continue
        address, inside = split_address(cells[place])
        before = " ".join(cell for cell in [*cells[:place], inside] if cell)
        rows.append((number, [before, address, *cells[place + 1 :]]))
    return GuestList(rows, table.separator, False, table.quotes_broken)


# Nothing is given back once taken (`*+`): a long line of spaces would otherwise be tried in every way.
_BETWEEN = re.compile(r"(?<=>)\s*+[,;]\s*+(?=[^,;]*<[^<>]*@)")
_ALONE = re.compile(r'\s*+("?+)([^<>;\t"]*+)\1\s*+(<[^<>\s]++>)\s*+[,;]?+\s*+')


def _one_a_line(text: str) -> Iterator[str]:
    """Lines; of addresses as mail programs write them after another, each on its own."""
    for line in text.splitlines():
        for part in _BETWEEN.split(line):
            alone = _ALONE.fullmatch(part)
            # The comma of “Whitfield, Sam” parts no columns.
            yield f'"{alone[2].strip()} {alone[3]}"' if alone and "@" in alone[3][2:-2] else part


def _place_of_address(cells: Sequence[str]) -> int | None:
    return next((place for place, cell in enumerate(cells) if "@" in cell), None)


def split_address(cell: str) -> tuple[str, str]:
    """(address, name) of a cell that may be written “Name <a@b>”."""
    found = re.fullmatch(r"(.*?)<([^<>]*)>[,;]?", cell.strip(), re.DOTALL)
    if not found:
        return cell.strip(), ""
    return found[2].strip(), found[1].strip().strip('"').strip()


def _records(text: str, separator: str) -> tuple[list[list[str]], bool]:
    """Every record of the text, empty ones too, and whether its quotation marks had to be ignored."""
    # A last line of our own: if it does not arrive as itself, a quotation mark swallowed it.
    end = "\ue000end"
    source = f"{text}\n{end}" if not text.endswith(("\n", "\r")) else f"{text}{end}"
    try:
        records = list(csv.reader(io.StringIO(source, newline=""), delimiter=separator))
        if records[-1] == [end]:
            return records[:-1], False
    except csv.Error:
        # A cell beyond all measure: the same open mark.
        pass
    try:
        plain = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=csv.QUOTE_NONE)
        return [[cell.replace('"', "") for cell in cells] for cells in plain], True
    except csv.Error:
        raise ListRefused(Flaw.NO_TEXT) from None


def _guess_separator(text: str) -> str:
    """The one by which most rows have the same number of cells; empty if none parts anything."""
    sample = "\n".join(text[: 64 * 1024].splitlines()[:_LOOKED_AT])
    best, most = "", 0
    for separator in ("\t", ";", ","):
        records, _ = _records(sample, separator)
        widths = Counter(len(cells) for cells in records if len(cells) > 1)
        agreed = max(widths.values(), default=0)
        if agreed > most:
            best, most = separator, agreed
    return best


def _counted(found: GuestList) -> GuestList:
    people = len(found.rows) - found.headed
    if people < 1:
        raise ListRefused(Flaw.EMPTY)
    if people > MAX_ROWS:
        raise ListRefused(Flaw.TOO_MANY_ROWS, people)
    return found


# Headings as spreadsheets and student information systems write them.
_TITLES = {
    Field.EMAIL: "email|e-mail|mail|email address|e-mail address|e-mail-adresse|emailadresse|adresse e-mail"
    "|adresse mail|courriel|correo|correo electronico|posta elettronica|e-mailadres|emailadres|endereco",
    Field.FIRST: "first name|firstname|given name|given names|forename|vorname|prenom|nombre|voornaam|imie",
    Field.LAST: "last name|lastname|surname|family name|nachname|familienname|nom de famille|apellido"
    "|apellidos|cognome|sobrenome|apelido|achternaam|nazwisko",
    Field.NAME: "name|full name|fullname|display name|nom|nom complet|nombre completo|nome|nome completo|naam"
    "|student|person|participant",
    Field.ROLE: "role|rolle|rol|ruolo|papel|funcao|fonction",
    Field.COURSE: "course|courses|kurs|kurse|cours|curso|cursos|corso|corsi|cursus|class|kurs name|group",
}
_FIELD_OF = {title: field for field, titles in _TITLES.items() for title in titles.split("|")}
# What may stand in a column of roles, in words that everybody writes.
ROLE_WORDS = {
    "student": "student",
    "students": "student",
    "learner": "student",
    "participant": "student",
    "instructor": "instructor",
    "teacher": "instructor",
    "lecturer": "instructor",
    "professor": "instructor",
    "admin": "admin",
    "administrator": "admin",
    "owner": "owner",
}


def _has_heading(rows: Sequence[tuple[int, Sequence[str]]]) -> bool:
    if not rows or any("@" in cell for cell in rows[0][1]):
        return False
    if any(fold(cell) in _FIELD_OF for cell in rows[0][1]):
        return True
    # A row without an address above rows that all have one.
    below = rows[1:20]
    return bool(below) and all(_place_of_address(cells) is not None for _, cells in below)


def guess_columns(found: GuestList) -> dict[Field, int]:
    """Which column holds what: by its heading, else by what stands in it."""
    guess: dict[Field, int] = {}
    if found.headed:
        for place, title in enumerate(found.rows[0][1]):
            field = _FIELD_OF.get(fold(title).rstrip(":"))
            if field is not None:
                guess.setdefault(field, place)
        if Field.FIRST in guess and Field.NAME in guess and Field.LAST not in guess:
            # French and Portuguese call the family name just the name.
            guess[Field.LAST] = guess.pop(Field.NAME)
    looked_at = [cells for _, cells in found.rows[found.headed : _LOOKED_AT]]
    with_address = Counter(place for cells in looked_at for place, cell in enumerate(cells) if "@" in cell)
    with_role = Counter(
        place for cells in looked_at for place, cell in enumerate(cells) if fold(cell) in ROLE_WORDS
    )
    for field, counted in ((Field.EMAIL, with_address), (Field.ROLE, with_role)):
        free = [(number, -place) for place, number in counted.items() if place not in guess.values()]
        if field not in guess and free:
            guess[field] = -max(free)[1]
    if found.headed or Field.EMAIL not in guess:
        return guess
    rest = [place for place in range(found.width) if place not in guess.values()]
    if rest and (guess[Field.EMAIL] > 0 or found.width == 2):
        guess[Field.NAME] = rest.pop(0)
    after = [place for place in rest if place > guess[Field.EMAIL]]
    if len(after) == 1:
        guess[Field.COURSE] = after[0]
    return guess


def entries(found: GuestList, columns: Mapping[Field, int], *, headed: bool) -> Iterator[Entry]:
    """What each row says, given what each column holds."""
    # One more than any row has: the place of what no column holds.
    nowhere = MAX_COLUMNS
    name_at, first_at, last_at, email_at, role_at, course_at = (columns.get(f, nowhere) for f in Field)
    for number, cells in found.rows[headed:]:
        row = [*cells, *[""] * (nowhere + 1 - len(cells))]
        name, email = row[name_at], row[email_at]
        if not name and (row[first_at] or row[last_at]):
            name = f"{row[first_at]} {row[last_at]}".strip()
        if "<" in email:
            email, inside = split_address(email)
            name = name or inside
        yield Entry(number, name, email, row[role_at], row[course_at])
