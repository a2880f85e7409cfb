"""Inviting many at once: a list is pasted or uploaded, its columns named, each row checked; then the yes."""

from collections.abc import Iterator, Sequence
from typing import Any

from flask import Blueprint, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext
from flask_wtf import FlaskForm
from flask_wtf.file import FileField
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import NotFound
from wtforms import SelectField, SelectMultipleField, TextAreaField

from lti_tool.classroom import access, directory, drafts, guest_lists, verdicts
from lti_tool.classroom.accounts import Role
from lti_tool.classroom.batches import Batch, BatchRow, BatchState, Deed
from lti_tool.classroom.guest_lists import MAX_BYTES, MAX_ROWS, Field, Flaw, GuestList, ListRefused
from lti_tool.classroom.verdicts import DOABLE, REFUSED, TAKEN, Terms, Verdict
from lti_tool.database import db, fold
from lti_tool.mail import Progress, progress_of
from lti_tool.pages import limits, spreadsheets, visitor
from lti_tool.pages.inviting import choose_courses, course_option, roles_to_give
from lti_tool.pages.verdict_words import FIELD_NAMES, SEPARATOR_NAMES, refusal, verdict_words
from lti_tool.pages.visitor import allowed
from lti_tool.pages.words import ROLE_NAMES

pages = Blueprint("inviting_many", __name__)
pages.after_request(visitor.vary)
pages.add_app_template_global(verdict_words, "verdict_words")

# Rows of a page, and rows that show what a column holds.
PAGE, SAMPLE = 100, 3
# What is read of a request at all; what is too large for a list is refused on the list's own page.
_READ_AT_MOST = 4 * MAX_BYTES
# What the check page can be narrowed to.
SHOWN: dict[str, tuple[Verdict, ...]] = {
    "": (),
    "invite": TAKEN,
    "pending": (Verdict.WAITING,),
    "look": (Verdict.FORMULA,),
    "nothing": (Verdict.NOTHING,),
    "not-taken": REFUSED,
}


@pages.url_value_preprocessor
def take_lists(endpoint: str | None, values: dict[str, Any] | None) -> None:
    """A list may be larger than other forms. It is said here, since the form's token is read before all."""
    if request.method == "POST" and endpoint == "inviting_many.take":
        if (request.content_length or 0) > _READ_AT_MOST:
            raise ListRefused(Flaw.TOO_LARGE)
        request.max_content_length = request.max_form_memory_size = _READ_AT_MOST


class ListForm(FlaskForm):  # type: ignore[misc]
    """The list itself, and what holds for rows that do not say otherwise."""

    people = TextAreaField(lazy_gettext("Paste people, one a line"))
    file = FileField(lazy_gettext("Or choose a CSV file"))
    role = SelectField(lazy_gettext("Role"), coerce=Role)
    courses = SelectMultipleField(lazy_gettext("Courses"), coerce=int, validate_choice=False)


# --- the list ----------------------------------------------------------------------------


@pages.get("/users/invite-many")
@allowed(access.can_manage_users)
def begin() -> ResponseReturnValue:
    """Paste people or choose a file."""
    form = _list_form(formdata=None)
    form.role.data = Role.STUDENT
    form.courses.data = request.args.getlist("course", type=int)
    return _list_page(form)


@pages.post("/users/invite-many")
@allowed(access.can_manage_users)
@limits.per_account("LIMIT_LISTS")
def take() -> ResponseReturnValue:
    """Read a list and remember it, before anything is done with it."""
    form = _list_form()
    file: FileStorage | None = request.files.get("file")
    named = file is not None and bool(file.filename)
    pasted = form.people.data or ""
    if not form.validate_on_submit():
        return _list_page(form), 422
    if named and pasted.strip():
        form.file.errors = [_("Paste the people or choose a file, not both.")]
        return _list_page(form), 422
    courses = choose_courses(form)
    try:
        if named and file is not None:
            content, encoding = guest_lists.decode(file.stream.read(MAX_BYTES + 1))
            found = guest_lists.read_table(content)
        else:
            if len(pasted.encode()) > MAX_BYTES:
                raise ListRefused(Flaw.TOO_LARGE)
            content, encoding = pasted, ""
            found = guest_lists.read_lines(content)
    except ListRefused as refused:
        field = form.file if named else form.people
        field.errors = [refusal(refused)]
        return _list_page(form), 422
    terms = {
        "role": form.role.data.value,
        "courses": [course.id for course in courses],
        "file": _file_name(file) if named and file is not None else "",
        "encoding": encoding,
        "separator": found.separator,
        "quotes_broken": found.quotes_broken,
        "rows": len(found.rows) - found.headed,
        "headed": found.headed,
        "columns": guest_lists.guess_columns(found),
    }
    batch = drafts.begin(g.account, content, terms, by=g.user)
    db.session.commit()
    return redirect(url_for(".columns", batch_id=batch.id), 303)


def _list_form(**options: Any) -> ListForm:
    form = ListForm(**options)
    form.role.choices = [(role, ROLE_NAMES[role]) for role in roles_to_give()]
    return form


def _list_page(form: ListForm) -> str:
    chosen = [course_id for course_id in form.courses.data or [] if 0 < course_id < 2**31]
    choices = directory.course_choices(g.account.id, chosen=chosen)
    return render_template(
        "inviting_many/list.html",
        form=form,
        options=[course_option(choice) for choice in choices],
        chosen=chosen,
        most=MAX_ROWS,
        waiting=drafts.waiting(g.account, by=g.user),
    )


def _file_name(file: FileStorage) -> str:
    """What the person called it, without the folders that some browsers tell."""
    name = (file.filename or "").replace("\\", "/").rpartition("/")[2]
    return "".join(c for c in name if c.isprintable())[:100]


# --- the columns -------------------------------------------------------------------------


@pages.get("/users/invite-many/<int:batch_id>/columns")
@allowed(access.can_manage_users)
def columns(batch_id: int) -> ResponseReturnValue:
    """What each column holds, as guessed, with the first rows to judge by."""
    batch = _find_list(batch_id)
    if batch.state is not BatchState.DRAFT:
        return _over(batch)
    chosen = {place: Field(field) for field, place in batch.terms["columns"].items()}
    return _columns_page(batch, _read(batch), chosen, headed=batch.terms["headed"])


@pages.post("/users/invite-many/<int:batch_id>/columns")
@allowed(access.can_manage_users)
@limits.per_account("LIMIT_LISTS")
def name_columns(batch_id: int) -> ResponseReturnValue:
    """Judge every row, now that it is known what the columns hold."""
    batch = _find_list(batch_id)
    if batch.state is not BatchState.DRAFT:
        return _over(batch)
    found, headed = _read(batch), bool(request.form.get("headed"))
    chosen = {
        place: Field(field)
        for place in range(found.width)
        if (field := request.form.get(f"column-{place}", "")) in list(Field)
    }
    flaw = _flaw(list(chosen.values()), found, headed=headed)
    if flaw:
        return _columns_page(batch, found, chosen, headed=headed, error=flaw), 422
    by_field = {field: place for place, field in chosen.items()}
    rows = guest_lists.entries(found, by_field, headed=headed)
    terms = Terms(Role(batch.terms["role"]), batch.terms["courses"], _role_words())
    guests = verdicts.read(g.account, rows, terms, by=g.user)
    verdicts.judge(g.account, guests)
    drafts.keep_judged(batch, guests, {**batch.terms, "columns": by_field, "headed": headed})
    db.session.commit()
    return redirect(url_for(".check", batch_id=batch.id), 303)


def _find_list(batch_id: int) -> Batch:
    batch = visitor.find_batch(batch_id)
    if batch.deed is not Deed.INVITE:
        raise NotFound
    return batch


def _over(batch: Batch) -> ResponseReturnValue:
    """A list that has its yes: how far it is."""
    return redirect(url_for("batches.show", batch_id=batch.id), 303)


def _read(batch: Batch) -> GuestList:
    text = drafts.text_of(batch)
    if text is None:
        raise NotFound
    return guest_lists.read_table(text) if batch.terms["file"] else guest_lists.read_lines(text)


def _flaw(fields: Sequence[Field], found: GuestList, *, headed: bool) -> str:
    if Field.EMAIL not in fields:
        return str(_("Say which column holds the e-mail addresses."))
    twice = next((field for field in fields if fields.count(field) > 1), None)
    if twice is not None:
        return str(_("Two columns are called “%(field)s”. Choose one of them.", field=FIELD_NAMES[twice]))
    if headed and len(found.rows) == 1:
        return str(_("There is only one row, so it cannot be the heading."))
    return ""


def _columns_page(
    batch: Batch, found: GuestList, chosen: dict[int, Field], *, headed: bool, error: str = ""
) -> str:
    first = [cells for _number, cells in found.rows[: SAMPLE + 1]]
    return render_template(
        "inviting_many/columns.html",
        batch=batch,
        separator=SEPARATOR_NAMES[found.separator],
        places=range(found.width),
        rows=[[*cells, *[""] * (found.width - len(cells))] for cells in first],
        chosen=chosen,
        fields=FIELD_NAMES,
        headed=headed,
        error=error,
    )


def _role_words() -> dict[str, Role]:
    """How a row may say a role: in the reader's language, or as everybody writes it."""
    return {word: Role(role) for word, role in guest_lists.ROLE_WORDS.items()} | {
        fold(str(name)): role for role, name in ROLE_NAMES.items()
    }


# --- the check, and the yes --------------------------------------------------------------


@pages.get("/users/invite-many/<int:batch_id>/check")
@allowed(access.can_manage_users)
def check(batch_id: int) -> ResponseReturnValue:
    """Every row with its verdict. Nothing is sent from here but by the button."""
    batch = _find_list(batch_id)
    if batch.state is not BatchState.DRAFT:
        return _over(batch)
    return _check_page(batch)


def _check_page(batch: Batch, error: str = "") -> str:
    shown = request.args.get("show", "")
    wanted = SHOWN.get(shown, ())
    after = max(0, min(request.args.get("after", 0, type=int), 2**31 - 1))
    rows = drafts.rows_of(batch, wanted, after=after, limit=PAGE + 1)
    ids = {course for row in rows for course in (row.words or {})["courses"]}
    tally = drafts.tally(batch)
    return render_template(
        "inviting_many/check.html",
        batch=batch,
        separator=SEPARATOR_NAMES[batch.terms["separator"]],
        counts={name: _count(tally, among or tuple(Verdict)) for name, among in SHOWN.items()},
        invited=tally.get(Verdict.INVITE, 0),
        added=tally.get(Verdict.ADD, 0),
        doable=_count(tally, DOABLE),
        shown=shown if shown in SHOWN else "",
        rows=rows[:PAGE],
        more=rows[PAGE - 1].number if len(rows) > PAGE else 0,
        names={course.id: course.name for course in directory.find_courses(g.account.id, list(ids))},
        role_names={role.value: name for role, name in ROLE_NAMES.items()},
        error=error,
    )


def _count(tally: dict[Verdict, int], among: Sequence[Verdict]) -> int:
    return sum(tally.get(verdict, 0) for verdict in among)


@pages.get("/users/invite-many/<int:batch_id>/not-taken.csv")
@allowed(access.can_manage_users)
def not_taken(batch_id: int) -> ResponseReturnValue:
    """The rows that are not taken, each with its reason, to be mended and sent again."""
    batch = _find_list(batch_id)
    header = [_("Row"), _("Full name"), _("Email"), _("Role"), _("Course"), _("Reason")]
    return spreadsheets.csv_response(
        spreadsheets.file_name(_("not-taken")), header, (_told(row) for row in _refused(batch))
    )


def _refused(batch: Batch) -> Iterator[BatchRow]:
    return iter(drafts.rows_of(batch, (*REFUSED, Verdict.FORMULA), limit=MAX_ROWS))


def _told(row: BatchRow) -> list[Any]:
    words = row.words or {}
    said = verdict_words(row)
    return [
        row.number,
        words.get("name", ""),
        words.get("email", ""),
        words.get("role", ""),
        words.get("course_said", ""),
        said.why or said.name,
    ]


@pages.post("/users/invite-many/<int:batch_id>/send")
@allowed(access.can_manage_users)
def send(batch_id: int) -> ResponseReturnValue:
    """The yes: from here on the worker invites them."""
    batch = _find_list(batch_id)
    again, formulas = bool(request.form.get("again")), bool(request.form.get("formulas"))
    if batch.state is BatchState.DRAFT:
        if not _count(drafts.tally(batch), DOABLE):
            return _check_page(batch, _("There is nobody to invite.")), 422
        drafts.confirm(batch, by=g.user, again=again, formulas=formulas)
        db.session.commit()
    else:
        flash(_("This list was sent already."))
    return _over(batch)


# --- afterwards --------------------------------------------------------------------------


def mail_progress(batch: Batch) -> Progress:
    """How far the mails of a list have come."""
    return progress_of(f"batch:{batch.id}")


pages.add_app_template_global(mail_progress, "mail_progress")


@pages.get("/users/invite-many/<int:batch_id>/mails")
@allowed(access.can_manage_users)
def mails(batch_id: int) -> ResponseReturnValue:
    """How far the mails have come, as the receipt asks for it while some wait."""
    batch = _find_list(batch_id)
    if not visitor.wants_fragment():
        return _over(batch)
    return render_template("inviting_many/_mails.html", batch=batch)
