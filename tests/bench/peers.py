"""The peer at launches: a tool of pylti1p3's own Flask adapters, as its documentation writes one.

Launch data in Flask's session, keys fetched from the platform at each launch (the default), and nobody is
stored. Kinder than its published example in one thing: the configuration is not read from a file each time.
"""

import os

from flask import Flask, render_template_string
from pylti1p3.contrib.flask import FlaskMessageLaunch, FlaskOIDCLogin, FlaskRequest
from pylti1p3.tool_config import ToolConfDict
from werkzeug.wrappers import Response

pylti1p3 = Flask("pylti1p3_example")
pylti1p3.secret_key = "the-bench-secret-which-is-long-enough-for-anybody"
_ISSUER, _CLIENT = os.environ["BENCH_ISSUER"], os.environ["BENCH_CLIENT"]
_CONFIGURATION = ToolConfDict(
    {
        _ISSUER: [
            {
                "default": True,
                "client_id": _CLIENT,
                "auth_login_url": f"{_ISSUER}/auth",
                "auth_token_url": f"{_ISSUER}/token",
                "key_set_url": f"{_ISSUER}/jwks.json",
                "key_set": None,
                "deployment_ids": ["1"],
            }
        ]
    }
)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title></head>
<body><h1>{{ title }}</h1><p>Hello, {{ name }}. {% if teaches %}You teach here.{% endif %}</p></body></html>
"""


@pylti1p3.post("/login")
def login() -> Response:
    """Login initiation."""
    request = FlaskRequest()
    return FlaskOIDCLogin(request, _CONFIGURATION).redirect(request.get_param("target_link_uri"))


@pylti1p3.post("/launch")
def launch() -> str:
    """The checked launch as a small page."""
    message = FlaskMessageLaunch(FlaskRequest(), _CONFIGURATION)
    said = message.get_launch_data()
    return render_template_string(
        _PAGE,
        title=said["https://purl.imsglobal.org/spec/lti/claim/context"]["title"],
        name=said.get("name", ""),
        teaches=message.check_teacher_access(),
    )
