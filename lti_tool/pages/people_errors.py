"""What error pages say where people, their roles, invitations and sign-ins are concerned.

Only those whose page depends on nothing but the error's kind; errors.py makes the pages.
"""

from collections.abc import Callable

from flask_babel import lazy_gettext

from lti_tool.classroom.guest_lists import ListRefused
from lti_tool.classroom.guests import TooManyToday
from lti_tool.classroom.invited import NoLongerWaiting
from lti_tool.classroom.linking import LinkRefused, LinkSpent
from lti_tool.classroom.merging import MergeRefused
from lti_tool.classroom.people import LastOwner
from lti_tool.classroom.platforms import NoAdminLeft
from lti_tool.pages.error_pages import ErrorPage, said

PAGES: dict[type[Exception], Callable[[], ErrorPage]] = {
    # Only what is too large to be read at all; the list's own page says everything else.
    ListRefused: said(
        "list_too_large",
        413,
        lazy_gettext("This list is too large"),
        lazy_gettext(
            "At most 10,000 rows and 2 MB are taken at once. Nothing was changed. Go back and split the list."
        ),
    ),
    TooManyToday: said(
        "too_many_invited",
        429,
        lazy_gettext("That is enough mail for one day"),
        lazy_gettext(
            "You have invited as many people as an instructor may within 24 hours. Nothing was sent. An "
            "admin can go on for you."
        ),
    ),
    NoLongerWaiting: said(
        "invitation_over",
        409,
        lazy_gettext("This invitation no longer waits"),
        lazy_gettext("It was answered or withdrawn meanwhile. Nothing was changed."),
    ),
    LastOwner: said(
        "last_owner",
        409,
        lazy_gettext("This is the last owner"),
        lazy_gettext("Make somebody else an owner first. Nothing was changed."),
    ),
    LinkRefused: said(
        "link_refused",
        409,
        lazy_gettext("These two cannot be linked here"),
        lazy_gettext("An admin of your institution can merge them on the users page. Nothing was changed."),
    ),
    LinkSpent: said(
        "link_code_spent",
        410,
        lazy_gettext("This code no longer works"),
        lazy_gettext(
            "It works once, for 15 minutes, and only in the browser where you asked for it. Nothing was"
            " changed. Go back to the course and ask for a new one."
        ),
    ),
    MergeRefused: said(
        "merge_refused",
        409,
        lazy_gettext("These two cannot be merged any more"),
        lazy_gettext("One of them was merged or deleted in this very moment. Nothing was changed."),
    ),
    NoAdminLeft: said(
        "no_admin_left",
        409,
        lazy_gettext("Nobody would be left to manage this account"),
        lazy_gettext(
            "Everybody who is an admin here is one only by this LMS’s word. Make somebody an admin by hand "
            "first. Nothing was changed."
        ),
    ),
}
