"""The invitations of an account: which wait, what became of their mail, and what happened to each."""

from typing import Any

from flask import Blueprint, flash, g, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from werkzeug.exceptions import Forbidden

from lti_tool.classroom import access, answers, invitations, invited
from lti_tool.classroom.accounts import User
from lti_tool.classroom.invitations import Invitation
from lti_tool.classroom.invited import NoLongerWaiting, Shown, Wish
from lti_tool.database import db, is_id
from lti_tool.pages import invited_words, visitor
from lti_tool.pages.inviting import invitation_terms, one_line
from lti_tool.pages.visitor import allowed

pages = Blueprint("invited", __name__)
pages.after_request(visitor.vary)
pages.add_app_template_global(invited_words.say, "say_invitation")

# What of the address says which list is shown.
_LIST_KEYS = ("state", "by", "q")


@pages.get("/users/invitations")
@allowed(access.can_manage_users)
def show_list() -> ResponseReturnValue:
    """Every invitation, newest first; for htmx the list alone."""
    if visitor.wants_fragment() and request.headers.get("HX-Target") == "list":
        part = make_response(render_template("invited/_list.html", **_list_facts()))
        part.headers["HX-Push-Url"] = _list_url(**_cursor())
        return part
    return render_template(
        "invited/list.html",
        **_list_facts(),
        inviters=invited.inviters(g.account.id, among=_inviter_wish()),
        shown=invited_words.SHOWN,
        expired=invited.count_expired(g.account.id),
    )


@pages.get("/users/invitations/<int:invitation_id>")
@allowed(access.can_manage_users)
def show(invitation_id: int) -> ResponseReturnValue:
    """One invitation and everything that happened to it."""
    return render_template("invited/details.html", **_details(visitor.find_invitation(invitation_id)))


@pages.post("/users/invitations/<int:invitation_id>/resend")
@allowed(access.can_manage_users)
def resend(invitation_id: int) -> ResponseReturnValue:
    """Mail it again; the links mailed before stop working."""
    invitation = visitor.find_invitation(invitation_id)
    invitations.resend(_waiting_person(invitation), by=g.user, **invitation_terms())
    db.session.commit()
    return _changed(invitation, _("A new invitation is on its way. The old link no longer works."))


@pages.post("/users/invitations/<int:invitation_id>/withdraw")
@allowed(access.can_manage_users)
def withdraw(invitation_id: int) -> ResponseReturnValue:
    """Take it back; the person disappears, the invitation stays as history."""
    invitation = visitor.find_invitation(invitation_id)
    user = _waiting_person(invitation)
    said = _("The invitation of %(name)s is withdrawn.", name=user.label)
    answers.withdraw(user, by=g.user)
    db.session.commit()
    return _changed(invitation, said)


@pages.post("/users/invitations/resend-expired")
@allowed(access.can_manage_users)
def resend_expired() -> ResponseReturnValue:
    """Every expired invitation again: as a bulk change, which asks before it begins."""
    batch = invited.draft_again(g.account, by=g.user)
    db.session.commit()
    return redirect(url_for("batches.show", batch_id=batch.id), 303)


def _waiting_person(invitation: Invitation) -> User:
    """Whom an unanswered invitation is for, if the asker may change them.

    Raises NoLongerWaiting, Forbidden.
    """
    if invitation.answer is not None or invitation.user is None:
        raise NoLongerWaiting
    if not access.can_change(g.user, invitation.user):
        raise Forbidden
    return invitation.user


def _changed(invitation: Invitation, said: str) -> ResponseReturnValue:
    """After a change: the row or the details anew for htmx, else back to where the button was."""
    if visitor.wants_fragment():
        row = invited.describe([invitation])[0]
        return render_template("invited/_row.html", row=row, said=said)
    flash(said)
    if request.args.get("back") == "list":
        return redirect(_list_url(**_cursor()), 303)
    return redirect(url_for(".show", invitation_id=invitation.id), 303)


def _details(invitation: Invitation) -> dict[str, Any]:
    row = invited.describe([invitation])[0]
    return {
        "row": row,
        "events": [(event, invited_words.tell(event)) for event in invited.history(invitation)],
    }


def _list_facts() -> dict[str, Any]:
    """What the list shows, as the address says it."""
    state = request.args.get("state", "")
    wish = Wish(
        shown=Shown(state) if state in list(Shown) else None,
        inviter_id=_inviter_wish(),
        search=one_line(request.args.get("q"))[:200],
        after=request.args.get("after", type=int),
        before=request.args.get("before", type=int),
    )
    return {
        "wish": wish,
        "page": invited.find_page(g.account.id, wish),
        "list_url": _list_url,
        "list_args": _list_args() | _cursor(),
    }


def _inviter_wish() -> int | None:
    wish = request.args.get("by", type=int)
    return wish if wish is not None and is_id(wish) else None


def _list_args() -> dict[str, Any]:
    return {key: value for key in _LIST_KEYS if (value := request.args.get(key, ""))}


def _cursor() -> dict[str, Any]:
    return {key: value for key in ("after", "before") if (value := request.args.get(key, type=int))}


def _list_url(**cursor: Any) -> str:
    """The list as it is narrowed now, from its beginning or from a cursor."""
    return url_for("invited.show_list", **_list_args(), **cursor)
