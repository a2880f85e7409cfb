"""What admins settle for their whole account."""

from typing import Any

from lti_tool.classroom import audit
from lti_tool.classroom.accounts import Account, User
from lti_tool.database import db

# The columns of Account that are settings. Addresses stay out of the audit log.
SETTINGS = (
    "name",
    "contact",
    "locale",
    "timezone",
    "instructors_invite",
    "tells_new_sign_ins",
    "keep_audit_days",
    "keep_names_days",
    "keep_ended_days",
    "keep_unseen_days",
    "keep_mail_days",
    "keep_refused_days",
)
_UNSAID = {"contact"}


def change(account: Account, wished: dict[str, Any], *, by: User) -> list[str]:
    """Settle what is `wished`; the names of the settings that are different now."""
    # Of two who save at once, the log of the later one says what the earlier one left.
    db.session.refresh(account, with_for_update={"key_share": True})
    changed = [name for name in SETTINGS if name in wished and getattr(account, name) != wished[name]]
    if not changed:
        return []
    before = {name: _said(name, getattr(account, name)) for name in changed}
    for name in changed:
        setattr(account, name, wished[name])
    after = {name: _said(name, getattr(account, name)) for name in changed}
    audit.record(account.id, "account.changed", f"account:{account.id}", by=by, before=before, after=after)
    return changed


def _said(name: str, value: Any) -> Any:
    return bool(value) if name in _UNSAID else value
