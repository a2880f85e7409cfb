"""Connecting an LMS by hand: the form, what each LMS calls things, and our own values to paste."""

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from flask import current_app, url_for
from flask_babel import gettext as _
from flask_babel import lazy_gettext
from flask_wtf import FlaskForm
from wtforms import Field, StringField, TextAreaField
from wtforms.validators import DataRequired, Length, Optional, ValidationError

from lti_tool.lti import outgoing
from lti_tool.lti.outgoing import PlatformUnavailable

MOST_DEPLOYMENTS = 50


@dataclass(frozen=True)
class Kind:
    """One kind of LMS: its menu words, and values that are the same at every one of its kind."""

    name: str
    title: str
    about: Any
    # Field name → what that LMS calls it.
    labels: dict[str, str] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    preset: dict[str, str] = field(default_factory=dict)


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "moodle",
            "Moodle",
            lazy_gettext("A tool set up by hand, then six values to copy."),
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
            lazy_gettext("A developer key, then a client ID and a deployment ID."),
            labels={"client_id": "Client ID", "deployments": "Deployment Id"},
            preset={
                "issuer": "https://canvas.instructure.com",
                "auth_url": "https://sso.canvaslms.com/api/lti/authorize_redirect",
                "token_url": "https://sso.canvaslms.com/login/oauth2/token",
                "jwks_url": "https://sso.canvaslms.com/api/lti/security/jwks",
            },
        ),
        Kind("other", "Other", lazy_gettext("Brightspace, Blackboard, Open edX, Sakai and others.")),
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

    def deployment_ids(self) -> list[str]:
        """The lines that say something, each once."""
        lines = (line.strip() for line in (self.deployments.data or "").splitlines())
        return list(dict.fromkeys(line for line in lines if line))

    def values(self) -> dict[str, Any]:
        """What is stored of the registration."""
        names = ("name", "issuer", "client_id", "auth_url", "token_url", "jwks_url")
        return {name: self[name].data for name in names} | {
            "token_audience": self.token_audience.data or None
        }


def host_of(url: str) -> str:
    """The host people know an LMS by."""
    return urlsplit(url).hostname or url
