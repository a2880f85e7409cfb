"""A platform whose LTI is the package lti1p3platform; only the web around it is ours."""

import json
from typing import Any

from flask import Flask, Response, jsonify, request
from interop.people import COURSE, LABEL, LINK, MEMBERSHIP, PEOPLE, Person, Refused
from jwt import PyJWTError
from lti1p3platform.exceptions import (
    LineItemNotFoundException,
    LtiDeepLinkingResponseException,
    LtiException,
)
from lti1p3platform.ltiplatform import LTI1P3PlatformConfAbstract
from lti1p3platform.membership import Context
from lti1p3platform.message_launch import LTIAdvantageMessageLaunchAbstract
from lti1p3platform.oidc_login import OIDCLoginAbstract
from lti1p3platform.registration import Registration
from lti1p3platform.request import Request
from lti1p3platform.response import generate_next_link
from lti1p3platform.score import UpdateScoreStatus
from lti1p3platform.service_connector import AssignmentsGradesService, NamesRoleProvisioningService, TPage


class Asked(Request):
    """A request in the package's words; numbers in the query are numbers there."""

    def build_metadata(self, said: dict[str, Any]) -> Any:
        query = {name: int(v) if v.isdigit() else v for name, v in said.get("query", {}).items()}
        return {"method": "GET", "form_data": {}, "get_data": query, "headers": {}, **said}


class Configuration(LTI1P3PlatformConfAbstract):
    """One tool, connected."""

    def init_platform_config(self, **said: Any) -> None:
        self._registration = said["registration"]

    def get_registration_by_params(self, **said: Any) -> Registration:
        return self._registration


class Login(OIDCLoginAbstract):
    """Login initiation; answers with the address instead of leading on to it."""

    def set_lti_message_hint(self, **said: Any) -> None:
        self._lti_message_hint = said["hint"]

    def get_redirect(self, url: str) -> str:
        return url


class Message(LTIAdvantageMessageLaunchAbstract):
    """A launch; answers with the form's fields instead of the form."""

    def render_launch_form(self, launch_data: dict[str, Any], **said: Any) -> dict[str, Any]:
        return launch_data


class Roster(NamesRoleProvisioningService):
    """Names and roles of the one course."""

    def get_context_by_id(self) -> Context:
        return Context(id=COURSE[0], label=LABEL, title=COURSE[1])

    def is_resource_link_valid(self, context_id: str, resource_link_id: str) -> bool:
        return resource_link_id == LINK

    def get_member_data_page(self, page: int = 1, limit: int | None = None, **said: Any) -> TPage:
        size = limit or len(PEOPLE)
        rows = PEOPLE[(page - 1) * size : page * size]
        return {"content": [person.member for person in rows], "has_next": page * size < len(PEOPLE)}


class Grades(AssignmentsGradesService):
    """Line items and scores in memory."""

    def __init__(self, asked: Asked, configuration: Configuration, url: str, columns: dict[str, Any]) -> None:
        super().__init__(asked, configuration, url)
        self.columns = columns

    def find_lineitems(self, **said: Any) -> TPage:
        return {"content": [column["item"] for column in self.columns.values()], "has_next": False}

    def find_lineitem(self, line_item_id: str) -> Any:
        return self._column(line_item_id)["item"]

    def create_lineitem(self, creation_data: Any) -> Any:
        number = str(len(self.columns) + 1)
        item = {**creation_data, "id": f"{self.ags.lineitems_url}/{number}"}
        self.columns[number] = {"item": item, "scores": {}}
        return item

    def update_lineitem(self, update_data: Any) -> Any:
        column = self._column(update_data.pop("id"))
        column["item"] |= {name: value for name, value in update_data.items() if name != "id"}
        return column["item"]

    def delete_lineitem(self, line_item_id: str) -> None:
        self._column(line_item_id)
        del self.columns[line_item_id]

    def update_score(self, line_item_id: str, score: Any) -> UpdateScoreStatus:
        self._column(line_item_id)["scores"][score["userId"]] = score
        return UpdateScoreStatus.SUCCESS

    def get_results(self, line_item_id: str, **said: Any) -> TPage:
        return {"content": [], "has_next": False}

    def _column(self, number: str) -> Any:
        if number not in self.columns:
            raise LineItemNotFoundException(number)
        return self.columns[number]


class Lti1p3Platform:
    """The platform: what it serves over HTTP (`app`), and what a browser gets from it."""

    name = "Alder"
    client_id, deployment_id = "interop-client", "interop-1"
    pages = True

    def __init__(self, *, private_key: str, public_key: str) -> None:
        self.app = Flask(__name__)
        self.app.add_url_rule("/jwks", view_func=self._jwks)
        self.app.add_url_rule("/token", view_func=self._token, methods=["POST"])
        self.app.add_url_rule("/members", view_func=self._members)
        self.app.add_url_rule("/columns", view_func=self._columns, methods=["GET", "POST"])
        self.app.add_url_rule("/columns/<number>", view_func=self._column, methods=["PUT", "DELETE"])
        self.app.add_url_rule("/columns/<number>/scores", view_func=self._score, methods=["POST"])
        # By number: the line item, and its scores by person.
        self.columns: dict[str, Any] = {}
        self._registration = (
            Registration()
            .set_client_id(self.client_id)
            .set_deployment_id(self.deployment_id)
            .set_platform_private_key(private_key)
            .set_platform_public_key(public_key)
        )
        self.configuration = Configuration(registration=self._registration)
        self.url = ""

    def open(self, url: str, *, tool: str, key_set_url: str) -> None:
        """Now that the addresses are known, connect the tool."""
        self.url = url
        (
            self._registration.set_iss(url)
            .set_launch_url(f"{tool}/lti/launch")
            .set_deeplink_launch_url(f"{tool}/lti/launch")
            .set_oidc_login_url(f"{tool}/lti/login")
            .set_tool_key_set_url(key_set_url)
        )

    # --- what a browser does ---

    def login_url(self, person: Person, *, choose: bool = False) -> str:
        """Where a click on the link leads; what it opens is said at the launch alone."""
        login = Login(None, self.configuration)
        login.set_lti_message_hint(hint=LINK)
        url: str = login.initiate_login(person.id)
        return url

    def launch_form(
        self,
        query: dict[str, str],
        person: Person,
        *,
        custom: dict[str, str] | None = None,
        choose: bool = False,
    ) -> dict[str, str]:
        """What the browser posts to the tool after the authorization request `query`."""
        message = Message(Asked({"query": query}), self.configuration)
        message.set_user_data(person.id, [MEMBERSHIP + person.role], person.name, person.email)
        message.set_launch_context_claim(
            COURSE[0], ["http://purl.imsglobal.org/vocab/lis/v2/course#CourseOffering"], COURSE[1], LABEL
        )
        message.set_launch_presentation_claim("iframe", f"{self.url}/back")
        message.set_nrps(f"{self.url}/members")
        message.set_ags(f"{self.url}/columns")
        if choose:
            message.set_dl(f"{self.url}/chosen", accept_types={"ltiResourceLink"}, extra_data={"form": "7"})
        else:
            message.set_resource_link_claim(LINK, title="The room")
        if custom:
            message.set_custom_parameters_claim(custom)
        said: dict[str, str] = message.lti_launch()
        assert said["launch_url"].endswith("/lti/launch")
        return {"id_token": said["id_token"], "state": said["state"]}

    def chosen(self, answer: str) -> list[dict[str, Any]]:
        """The content items of a deep linking answer that passes the package's checks. Raises Refused."""
        try:
            items: list[dict[str, Any]] = self.configuration.validate_deeplinking_resp({"JWT": answer})
        except (LtiException, LtiDeepLinkingResponseException, PyJWTError) as error:
            raise Refused(str(error)) from None
        return items

    # --- what it serves ---

    def _jwks(self) -> Response:
        return jsonify(self.configuration.get_jwks())

    def _token(self) -> Response | tuple[str, int]:
        try:
            return jsonify(self.configuration.get_access_token(request.form.to_dict()))
        except (LtiException, PyJWTError) as error:
            return str(error), 401

    def _members(self) -> Response:
        roster = Roster(self._asked(), self.configuration, f"{self.url}/members")
        said = roster.handle_resp(roster.handle_get_members)
        following = (said.result or {}).pop("next", None)
        headers = {"Link": generate_next_link(following)} if following else {}
        return Response(json.dumps(said.result), said.code, headers, mimetype=said.media_type)

    def _asked(self) -> Asked:
        body = request.get_json(force=True) if request.content_length else None
        query, headers = request.args.to_dict(), request.headers
        return Asked({"method": request.method, "query": query, "headers": headers, "json": body})

    def _grades(self) -> Grades:
        return Grades(self._asked(), self.configuration, f"{self.url}/columns", self.columns)

    def _columns(self) -> Response:
        grades = self._grades()
        ask = grades.handle_create_lineitem if request.method == "POST" else grades.handle_get_lineitems
        said = grades.handle_resp(ask)
        result = said.result["content"] if request.method == "GET" and said.result else said.result
        return Response(json.dumps(result), said.code, mimetype=said.media_type)

    def _column(self, number: str) -> Response:
        grades = self._grades()
        ask = grades.handle_delete_lineitem if request.method == "DELETE" else grades.handle_update_lineitem
        said = grades.handle_resp(ask, line_item_id=number)
        return Response(json.dumps(said.result), said.code, mimetype=said.media_type)

    def _score(self, number: str) -> Response:
        grades = self._grades()
        said = grades.handle_resp(grades.handle_update_score, line_item_id=number)
        return Response("", said.code)
