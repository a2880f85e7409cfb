"""Connecting an LMS: a one-use link to open there, or its values typed in by hand."""

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from flask import Blueprint, current_app, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext
from flask_wtf import FlaskForm
from werkzeug.exceptions import NotFound
from wtforms import Field, StringField, TextAreaField
from wtforms.validators import DataRequired, Length, Optional, ValidationError

from lti_tool.classroom import access, connecting, platforms
from lti_tool.classroom.connecting import RegistrationLink
from lti_tool.classroom.platforms import ClientTaken
from lti_tool.classroom.roster import PLATFORM_NAMES
from lti_tool.database import db
from lti_tool.lti import outgoing
from lti_tool.lti.clouds import CLOUDS, Cloud, is_audience_of
from lti_tool.lti.outgoing import PlatformUnavailable
from lti_tool.lti.registration import Configuration
from lti_tool.lti.registrations import Registration, RegistrationExists
from lti_tool.pages import registration_words, visitor
from lti_tool.pages.visitor import allowed
from lti_tool.sealing import fingerprint

pages = Blueprint("connecting", __name__)
pages.after_request(visitor.vary)

MOST_DEPLOYMENTS = 50
# Links of which a list that stood long can ask what became of them.
MOST_SHOWN = 100


@dataclass(frozen=True)
class Kind:
    """One kind of LMS: its menu words, and what it calls the values to copy."""

    name: str
    title: str
    about: Any
    # Field name → what that LMS calls it.
    labels: dict[str, str] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    @property
    def clouds(self) -> list[Cloud]:
        """The hosted clouds of this kind, the usual one first."""
        return [cloud for cloud in CLOUDS.values() if cloud.kind == self.name]


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "moodle",
            "Moodle",
            lazy_gettext("Paste one link. 2 minutes."),
            labels={
                "issuer": "Platform ID",
                "client_id": "Client ID",
                "auth_url": "Authentication request URL",
                "token_url": "Access token URL",
                "jwks_url": "Public keyset URL",
                "deployments": "Deployment ID",
            },
            examples={
                "issuer": "https://moodle.example.edu",
                "auth_url": "https://moodle.example.edu/mod/lti/auth.php",
                "token_url": "https://moodle.example.edu/mod/lti/token.php",
                "jwks_url": "https://moodle.example.edu/mod/lti/certs.php",
            },
        ),
        Kind(
            "canvas",
            "Canvas",
            lazy_gettext("A link, or a JSON file and then a client ID."),
            labels={"client_id": "Client ID", "deployments": "Deployment Id"},
        ),
        Kind(
            "other",
            lazy_gettext("your LMS"),
            lazy_gettext("Brightspace, Blackboard, Open edX, Sakai and others."),
        ),
    )
}


def our_values() -> list[tuple[str, str, str]]:
    """Id, name and address of what is pasted into the LMS."""
    public: str = current_app.config["PUBLIC_URL"]
    return [
        ("our-target", _("Tool URL (target link)"), public + url_for("launch.launch")),
        ("our-login", _("Login URL"), public + url_for("launch.login")),
        ("our-redirect", _("Redirect URL"), public + url_for("launch.launch")),
        ("our-keys", _("Public keyset URL (JWKS)"), public + url_for("launch.jwks")),
    ]


# --- the link ----------------------------------------------------------------------------


@pages.post("/lms/connect/links")
@allowed(access.can_manage_platforms)
def make_link() -> ResponseReturnValue:
    """A new link, shown in this answer and never again."""
    kind = chosen_kind()
    link, token = connecting.make_link(g.account, kind.name, by=g.user)
    db.session.commit()
    address = current_app.config["PUBLIC_URL"] + url_for("registering.ask", token=token)
    if visitor.wants_fragment():
        return render_template(
            "lms/_made.html",
            kind=kind,
            link=link,
            address=address,
            others=connecting.open_links(g.account),
        )
    return show(link=link, address=address)


@pages.get("/lms/connect/links")
@allowed(access.can_manage_platforms)
def links() -> ResponseReturnValue:
    """The open links beside the form, asked again and again; of those it showed, which connected an LMS."""
    if not visitor.wants_fragment():
        return redirect(url_for("lms.connect"), 303)
    asked = request.args.get("shown", "").split("-")[:MOST_SHOWN]
    shown = [int(one) for one in asked if one.isdecimal() and len(one) <= 10]
    others = connecting.open_links(g.account)
    connected = connecting.connected_links(g.account, shown)
    if links_mark([*others, *connected]) == request.args.get("mark"):
        # The keyboard may be on one of them.
        return "", 204
    return render_template("lms/_links.html", others=others, connected=connected)


def links_mark(shown: list[RegistrationLink]) -> str:
    """Changes when anything that is said of these links does."""
    said = [(link.id, link.opened_at, link.host, link.fault, link.registration_id) for link in shown]
    return fingerprint(repr(said))[:16]


@pages.get("/lms/connect/<int:link_id>/state")
@allowed(access.can_manage_platforms)
def state(link_id: int) -> ResponseReturnValue:
    """What became of a link so far; asked every three seconds while it is open."""
    link = _find_link(link_id)
    kind = KINDS.get(link.kind, KINDS["other"])
    listed = "listed" in request.args
    shown = {"link": link, "kind": kind, "faults": registration_words.FAULTS}
    if not visitor.wants_fragment():
        return render_template("lms/link.html", **shown)
    if link.open:
        return render_template("lms/_state.html", **shown, listed=1 if listed else None)
    # 286 tells htmx to ask no more.
    if not listed:
        return render_template("lms/_state.html", **shown), 286
    return render_template("lms/_settled.html", **shown, others=connecting.open_links(g.account)), 286


@pages.post("/lms/connect/<int:link_id>/withdraw")
@allowed(access.can_manage_platforms)
def withdraw(link_id: int) -> ResponseReturnValue:
    """A link that nobody may use any more."""
    link = _find_link(link_id)
    if not link.open:
        raise NotFound
    connecting.withdraw(link, by=g.user)
    flash(_("The link is withdrawn. Nobody can connect an LMS with it."), "open")
    db.session.commit()
    return redirect(url_for("lms.connect"), 303)


def _find_link(link_id: int) -> RegistrationLink:
    link = connecting.find_link(visitor.somebody().account_id, link_id)
    if link is None:
        raise NotFound
    return link


# --- by hand -----------------------------------------------------------------------------


def _stripped(text: str | None) -> str | None:
    return text.strip() if text else text


def _address(form: FlaskForm, field: Field) -> None:
    """An address we may ask: https, on a host, without a password in it."""
    try:
        outgoing.check_url(field.data, allow_private=current_app.config["ALLOW_PRIVATE_PLATFORMS"])
    except PlatformUnavailable as refused:
        if refused.reason == "not_https":
            raise ValidationError(_("The address must begin with https://.")) from None
        if refused.reason == "port_refused":
            raise ValidationError(_("We do not call this port.")) from None
        raise ValidationError(_("This is not a whole address, as https://lms.example.edu/…")) from None


def _one_word(form: FlaskForm, field: Field) -> None:
    if re.search(r"\s", field.data) or not field.data.isprintable():
        raise ValidationError(_("There is a space in it. Copy it once more."))


def _needed(sentence: Any) -> list[Any]:
    return [DataRequired(sentence), Length(max=500, message=lazy_gettext("At most 500 characters."))]


class ConnectForm(FlaskForm):  # type: ignore[misc]
    """An LMS's values, as its admin reads them off."""

    name = StringField(
        lazy_gettext("Name"),
        [
            DataRequired(lazy_gettext("Give it a name that your people know.")),
            Length(max=100, message=lazy_gettext("At most 100 characters.")),
        ],
        filters=[_stripped],
    )
    issuer = StringField(
        lazy_gettext("Issuer"), [*_needed(lazy_gettext("Copy the issuer.")), _address], filters=[_stripped]
    )
    client_id = StringField(
        lazy_gettext("Client ID"),
        [
            DataRequired(lazy_gettext("Copy the client ID.")),
            Length(max=255, message=lazy_gettext("At most 255 characters.")),
            _one_word,
        ],
        filters=[_stripped],
    )
    auth_url = StringField(
        lazy_gettext("Authentication request URL"),
        [*_needed(lazy_gettext("Copy the authentication request URL.")), _address],
        filters=[_stripped],
    )
    token_url = StringField(
        lazy_gettext("Access token URL"),
        [*_needed(lazy_gettext("Copy the access token URL.")), _address],
        filters=[_stripped],
    )
    jwks_url = StringField(
        lazy_gettext("Public keyset URL (JWKS)"),
        [*_needed(lazy_gettext("Copy the public keyset URL.")), _address],
        filters=[_stripped],
    )
    token_audience = StringField(
        lazy_gettext("Token audience"),
        [Optional(), Length(max=500, message=lazy_gettext("At most 500 characters.")), _one_word],
        filters=[_stripped],
    )
    deployments = TextAreaField(lazy_gettext("Deployment IDs"))

    def validate_deployments(self, field: Field) -> None:
        """One a line, as the LMS writes them."""
        ids = self.deployment_ids()
        if len(ids) > MOST_DEPLOYMENTS:
            raise ValidationError(_("At most %(most)s at once.", most=MOST_DEPLOYMENTS))
        for one in ids:
            if len(one) > 255 or not (one.isascii() and one.isprintable()):
                raise ValidationError(_("“%(id)s” cannot be a deployment ID.", id=one[:40]))

    def validate_token_audience(self, field: Field) -> None:
        """Not another platform's: to that one our assertion would say the same."""
        if not is_audience_of(field.data, self.token_url.data or ""):
            raise ValidationError(_("It has to be on the same host as the access token URL."))

    def deployment_ids(self) -> list[str]:
        """The lines that say something, each once."""
        lines = (line.strip() for line in (self.deployments.data or "").splitlines())
        return list(dict.fromkeys(line for line in lines if line))

    def values(self) -> dict[str, Any]:
        """What is stored of the registration."""
        names = ("name", "issuer", "client_id", "auth_url", "token_url", "jwks_url")
        said = {name: self[name].data for name in names} | {
            "token_audience": self.token_audience.data or None
        }
        # Blackboard's keys lie under the client ID.
        return said | {"jwks_url": said["jwks_url"].replace("{client_id}", quote(said["client_id"], safe=""))}


def chosen_kind() -> Kind:
    """The kind of LMS that the address names."""
    return KINDS.get(request.args.get("lms", ""), KINDS["moodle"])


def chosen_cloud(kind: Kind) -> Cloud | None:
    """The hosted cloud that the address names; Canvas is one unless said otherwise."""
    wish = CLOUDS.get(request.args.get("cloud", ""))
    if wish is not None and wish.kind == kind.name:
        return wish
    return CLOUDS["canvas"] if kind.name == "canvas" else None


def preset(kind: Kind) -> dict[str, str]:
    """What the form begins with: what is the same for everybody in this cloud."""
    cloud = chosen_cloud(kind)
    if cloud is None:
        return {"name": kind.title if kind.name != "other" else ""}
    names = ("issuer", "auth_url", "token_url", "jwks_url", "token_audience")
    return {"name": cloud.title} | {name: getattr(cloud, name) for name in names}


def show(
    *, form: ConnectForm | None = None, link: RegistrationLink | None = None, address: str = ""
) -> ResponseReturnValue:
    """The page, or its part for a kind of LMS."""
    kind = chosen_kind()
    # What another form of the page posted is not for this one.
    form = form or ConnectForm(formdata=None, data=preset(kind))
    part = visitor.wants_fragment() and request.headers.get("HX-Target") == "how"
    return render_template(
        "lms/_how.html" if part else "lms/connect.html",
        form=form,
        kind=kind,
        kinds=KINDS.values(),
        cloud=chosen_cloud(kind),
        by_hand=bool(form.errors) or "cloud" in request.args,
        ours=our_values(),
        canvas_url=current_app.config["PUBLIC_URL"] + url_for("registering.canvas_key"),
        link=link,
        address=address,
        others=connecting.open_links(g.account),
    ), 422 if form.errors else 200


def connect_by_hand() -> ResponseReturnValue:
    """Connect what was typed in, or say what is wrong with it."""
    form = ConnectForm(data=preset(chosen_kind()))
    if form.validate_on_submit():
        try:
            platforms.connect_by_hand(g.account, form.values(), form.deployment_ids(), by=g.user)
        except ClientTaken:
            form.client_id.errors = [
                _(
                    "The LMS of another institution here knows Doorlist by this client ID. Nothing was "
                    "connected. Add Doorlist to your LMS as a new tool."
                )
            ]
        except RegistrationExists:
            form.client_id.errors = [
                _(
                    "This issuer and client ID are connected already, and are never overwritten. "
                    "Nothing was changed."
                )
            ]
        else:
            db.session.commit()
            flash(
                _("%(lms)s is connected. The first launch shows whether all is well.", lms=form.name.data),
                "open",
            )
            return redirect(url_for("lms.overview"), 303)
    return show(form=form)


def host_of(url: str) -> str:
    """The host people know an LMS by."""
    return urlsplit(url).hostname or url


def place_of(lms: Registration | Configuration) -> str:
    """An LMS by its product and host, as “Moodle · lms.example.edu”."""
    name = PLATFORM_NAMES.get(lms.family.lower(), lms.name)
    host = lms.host if isinstance(lms, Configuration) else host_of(lms.issuer)
    return host if name == host else f"{name} · {host}"


pages.add_app_template_filter(place_of, "platform_place")
pages.add_app_template_filter(links_mark, "links_mark")
