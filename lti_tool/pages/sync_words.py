"""What a sync says to people: why it failed, what it did, in sentences."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask_babel import format_decimal, gettext, ngettext

from lti_tool.classroom.syncs import SyncRun, SyncState


@dataclass(frozen=True)
class Failure:
    """Why a sync failed: what happened, the reason and what to do, and a code for support."""

    title: str
    text: str
    code: str


def _(sentence: str, **values: Any) -> str:
    """A sentence in the reader's language (flask_babel does not say that it is text)."""
    return str(gettext(sentence, **values))


# --- failures ----------------------------------------------------------------------------


def _silent(lms: str) -> str:
    return _("%(lms)s did not answer, so nothing was changed.", lms=lms)


def _refused(lms: str) -> str:
    return _("%(lms)s did not give us the list, so nothing was changed.", lms=lms)


def _partial(lms: str) -> str:
    return _("%(lms)s’s list did not come whole, so nothing was changed.", lms=lms)


def _ours(lms: str) -> str:
    return _("The sync did not finish, so nothing was changed.")


def _gone(lms: str) -> str:
    return _("This course’s LMS is not connected any more, so nothing was changed.")


_Reason = Callable[[str], str]

# Reason code of lti/memberships, lti/outgoing and lti/tokens, or of ours → title, explanation.
_REASONS: dict[str, tuple[_Reason, _Reason]] = {
    "timeout": (_silent, lambda lms: _("It took too long. Try again when %(lms)s is less busy.", lms=lms)),
    "connection_refused": (_silent, lambda lms: _("Nobody answered at its address.")),
    "connection_cut": (_silent, lambda lms: _("The connection was cut, three times.")),
    "name_unknown": (_silent, lambda lms: _("Its host name is unknown.")),
    "tls_failed": (
        _silent,
        lambda lms: _("Its certificate does not hold. An admin of %(lms)s can mend it.", lms=lms),
    ),
    "token_service_failed": (_silent, lambda lms: _("Its token service has a fault at the moment.")),
    "token_refused": (
        _refused,
        lambda lms: _(
            "%(lms)s gave Doorlist no access. Ask its admin whether Doorlist may use the service for names "
            "and roles.",
            lms=lms,
        ),
    ),
    "own_key_unreadable": (
        _ours,
        lambda lms: _(
            "Doorlist cannot open its own key: SECRET_KEY was changed. Whoever runs Doorlist can mend it."
        ),
    ),
    "token_malformed": (_refused, lambda lms: _("The access it gave cannot be read.")),
    "redirected": (_refused, lambda lms: _("It sent us on to another address, which we do not follow.")),
    "address_private": (_refused, lambda lms: _("Its address is not on the open internet.")),
    "not_https": (_refused, lambda lms: _("Its address is not secure (https).")),
    "port_refused": (_refused, lambda lms: _("Its address uses a port that we do not call.")),
    "url_malformed": (_refused, lambda lms: _("The address it gave for the list is not one.")),
    "html_answer": (
        _refused,
        lambda lms: _("It sent a web page instead of a list, as it does while it is being maintained."),
    ),
    "not_json": (_partial, lambda lms: _("What it sent breaks off or cannot be read.")),
    "too_large": (_partial, lambda lms: _("One page of the list is larger than we take.")),
    "pages_in_circles": (_partial, lambda lms: _("Its pages lead in a circle.")),
    "too_many_pages": (_partial, lambda lms: _("The list has no end: there was always one more page.")),
    "too_many_members": (_partial, lambda lms: _("The list is longer than we take.")),
    "foreign_next": (_partial, lambda lms: _("The next page is on another host, which we do not follow.")),
    "next_malformed": (_partial, lambda lms: _("The address of the next page is not one.")),
    "member_without_id": (_partial, lambda lms: _("Somebody on the list has no id.")),
    "member_id_malformed": (_partial, lambda lms: _("Somebody on the list has an id that cannot be one.")),
    "roles_malformed": (_partial, lambda lms: _("Somebody’s roles cannot be read.")),
    "deployment_not_approved": (
        _gone,
        lambda lms: _("An admin has to approve the deployment it comes from, on the LMS page."),
    ),
    "worker_lost": (_ours, lambda lms: _("Doorlist was stopped in the middle of it, three times.")),
    "too_busy": (_ours, lambda lms: _("Others were changing the same people at the same time.")),
}


def failure(run: SyncRun, lms: str) -> Failure:
    """A failed sync in words. Facts behind the code: "status 503", "page 2"."""
    reason, *facts = run.error.split() or [""]
    said = {key: value for key, value in zip(facts[::2], facts[1::2], strict=False) if value.isdecimal()}
    if reason == "roster_refused":
        title, text = _refused_roster(int(said.get("status", 0)), said.get("page", "1"), lms)
    else:
        title_of, text_of = _REASONS.get(reason, (_ours, lambda lms: ""))
        title, text = title_of(lms), text_of(lms)
        if title_of is _partial and "page" in said:
            text = " ".join([text, _("That was page %(page)s.", page=said["page"])])
    return Failure(title, text, "-".join(filter(None, ("R", str(run.id), reason, said.get("status")))))


def _refused_roster(status: int, page: str, lms: str) -> tuple[str, str]:
    if status == 404:
        return _refused(lms), _(
            "It no longer knows this course’s list. Open the course in %(lms)s once, then try again.", lms=lms
        )
    if status in (401, 403):
        return _refused(lms), _(
            "It said that Doorlist may not read this course’s list (%(status)s). Doorlist may have been "
            "removed from the course; add it back in %(lms)s and open it once.",
            status=status,
            lms=lms,
        )
    if status == 429:
        return _silent(lms), _("It asks for patience. Try again in a few minutes.")
    if status >= 500 and page == "1":
        return _silent(lms), _(
            "It answered with a fault of its own (%(status)s), three times.", status=status
        )
    if status >= 500:
        return _partial(lms), _(
            "Page %(page)s of the list ended in a fault of its own (%(status)s), three times.",
            page=page,
            status=status,
        )
    return _refused(lms), _("It answered with %(status)s.", status=status)


# --- what a sync did ---------------------------------------------------------------------

KINDS = ("added", "changed", "ended", "skipped", "renamed")


def counts(run: SyncRun) -> dict[str, int]:
    """How many of each kind a receipt holds."""
    receipt: dict[str, Any] = run.receipt or {}
    return {
        **{kind: len(receipt.get(kind, ())) for kind in KINDS},
        "kept": receipt.get("kept", 0),
        "unchanged": receipt.get("unchanged", 0),
    }


def in_short(run: SyncRun) -> str:
    """A sync in a few words: "2 added, 1 skipped"."""
    if run.state is SyncState.FAILED:
        return _("failed, nothing changed")
    if run.busy:
        return _("under way")
    if run.state is SyncState.UNDONE:
        return _("undone")
    if run.state is SyncState.REFUSED:
        return _("answered with no, nothing changed")
    if run.state in (SyncState.HELD, SyncState.CONFIRMED):
        return _("waited for an answer, nothing changed")
    many = counts(run)
    parts = [
        text
        for number, text in (
            (many["added"], _("%(num)s added", num=format_decimal(many["added"]))),
            (many["changed"], _("%(num)s changed", num=format_decimal(many["changed"]))),
            (many["ended"], _("%(num)s ended", num=format_decimal(many["ended"]))),
            (many["renamed"], _("%(num)s renamed", num=format_decimal(many["renamed"]))),
            (many["skipped"], _("%(num)s skipped", num=format_decimal(many["skipped"]))),
        )
        if number
    ]
    return ", ".join(parts) or _("nothing to change")


def short_roles(roles: list[str]) -> str:
    """Raw role URIs without the vocabulary's address, which says nothing to people."""
    return ", ".join(role.rsplit("/v2/", 1)[-1].rsplit("/lti/", 1)[-1] for role in roles)


def skipped_because(reason: str, roles: list[str], lms: str) -> tuple[str, str]:
    """Why a member was left out: what they are, and what that means."""
    if reason == "test_user":
        return _("is %(lms)s’s preview account", lms=lms), _("Never counted, never mailed.")
    if reason == "not_active":
        return _("is not active in the course"), _("%(lms)s lists them as inactive or deleted.", lms=lms)
    return _("has no role in this course"), _(
        "Sent only %(roles)s, which says nothing about the course.", roles=short_roles(roles)
    )


def took(run: SyncRun) -> str:
    """How long it took, and for how many."""
    if run.started_at is None or run.finished_at is None:
        return ""
    seconds = (run.finished_at - run.started_at).total_seconds()
    return str(
        ngettext(
            "took %(seconds)s s for %(members)s member",
            "took %(seconds)s s for %(members)s members",
            run.members,
            seconds=format_decimal(max(round(seconds, 1), 0.1)),
            members=format_decimal(run.members),
        )
    )
