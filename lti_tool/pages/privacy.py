"""What is kept about people, from where, how long, who sees it: for everybody, signed in or not."""

from typing import Any

from flask import Blueprint, current_app, g, render_template, request, url_for
from flask.typing import ResponseReturnValue

from lti_tool.classroom import accounts, retention
from lti_tool.classroom.accounts import Account
from lti_tool.database import db
from lti_tool.pages.retention_words import kept_for
from lti_tool.sealing import SealBroken, seal, unseal

pages = Blueprint("privacy", __name__)


@pages.get("/privacy")
def show() -> ResponseReturnValue:
    """For the account of whoever asks, of the page they came from, or the only one there is."""
    account = _account()
    if account is not None:
        g.account = account
    terms = retention.terms(account) if account else None
    return render_template(
        "privacy/show.html",
        account=account,
        kept={kind.value: kept_for(days) for kind, days in terms.items()} if terms else None,
        contact=(account.contact if account else "") or current_app.config["SUPPORT_EMAIL"],
        invitation_days=current_app.config["INVITATION_DAYS"],
        session_hours=max(1, current_app.config["SESSION_MINUTES"] // 60),
    )


def _account() -> Account | None:
    if g.account is not None:
        account: Account = g.account
        return account
    try:
        of = int(unseal("privacy", request.args.get("of", "")))
    except (SealBroken, ValueError):
        return accounts.find_only_account()
    return db.session.get(Account, of)


@pages.app_context_processor
def offer() -> dict[str, Any]:
    """`privacy_address()`: where a page's reader finds this, of the account the page is about."""
    return {"privacy_address": privacy_address}


def privacy_address(account: Account | None = None) -> str:
    """The page about the account, if one is known; its name is not for guessing."""
    if account is None or g.get("user") is not None:
        return url_for("privacy.show")
    return url_for("privacy.show", of=seal("privacy", str(account.id)))
