"""Reading lists of people as spreadsheets and mail programs write them: pure, so without a database."""

import csv
from io import StringIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lti_tool.classroom import guest_lists
from lti_tool.classroom.guest_lists import Entry, Field, Flaw, ListRefused
from lti_tool.classroom.invitations import AddressWrong, check_address
from lti_tool.classroom.verdicts import address_checker, clean_name


def people(text: str) -> list[Entry]:
    found = guest_lists.read_lines(text)
    return list(guest_lists.entries(found, guest_lists.guess_columns(found), headed=found.headed))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@x.org", [("", "a@x.org", "", "")]),
        ("Sam W <s@x.org>\n<b@x.org>", [("Sam W", "s@x.org", "", ""), ("", "b@x.org", "", "")]),
        (
            '"Whitfield, Sam" <s@x.org>; Pat <p@x.org>, Al <al@x.org>',
            [("Whitfield, Sam", "s@x.org", "", ""), ("Pat", "p@x.org", "", ""), ("Al", "al@x.org", "", "")],
        ),
        (
            "Sam <s@x.org>\na@x.org\nPat Lee; p@x.org; instructor; Statics",
            [
                ("Sam", "s@x.org", "", ""),
                ("", "a@x.org", "", ""),
                ("Pat Lee", "p@x.org", "instructor", "Statics"),
            ],
        ),
        (
            "Whitfield, Sam; s@x.org\nLee, Pat; p@x.org",
            [("Whitfield, Sam", "s@x.org", "", ""), ("Lee, Pat", "p@x.org", "", "")],
        ),
        ("name\temail\trole\nSam\ts@x.org\tTeacher", [("Sam", "s@x.org", "Teacher", "")]),
        ("Nom\tPrénom\tCourriel\nMoreau\tÉmile\te@x.org", [("Émile Moreau", "e@x.org", "", "")]),
        ("s@x.org, Sam\np@x.org, Pat", [("Sam", "s@x.org", "", ""), ("Pat", "p@x.org", "", "")]),
    ],
)
def test_what_people_paste_is_read_as_they_mean_it(text: str, expected: list[tuple[str, ...]]) -> None:
    assert [(one.name, one.email, one.role, one.course) for one in people(text)] == expected


def test_rows_have_the_number_a_spreadsheet_shows() -> None:
    text = 'Name;Email\n\n"Sam\nWhitfield";s@x.org\nPat;p@x.org\n'
    found = guest_lists.read_table(text)
    read = list(guest_lists.entries(found, {Field.NAME: 0, Field.EMAIL: 1}, headed=found.headed))
    assert [(one.number, one.name) for one in read] == [(3, "Sam\nWhitfield"), (4, "Pat")]


CELL = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    names=st.lists(CELL, min_size=1, max_size=8),
    separator=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_whatever_a_spreadsheet_writes_is_read_back(
    names: list[str], separator: str, encoding: str, ending: str
) -> None:
    file = StringIO(newline="")
    write = csv.writer(file, delimiter=separator, lineterminator=ending).writerow
    write(["Email", "Name", "Role"])
    for number, name in enumerate(names):
        write([f"a{number}@x.org", name, "Student"])
    text, told = guest_lists.decode(file.getvalue().encode(encoding))
    found = guest_lists.read_table(text)
    assert told == ("UTF-16" if encoding == "utf-16" else "UTF-8")
    assert (found.separator, found.headed, found.quotes_broken) == (separator, True, False)
    columns = guest_lists.guess_columns(found)
    read = list(guest_lists.entries(found, columns, headed=True))
    assert [(one.email, one.name) for one in read] == [
        (f"a{number}@x.org", name.strip()) for number, name in enumerate(names)
    ]


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=200) | st.text('a@.;,<>" \n\t', max_size=60)
)
def test_nothing_pasted_makes_the_reader_fall_over(text: str) -> None:
    try:
        found = guest_lists.read_lines(text)
    except ListRefused:
        return
    columns = guest_lists.guess_columns(found)
    assert all(0 <= place < found.width for place in columns.values())
    assert len(list(guest_lists.entries(found, columns, headed=found.headed))) >= 1


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fall_over(content: bytes) -> None:
    try:
        guest_lists.read_table(guest_lists.decode(content)[0])
    except ListRefused as refused:
        told = refused.flaw
    else:
        told = None
    assert told is None or told in Flaw


@settings(max_examples=200, deadline=None)
@given(
    st.text("aB0.+-_'@\" ü!", max_size=14),
    st.sampled_from(
        ["x.org", "X.ORG", "bücher.example", "localhost", "a..b", "-a.org", "x", "", "xn--nxa.org"]
    ),
)
def test_many_addresses_are_judged_as_one_is(local: str, domain: str) -> None:
    def judged(check: object) -> str:
        try:
            return str(check(f"{local}@{domain}"))  # type: ignore[operator]
        except AddressWrong:
            return "wrong"

    many = address_checker()
    assert judged(many) == judged(check_address)
    assert judged(many) == judged(check_address), "nor does it change when the domain is known"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("  Sam \n Whitfield\t", "Sam Whitfield"),
        ("\ufeffSam\u200b", "Sam"),
        ("علی\u200cرضا", "علی\u200cرضا"),
        ("Sam\u202etxt.exe", None),
        ("Sam\x08", None),
        ("", ""),
    ],
)
def test_a_name_is_made_plain_or_said_to_be_strange(text: str, name: str | None) -> None:
    assert clean_name(text) == name
