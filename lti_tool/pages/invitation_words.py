"""What an invitation's page says when its link no longer answers it: why, and the way out."""

from flask import g, url_for
from flask_babel import gettext as _
from flask_babel import refresh

from lti_tool.classroom.accounts import Status, User
from lti_tool.classroom.invitations import (
    Invitation,
    InvitationExpired,
    InvitationSpent,
    LinkReplaced,
    State,
)
from lti_tool.pages.error_pages import Action, ErrorPage
from lti_tool.pages.words import day


def speak_to(user: User | None) -> None:
    """From here on this request speaks the invited person's language, where it is known."""
    if user is not None and user.locale:
        g.launch_locale = user.locale
        refresh()


def why_useless(error: InvitationSpent | InvitationExpired | LinkReplaced) -> ErrorPage:
    """What became of the invitation that a link was mailed for, or of the link."""
    invitation = error.invitation
    if isinstance(error, InvitationExpired):
        return _page(
            "invitation_expired",
            _("This invitation has expired"),
            _(
                "It was valid until %(day)s. Nothing is lost: ask for a new one and it goes to the same "
                "address.",
                day=day(invitation.expires_at),
            ),
        )
    if isinstance(error, LinkReplaced):
        return _page(
            "invitation_replaced",
            _("A newer invitation took the place of this one"),
            _(
                "Look for the newest mail from us and open the link there. If you cannot find it, have it "
                "mailed again; it goes to the same address."
            ),
        )
    return _why_spent(invitation)


def _why_spent(invitation: Invitation) -> ErrorPage:
    if invitation.user is not None and invitation.user.status is Status.REGISTERED:
        return _answered(invitation.user)
    inviter = invitation.invited_by.label if invitation.invited_by else ""
    sign_in = Action(url_for("sign_in.ask"), _("I have an account: sign in"))
    if invitation.state is State.DECLINED:
        return _page(
            "invitation_declined",
            _("This invitation was declined"),
            _(
                "Somebody who opened it said “It’s not me”, so it was withdrawn and nothing about the "
                "invited person was kept."
            )
            + " "
            + (
                _("If that was a slip, ask %(name)s to invite you again.", name=inviter)
                if inviter
                else _("If that was a slip, ask at %(account)s.", account=invitation.account.name)
            ),
            sign_in,
        )
    if invitation.state is State.WITHDRAWN:
        return _page(
            "invitation_withdrawn",
            _("This invitation was withdrawn"),
            _("%(account)s took it back, and nothing about you was kept.", account=invitation.account.name)
            + " "
            + (
                _("If you think you should be in the course, ask %(name)s.", name=inviter)
                if inviter
                else _("If you think you should be in the course, ask your teacher.")
            ),
            sign_in,
        )
    return _answered(invitation.user)


def _answered(user: User | None) -> ErrorPage:
    if user is not None and g.get("user") is not None and g.user.id == user.id:
        return _page(
            "invitation_used",
            _("You answered this invitation already"),
            _("Each invitation works once. You are signed in with this browser."),
            Action(url_for("courses.directory"), _("Your courses")),
        )
    return _page(
        "invitation_used",
        _("This invitation was answered already"),
        _("Each invitation works once. You have an account: sign in with the address that we wrote to."),
        Action(url_for("sign_in.ask"), _("Sign in")),
    )


def _page(code: str, title: str, text: str, action: Action | None = None) -> ErrorPage:
    return ErrorPage(code, 410, title, text, action=action)
