"""A small, strict LTI 1.3 platform of our own, for the demo and the tests.

It plays Moodle, Canvas or Brightspace, keeps everything in memory, and imports nothing of the tool it tries.
"""

from .mailbox import Mail, Mailbox
from .people import Course, Membership, Person
from .platform import Platform
from .registrations import ReceivedRequest, ToolRegistration
from .serving import Server, serve
from .web import create_app

__all__ = [
    "Course",
    "Mail",
    "Mailbox",
    "Membership",
    "Person",
    "Platform",
    "ReceivedRequest",
    "Server",
    "ToolRegistration",
    "create_app",
    "serve",
]
