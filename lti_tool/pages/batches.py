"""One deed for many people: chosen in the list, looked at before the yes, watched, and its receipt."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flask import Blueprint, Response, flash, g, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from sqlalchemy import Select, select
from werkzeug.exceptions import NotFound, RequestEntityTooLarge

from lti_tool.classroom import access, batch_receipts, batches, bulk, directory
from lti_tool.classroom.accounts import Role, User
from lti_tool.classroom.batches import Batch, BatchRow, BatchState, Deed
from lti_tool.database import db, is_id
from lti_tool.pages import batch_words, limits, spreadsheets, visitor
from lti_tool.pages.batch_words import outcome_words
from lti_tool.pages.inviting import course_option
from lti_tool.pages.users import read_wish
from lti_tool.pages.visitor import allowed
from lti_tool.pages.words import ROLE_NAMES

pages = Blueprint("batches", __name__)
pages.after_request(visitor.vary)
pages.add_app_template_filter(batch_words.title, "batch_title")
pages.add_app_template_filter(batch_words.in_short, "batch_in_short")
pages.add_app_template_global(batch_words.yes, "batch_yes")
pages.add_app_template_global(outcome_words, "outcome_words")

# htmx stops polling at this status.
STOP_POLLING = 286
# People named before the yes, and on one page of a receipt.
FIRST, PAGE = 8, 50
# As many parameters as every database takes in one statement; who wants more selects all that match.
MOST_NAMED = 30_000
# What becomes of people is offered for these deeds; inviting begins with a list.
CHOSEN = {deed.value: deed for deed in Deed if deed is not Deed.INVITE}


# --- choosing ----------------------------------------------------------------------------


@pages.post(f"/users/batches/new/<any({', '.join(CHOSEN)}):deed>")
@allowed(access.can_change_many)
@limits.per_account("LIMIT_LISTS")
def draft(deed: str) -> ResponseReturnValue:
    """Remember whom somebody selected in the list, so that they can look before they say yes."""
    batch = batches.add(g.account, CHOSEN[deed], _first_terms(CHOSEN[deed]), by=g.user, draft=True)
    batches.fill(batch, chosen_people())
    if not batch.total:
        db.session.rollback()
        flash(_("Nobody is selected. Tick the people first."))
        return redirect(url_for("users.directory"), 303)
    db.session.commit()
    return redirect(url_for(".show", batch_id=batch.id), 303)


def chosen_people() -> Select[Any]:
    """The ids of those a form of the list names: each one, or everybody its search and filters find."""
    if request.form.get("all"):
        return directory.matching_ids(g.account.id, read_wish(request.form))
    ids = {int(one[:12]) for one in request.form.getlist("user") if one.isascii() and one.isdigit()}
    if len(ids) > MOST_NAMED:
        raise RequestEntityTooLarge
    return select(User.id).where(
        User.account_id == g.account.id, User.listed, User.id.in_([one for one in ids if is_id(one)])
    )


def _first_terms(deed: Deed) -> dict[str, Any]:
    """What the list says already: whoever looks at a course's people may mean that course."""
    course_id = read_wish(request.form).course_id if deed is Deed.REMOVE_FROM_COURSE else None
    return {"courses": [course_id]} if course_id else {}


# --- looking, watching, reading ----------------------------------------------------------


@pages.get("/users/batches")
@allowed(access.can_change_many)
def overview() -> ResponseReturnValue:
    """What was done to many people, newest first."""
    found = batch_receipts.list_batches(g.account.id, before=request.args.get("before", type=int))
    return render_template(
        "batches/overview.html", batches=found, page=batch_receipts.PAGE, names=_course_names(found)
    )


@pages.get("/users/batches/<int:batch_id>")
@allowed(access.can_change_many)
def show(batch_id: int) -> ResponseReturnValue:
    """A draft with what it would do, how far it is, or its receipt; for htmx the part that changes."""
    batch = visitor.find_batch(batch_id)
    if batch.state is BatchState.DRAFT and batch.deed is Deed.INVITE:
        return redirect(url_for("inviting_many.check", batch_id=batch.id), 303)
    if batch.state is BatchState.DRAFT:
        return redirect(_uploaded(batch)) if batch.deed is Deed.INVITE else _look(batch)
    if visitor.wants_fragment():
        part = make_response(render_template("batches/_state.html", **_receipt_facts(batch)))
        if not batch.busy:
            part.status_code = STOP_POLLING
        return part
    return render_template("batches/batch.html", **_receipt_facts(batch))


def _course_names(found: Sequence[Batch]) -> dict[int, str]:
    """Names of the courses that batches are about, by id."""
    wanted = {one for batch in found for one in batch.terms.get("courses", [])}
    return {course.id: course.name for course in directory.find_courses(g.account.id, list(wanted))}


def _uploaded(batch: Batch) -> str:
    """Where a list that was uploaded is looked at."""
    return url_for("inviting_many.check", batch_id=batch.id)


def _look(batch: Batch, *, terms: dict[str, Any] | None = None, error: str = "") -> ResponseReturnValue:
    """A draft: terms to choose, and what they come to."""
    terms = read_terms(batch, request.args) if terms is None else terms
    complete = _complete(batch.deed, terms)
    forecast = bulk.forecast(batch, terms, by=g.user) if complete else {}
    shown = {
        "batch": batch,
        "terms": terms,
        "complete": complete,
        "doing": {code: n for code, n in forecast.items() if outcome_words(code).done},
        "leaving": {code: n for code, n in forecast.items() if not outcome_words(code).done},
        "error": error,
        "cap": batches.MOST_PEOPLE,
    }
    status = 422 if error else 200
    if visitor.wants_fragment():
        return render_template("batches/_check.html", **shown), status
    if batch.deed in bulk.IN_COURSES:
        choices = directory.course_choices(g.account.id, chosen=terms["courses"])
        shown["options"] = [course_option(choice) for choice in choices]
    shown["rows"] = batch_receipts.list_rows(batch, limit=FIRST)
    shown["roles"] = _roles(batch.deed)
    return render_template("batches/draft.html", **shown), status


def read_terms(batch: Batch, given: Any) -> dict[str, Any]:
    """What was chosen for all, of this account and within the asker's rights; else what the draft says."""
    terms: dict[str, Any] = dict(batch.terms)
    if batch.deed in bulk.IN_COURSES:
        wanted = given.getlist("courses", type=int) if "chosen" in given else terms.get("courses", [])
        found = directory.find_courses(g.account.id, [one for one in wanted if is_id(one)])
        terms["courses"] = [course.id for course in found]
    if batch.deed in (Deed.ADD_TO_COURSE, Deed.CHANGE_ROLE):
        role = given.get("role", "")
        allowed_roles = [value for value, _name in _roles(batch.deed)]
        # Nobody loses rights because a form began with the lowest role.
        first = "" if batch.deed is Deed.CHANGE_ROLE else Role.STUDENT.value
        terms["role"] = role if role in allowed_roles else first
    return terms


def _roles(deed: Deed) -> list[tuple[str, Any]]:
    roles = [Role.STUDENT, Role.INSTRUCTOR]
    if deed is Deed.CHANGE_ROLE:
        roles = [role for role in Role if access.can_give_role(g.user, role)]
    return [(role.value, ROLE_NAMES[role]) for role in roles]


def _complete(deed: Deed, terms: Mapping[str, Any]) -> bool:
    if deed is Deed.CHANGE_ROLE:
        return bool(terms["role"])
    return deed not in bulk.IN_COURSES or bool(terms["courses"])


def _receipt_facts(batch: Batch) -> dict[str, Any]:
    """How far it is; once it is over, its people of one kind, those not done first."""
    tally = batches.count_outcomes(batch) if batch.busy else batch.outcomes or {}
    counts = {code: tally[code] for code in (*batch_words.OUTCOMES, *tally) if tally.get(code)}
    facts: dict[str, Any] = {
        "batch": batch,
        "counts": counts,
        "worked": batch.total - tally.get("", 0),
        "names": _course_names([batch]),
    }
    if batch.busy:
        return facts
    kinds = batch_words.kinds(counts)
    kind = request.args.get("show", "")
    if kind not in counts and kind not in [code for code, _name, _number in kinds]:
        kind = kinds[0][0] if kinds else "done"
    codes = [code for code in counts if outcome_words(code).done is (kind == "done")]
    rows = batch_receipts.list_rows(
        batch,
        outcomes=codes if kind in ("done", "left") else [kind],
        after=max(0, min(request.args.get("after", 0, type=int), 2**31 - 1)),
        limit=PAGE + 1,
    )
    undo, can_undo = batch_receipts.undone_by(batch), batch_receipts.can_be_undone(batch)
    return facts | {
        "kind": kind,
        "kinds": kinds,
        "rows": rows[:PAGE],
        "more": rows[PAGE - 1].number if len(rows) > PAGE else None,
        "undo": undo,
        "can_undo": can_undo,
        "offers_undo": can_undo and undo is None and any(outcome_words(code).done for code in counts),
    }


# --- saying yes, stopping, undoing -------------------------------------------------------


@pages.post("/users/batches/<int:batch_id>/confirm")
@allowed(access.can_change_many)
def confirm(batch_id: int) -> ResponseReturnValue:
    """Yes, to exactly what was shown: deleting asks for the number of people once more."""
    batch = visitor.find_batch(batch_id)
    if batch.state is not BatchState.DRAFT or batch.deed is Deed.INVITE:
        return redirect(url_for(".show", batch_id=batch.id), 303)
    terms = read_terms(batch, request.form)
    if not _complete(batch.deed, terms):
        wanted = _("Pick a role.") if batch.deed is Deed.CHANGE_ROLE else _("Pick a course.")
        return _look(batch, terms=terms, error=wanted)
    if batch.deed is Deed.DELETE:
        deleted = bulk.forecast(batch, terms, by=g.user).get("deleted", 0)
        typed = "".join(c for c in request.form.get("number", "") if c.isdecimal())
        if not typed or int(typed[:9]) != deleted:
            return _look(batch, terms=terms, error=_("This is not the number of people to delete."))
    batches.confirm(batch, by=g.user, terms=terms)
    db.session.commit()
    return redirect(url_for(".show", batch_id=batch.id), 303)


@pages.post("/users/batches/<int:batch_id>/stop")
@allowed(access.can_change_many)
def stop(batch_id: int) -> ResponseReturnValue:
    """Leave undone what is not done yet; a draft is thrown away."""
    batch = visitor.find_batch(batch_id)
    if batch.state is BatchState.DRAFT:
        db.session.delete(batch)
        db.session.commit()
        flash(_("Nothing was changed."))
        return redirect(url_for("users.directory"), 303)
    batches.stop(batch, by=g.user)
    db.session.commit()
    return redirect(url_for(".show", batch_id=batch.id), 303)


@pages.post("/users/batches/<int:batch_id>/undo")
@allowed(access.can_change_many)
def undo(batch_id: int) -> ResponseReturnValue:
    """Take back what was changed, person by person, where nobody changed it since."""
    undone = batch_receipts.undo(visitor.find_batch(batch_id), by=g.user)
    if undone is None:
        db.session.rollback()
        flash(_("There is nothing to take back."))
        return redirect(url_for(".show", batch_id=batch_id), 303)
    db.session.commit()
    return redirect(url_for(".show", batch_id=undone.id), 303)


# --- the receipt as a file ---------------------------------------------------------------


@pages.get("/users/batches/<int:batch_id>/receipt.csv")
@allowed(access.can_change_many)
def receipt(batch_id: int) -> Response:
    """Who it was, and what became of each, as a file."""
    batch = visitor.find_batch(batch_id)
    if not batch.ended:
        raise NotFound
    header = [_("Row"), _("Name"), _("Email"), _("Outcome"), _("Reason")]
    name = spreadsheets.file_name(f"{batch.deed.value.replace('_', '-')}-{batch.id}")
    return spreadsheets.csv_response(name, header, _lines(batch.id, g.account.id))


def _lines(batch_id: int, account_id: int) -> Iterator[list[Any]]:
    after = 0
    while True:
        # What was read before is forgotten, so that a long file costs no more memory than a short one.
        db.session.rollback()
        db.session.expunge_all()
        batch = batches.find(account_id, batch_id)
        rows = batch_receipts.list_rows(batch, after=after, limit=500) if batch else []
        for row in rows:
            words = outcome_words(row.outcome)
            yield [row.number, _name(row), _address(row), str(words.name), str(words.why)]
            after = row.number
        if not rows:
            return


def _name(row: BatchRow) -> str:
    return row.user.label if row.user else str((row.words or {}).get("name", ""))


def _address(row: BatchRow) -> str:
    return row.user.email if row.user else str((row.words or {}).get("email", ""))
