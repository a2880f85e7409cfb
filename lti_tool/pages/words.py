"""Languages, zones, and how names, roles and times are written on pages."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import available_timezones

from babel import Locale
from babel.dates import format_timedelta
from flask import Flask, current_app, g, request, url_for
from flask_babel import (
    Babel,
    format_date,
    format_datetime,
    format_time,
    get_locale,
    get_timezone,
    lazy_gettext,
)
from flask_babel import gettext as _

from lti_tool import settings
from lti_tool.classroom import access
from lti_tool.classroom.accounts import Role
from lti_tool.database import now

babel = Babel()

ROLE_NAMES = {
    Role.STUDENT: lazy_gettext("Student"),
    Role.INSTRUCTOR: lazy_gettext("Instructor"),
    Role.ADMIN: lazy_gettext("Admin"),
    Role.OWNER: lazy_gettext("Owner"),
}


class Item(NamedTuple):
    """One entry of the main navigation."""

    url: str
    label: str
    here: bool


def init_app(app: Flask) -> None:
    """Give templates languages, zones and the filters they write with."""
    babel.init_app(
        app,
        default_translation_directories=str(settings.PACKAGE / "translations"),
        default_locale=app.config["LANGUAGES"][0],
        locale_selector=choose_locale,
        timezone_selector=choose_timezone,
    )
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(
        initials=initials,
        role_name=lambda role: ROLE_NAMES[Role(role)],
        day=day,
        moment=moment,
        clock=lambda at: format_time(at, "short"),
        ago=ago,
    )
    app.jinja_env.globals["navigation"] = navigation
    app.jinja_env.globals["access"] = access
    app.jinja_env.globals["now"] = now
    app.context_processor(_page)


def _page() -> dict[str, Any]:
    locale = get_locale() or Locale("en")
    framed = False
    if "session" in g:
        destination = request.headers.get("Sec-Fetch-Dest", "")
        framed = destination == "iframe" or (
            destination != "document" and bool(g.session and g.session.framed)
        )
    return {"locale": str(locale).replace("_", "-"), "direction": locale.text_direction, "framed": framed}


def choose_locale() -> str | None:
    """The language the person chose, else the LMS's for them, else the browser's, else the account's."""
    languages = current_app.config["LANGUAGES"]
    session, user, account = g.get("session"), g.get("user"), g.get("account")
    for wish in (user and user.locale, g.get("launch_locale"), session and session.locale):
        for language in languages:
            if wish and wish.replace("_", "-").split("-")[0] == language.split("-")[0]:
                return str(language)
    otherwise = account.locale if account and account.locale in languages else languages[0]
    return request.accept_languages.best_match(languages, otherwise) if request else otherwise


def choose_timezone() -> str | None:
    """A mail's own zone; on pages the one the person chose, else the browser's, else the account's."""
    if "mail_zone" in g:
        return g.mail_zone or None
    user, account = g.get("user"), g.get("account")
    told = request.cookies.get("doorlist-zone", "") if request else ""
    for zone in (user and user.timezone, told if told in _zones() else "", account and account.timezone):
        if zone:
            return str(zone)
    return None


def languages_to_choose() -> list[tuple[str, str]]:
    """The languages we are translated into, each by its own name."""
    return [
        (code, (Locale.parse(code, sep="-" if "-" in code else "_").get_display_name() or code).capitalize())
        for code in current_app.config["LANGUAGES"]
    ]


def zones_to_choose() -> list[str]:
    """Time zones as people know them: a place each, and UTC."""
    places = (zone for zone in _zones() if "/" in zone and not zone.startswith(("Etc/", "SystemV/", "US/")))
    return ["UTC", *sorted(places)]


def _zones() -> set[str]:
    if not _ZONES:
        _ZONES.update(available_timezones())
    return _ZONES


_ZONES: set[str] = set()


def initials(label: str) -> str:
    """Two letters for an avatar: of first and last word, one where letters are words."""
    words = [word for word in label.split() if word[0].isalnum()] or ["?"]
    first = words[0][0].upper()
    if len(words) == 1 or ord(first) > 0x2E80:
        return first
    return first + words[-1][0].upper()


def day(at: datetime | None) -> str:
    """A date in the reader's zone and locale."""
    return str(format_date(at, "d MMM yyyy")) if at else ""


def moment(at: datetime | None) -> str:
    """A date and time; of today only the time."""
    if at is None:
        return ""
    zone = get_timezone()
    today = now().astimezone(zone).date()
    if at.astimezone(zone).date() == today:
        return str(_("today %(time)s", time=format_time(at, "short")))
    date = "EEE d MMM" if abs((at.astimezone(zone).date() - today).days) < 7 else "d MMM yyyy"
    return str(_("%(day)s, %(time)s", day=format_datetime(at, date), time=format_time(at, "short")))


def span(seconds: float) -> str:
    """A length of time, forward or back: seconds up to two minutes, minutes up to two hours, and so on."""
    length = timedelta(seconds=round(abs(seconds)))
    return format_timedelta(length, threshold=2, locale=get_locale() or Locale("en"))


def ago(at: datetime) -> str:
    """How long ago, in words."""
    past = at - now()
    if past > timedelta(seconds=-60):
        return str(_("just now"))
    return str(format_timedelta(past, add_direction=True, locale=get_locale()))


# Pages that belong to an entry of the navigation though their address does not begin like it.
_BELOW = {"users.directory": ("/audit",)}


def navigation() -> list[Item]:
    """The main navigation of the person asking: what a role may not do is not shown."""
    user = g.user
    entries = [("courses.directory", _("Courses"), True)]
    entries += [
        ("users.directory", _("Users"), access.can_manage_users(user)),
        ("plans.overview", _("Plans"), access.can_give_plans(user)),
        ("lms.overview", _("LMS"), access.can_manage_platforms(user)),
    ]
    return [
        Item(
            url_for(endpoint), label, request.path.startswith((url_for(endpoint), *_BELOW.get(endpoint, ())))
        )
        for endpoint, label, shown in entries
        if shown
    ]
