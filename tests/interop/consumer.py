"""Run by a Python of its own: the platform side of Open edX, asked in lines of JSON.

Each line on standard input is {"ask": name, …}; the answer is one line, {"answer": …} or {"error": …}.
Nothing here is imported by the project or its tests (README.md beside this file says why).
"""

import json
import sys
from typing import Any

import django
from django.conf import settings

settings.configure(
    PLATFORM_NAME="Alder Open edX",
    SECRET_KEY="only for tests, only in this process",
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "waffle", "lti_consumer"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    USE_TZ=True,
)
django.setup()

# Its modules ask for settings while they are imported.
from lti_consumer.data import Lti1p3LaunchData  # noqa: E402
from lti_consumer.lti_1p3.constants import LTI_1P3_CONTEXT_TYPE  # noqa: E402
from lti_consumer.lti_1p3.consumer import LtiAdvantageConsumer  # noqa: E402
from lti_consumer.lti_1p3.extensions.rest_framework.constants import (  # noqa: E402
    LTI_DL_CONTENT_TYPE_SERIALIZER_MAP,
)
from lti_consumer.lti_1p3.extensions.rest_framework.renderers import MembershipResultRenderer  # noqa: E402
from lti_consumer.lti_1p3.extensions.rest_framework.serializers import (  # noqa: E402
    LtiNrpsContextMembershipPIISerializer,
)

ROSTER = "https://purl.imsglobal.org/spec/lti-nrps/scope/contextmembership.readonly"


class Platform:
    """One tool, connected; a method for each thing that may be asked."""

    def connect(self, **said: str) -> None:
        self.said = said

    def _consumer(self) -> LtiAdvantageConsumer:
        """As Open edX does, a new one for each request."""
        said = self.said
        consumer = LtiAdvantageConsumer(
            iss=said["issuer"],
            lti_oidc_url=f"{said['tool']}/lti/login",
            lti_launch_url=f"{said['tool']}/lti/launch",
            client_id=said["client_id"],
            deployment_id=said["deployment_id"],
            rsa_key=said["private_key"],
            rsa_key_id=said["kid"],
            redirect_uris=[f"{said['tool']}/lti/launch"],
            tool_keyset_url=said["key_set_url"],
        )
        consumer.enable_nrps(f"{said['issuer']}/members")
        consumer.enable_ags(f"{said['issuer']}/lineitems", allow_programmatic_grade_interaction=True)
        consumer.enable_deep_linking(f"{said['tool']}/lti/launch", f"{said['issuer']}/chosen")
        return consumer

    def login(self, *, person: dict[str, str], link: str, choose: bool) -> str:
        launch = Lti1p3LaunchData(
            user_id=person["id"],
            user_role=person["role"],
            config_id="1",
            resource_link_id=link,
            message_type="LtiDeepLinkingRequest" if choose else "LtiResourceLinkRequest",
        )
        return self._consumer().prepare_preflight_url(launch)

    def launch(
        self, *, query: dict[str, str], person: dict[str, str], course: list[str], link: str, **said: Any
    ) -> dict[str, str]:
        consumer = self._consumer()
        consumer.set_user_data(person["id"], person["role"], person["name"], person["email"], person["id"])
        consumer.set_resource_link_claim(link)
        consumer.set_launch_presentation_claim("iframe", f"{self.said['issuer']}/back")
        consumer.set_context_claim(course[0], [LTI_1P3_CONTEXT_TYPE.course_offering], course[1], course[2])
        if said["custom"]:
            consumer.set_custom_parameters(said["custom"])
        return consumer.generate_launch_request(query)

    def keys(self) -> dict[str, Any]:
        return self._consumer().get_public_keyset()

    def token(self, *, form: dict[str, str]) -> dict[str, Any]:
        return self._consumer().access_token(form)

    def members(self, *, token: str, url: str, course: list[str], people: list[dict[str, Any]]) -> str:
        if not self._consumer().check_token(token, [ROSTER]):
            raise PermissionError("the token does not allow this")
        rows = [
            {"external_id": one["id"], "roles": [one["role"]], "name": one["name"], "email": one["email"]}
            for one in people
        ]
        context = {"id": course[0], "title": course[1], "label": course[2]}
        said = LtiNrpsContextMembershipPIISerializer({"id": url, "context": context, "members": rows}).data
        return MembershipResultRenderer().render(said).decode()

    def chosen(self, *, answer: str) -> list[dict[str, Any]]:
        items = self._consumer().check_and_decode_deep_linking_token(answer)
        for item in items:
            read = LTI_DL_CONTENT_TYPE_SERIALIZER_MAP[item["type"]](data=item)
            read.is_valid(raise_exception=True)
        return items


def main() -> None:
    """Answer until nobody asks any more."""
    platform = Platform()
    for line in sys.stdin:
        said = json.loads(line)
        try:
            answer = {"answer": getattr(platform, said.pop("ask"))(**said)}
        except Exception as error:  # noqa: BLE001 the other side says what was wrong
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


main()
