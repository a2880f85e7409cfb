"""What an operator types: `flask --app wsgi …`. Each command commits once, after the last rule.

With --json a command prints one JSON value and nothing else on stdout. Errors go to stderr, with exit
status 1 (refused, not found) or 2 (usage).
"""

from flask import Flask

from lti_tool.commands import checking
from lti_tool.commands.courses import course_group, plan_group, roster_group
from lti_tool.commands.installation import demo, init, keys_group, mail_group, worker
from lti_tool.commands.people import account_group, door, user_group
from lti_tool.commands.platforms import registration_group

registration_group.add_command(checking.registration_check)


def init_app(app: Flask) -> None:
    """Register every command."""
    for command in (
        init,
        demo,
        worker,
        door,
        registration_group,
        account_group,
        user_group,
        course_group,
        plan_group,
        roster_group,
        mail_group,
        keys_group,
    ):
        app.cli.add_command(command)
