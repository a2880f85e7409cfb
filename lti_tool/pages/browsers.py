"""A browser's name as its owner would know it again: coarse on purpose, since the label is kept."""

from flask import request
from flask_babel import gettext as _

# In this order: most browsers name others too, so the ones that copy come before the copied.
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Vivaldi", "Vivaldi"),
    ("SamsungBrowser", "Samsung Internet"),
    ("YaBrowser", "Yandex"),
    ("FxiOS", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS", "Chrome"),
    ("Chromium", "Chromium"),
    ("Chrome/", "Chrome"),
    ("Epiphany", "Web"),
    ("Safari/", "Safari"),
    ("AppleWebKit", "Safari"),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Macintosh", "macOS"),
    ("Linux", "Linux"),
    ("X11", "Linux"),
)


def name_browser(user_agent: str) -> str:
    """ "Firefox/Linux"; either part is left empty where it is not known, and nothing else is told."""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), "")
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "")
    return f"{browser}/{system}"


def this_browser() -> str:
    """The label of the browser that is asking."""
    return name_browser(request.user_agent.string[:1000])


def browser_words(label: str) -> str:
    """A label in words."""
    browser, _slash, system = label.partition("/")
    if browser and system:
        return str(_("%(browser)s on %(system)s", browser=browser, system=system))
    if system:
        return str(_("A browser on %(system)s", system=system))
    return browser or str(_("An unknown browser"))
