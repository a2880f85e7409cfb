"""Merging two people by hand: find the other, see what would be true after, do it, take it back."""

from typing import Any

from flask import Blueprint, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext
from werkzeug.exceptions import Forbidden, NotFound

from lti_tool.classroom import access, directory, merging, prospects, unmerging
from lti_tool.classroom.accounts import User
from lti_tool.classroom.directory import Wish
from lti_tool.classroom.merging import Because, Merge, MergeRefused
from lti_tool.classroom.unmerging import MergeStuck, Stuck
from lti_tool.database import db, now
from lti_tool.pages import visitor
from lti_tool.pages.inviting import one_line
from lti_tool.pages.visitor import allowed

pages = Blueprint("merging", __name__)
pages.after_request(visitor.vary)

WHY_NOT = {
    Because.SAME: lazy_gettext("This is one person already."),
    Because.GONE: lazy_gettext("One of them was merged or deleted in this very moment."),
    Because.PREVIEW_ACCOUNT: lazy_gettext("One of them is an LMS’s preview account, which is no person."),
    Because.BLOCKED: lazy_gettext("One of them is blocked. Unblock them first, or block the other one too."),
    Because.ADMIN_DOOR: lazy_gettext(
        "One of them is an admin, and the other comes from an LMS that may not make admins. Whoever runs that"
        " LMS could come in as the admin."
    ),
}

WHY_STUCK = {
    Stuck.OVER: lazy_gettext("This merge was undone already, or its 30 days are over. Nothing was changed."),
    Stuck.NEWER: lazy_gettext("Somebody was merged into this person later. Undo that first."),
    Stuck.MAILBOX: lazy_gettext(
        "The address of the person who would come back belongs to somebody else by now. Nothing was changed."
    ),
}


@pages.app_context_processor
def past() -> dict[str, Any]:
    """What a person's panel asks for its lines."""
    return {"merged_into": unmerging.merged_into}


@pages.get("/users/<int:user_id>/merge")
@allowed(access.can_manage_users)
def choose(user_id: int) -> ResponseReturnValue:
    """Find the other one; for htmx what was found alone."""
    user = _find_changeable(user_id)
    search = one_line(request.args.get("q"))[:200]
    found = []
    if search:
        found = [
            one
            for one in directory.find_people(g.account.id, Wish(search=search)).users
            if one.id != user.id and _may(user, one)
        ]
    template = "merging/_found.html" if visitor.wants_fragment() else "merging/choose.html"
    return render_template(template, user=user, search=search, found=found)


@pages.get("/users/<int:user_id>/merge/<int:other_id>")
@allowed(access.can_manage_users)
def preview(user_id: int, other_id: int) -> ResponseReturnValue:
    """Both people side by side, what will be true after, and what cannot be undone."""
    return _preview(*_find_both(user_id, other_id))


@pages.post("/users/<int:user_id>/merge/<int:other_id>")
@allowed(access.can_manage_users)
def merge(user_id: int, other_id: int) -> ResponseReturnValue:
    """Make one person of two."""
    into, other = _find_both(user_id, other_id)
    label, into_id = other.label, into.id
    try:
        merging.hold(into, other)
        # Either may have become somebody above the asker a moment ago.
        if not _may(into, other):
            raise Forbidden
        merging.merge(into, other, by=g.user)
    except MergeRefused as refused:
        db.session.rollback()
        if refused.because is Because.GONE:
            raise
        visitor.load()
        return _preview(*_find_both(user_id, other_id)), 409
    db.session.commit()
    flash(_("%(name)s was merged. For 30 days you can undo it.", name=label))
    return redirect(url_for("person.show", user_id=into_id), 303)


@pages.post("/merges/<int:merge_id>/undo")
@allowed(access.can_manage_users)
def undo(merge_id: int) -> ResponseReturnValue:
    """Bring back both people as they were."""
    done = _find_merge(merge_id)
    if not access.can_unmerge(g.user, done.into, done.other_role):
        raise Forbidden
    into_id = done.into_id
    try:
        unmerging.undo(done, by=g.user)
    except MergeStuck as stuck:
        db.session.rollback()
        flash(str(WHY_STUCK[stuck.because]), "stop")
    else:
        db.session.commit()
        flash(_("Undone. They are two people again, and both are signed out."))
    return redirect(url_for("person.show", user_id=into_id), 303)


def _find_merge(merge_id: int) -> Merge:
    done = unmerging.find(g.account.id, merge_id)
    if done is None:
        raise NotFound
    return done


def _find_changeable(user_id: int) -> User:
    user = visitor.find_user(user_id)
    if not access.can_change(g.user, user):
        raise Forbidden
    return user


def _may(one: User, two: User) -> bool:
    return access.can_merge(g.user, *merging.in_order(one, two))


def _find_both(user_id: int, other_id: int) -> tuple[User, User]:
    """Who stays and who is merged into them, both people whom the asker may change, else 404 or 403."""
    one, two = visitor.find_user(user_id), visitor.find_user(other_id)
    if not _may(one, two):
        raise Forbidden
    return merging.in_order(one, two)


def _preview(into: User, other: User) -> str:
    because = merging.reason_against(into, other)
    return render_template(
        "merging/preview.html",
        into=into,
        other=other,
        sides=prospects.sides(into, other),
        prospect=None if because else prospects.foresee(into, other),
        until=now() + merging.UNDO_FOR,
        why_not=WHY_NOT[because] if because else "",
        # Where both or neither has a mailbox, either may stay.
        turnable=into.mailbox_proven is other.mailbox_proven and _may(other, into),
    )
