"""Doorlist: the door list of an institution's virtual classrooms, as an LTI 1.3 tool."""

from typing import Any

from flask import Flask
from flask_migrate import Migrate
from werkzeug.middleware.proxy_fix import ProxyFix

from lti_tool import commands, database, delivery, jobs, logs, pages, settings

__version__ = "0.1.0"


def create_app(**overrides: Any) -> Flask:
    """The application: settings, database, mail, pages, commands, jobs.

    `overrides` beat the environment, which beats config/default.toml. Raises settings.SettingsWrong.
    """
    app = Flask(__name__, template_folder=str(settings.HOME / "templates"))
    settings.load(app.config, overrides)
    if app.config["PROXIES"]:
        hops = app.config["PROXIES"]
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops, x_prefix=hops
        )
    logs.init_app(app)
    database.init_app(app)
    Migrate(app, database.db, directory=str(settings.PACKAGE / "migrations"), render_as_batch=True)
    delivery.mailer.init_app(app)
    # Tests have a real mail server to talk to.
    app.extensions["mail"].suppress = False
    pages.init_app(app)
    # The demo makes an application of its own, beside a platform and a mailbox.
    app.extensions["create_app"] = create_app
    commands.init_app(app)
    jobs.init_app(app)
    return app
