"""The platform side of Open edX, in a process of its own (consumer.py); only the web around it is ours."""

import json
import subprocess
from pathlib import Path
from threading import Lock
from typing import Any

from flask import Flask, Response, jsonify, request
from interop.people import COURSE, LABEL, LINK, PEOPLE, Person, Refused

DRIVER = Path(__file__).parent / "consumer.py"
ROLES = {"Instructor": "instructor", "Learner": "student"}


class Consumer:
    """The process. It is asked by one thread at a time."""

    def __init__(self, python: str) -> None:
        self._lock = Lock()
        self._process = subprocess.Popen(
            [python, "-I", str(DRIVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, name: str, **said: Any) -> Any:
        """Raises Refused with what the process says is wrong."""
        with self._lock:
            self._process.stdin.write(json.dumps({"ask": name, **said}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        assert line, "the process ended"
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["answer"]

    def close(self) -> None:
        """End the process."""
        with self._process as process:
            process.stdin.close()
            process.wait(60)


class OpenEdx:
    """The platform: what it serves over HTTP (`app`), and what a browser gets from it."""

    name = "Alder Open edX"
    client_id, deployment_id = "0b0d9f2c-interop", "1"
    pages = False

    def __init__(self, consumer: Consumer, *, private_key: str, public_key: str) -> None:
        self._ask = consumer.ask
        self._key = private_key
        self.app = Flask(__name__)
        self.app.add_url_rule("/jwks", view_func=lambda: jsonify(self._ask("keys")), endpoint="jwks")
        self.app.add_url_rule("/token", view_func=self._token, methods=["POST"])
        self.app.add_url_rule("/members", view_func=self._members)
        self.url = ""

    def open(self, url: str, *, tool: str, key_set_url: str) -> None:
        """Now that the addresses are known, connect the tool."""
        self.url = url
        self._ask(
            "connect",
            issuer=url,
            tool=tool,
            key_set_url=key_set_url,
            client_id=self.client_id,
            deployment_id=self.deployment_id,
            private_key=self._key,
            kid="interop",
        )

    # --- what a browser does ---

    def login_url(self, person: Person, *, choose: bool = False) -> str:
        """Where a click on the link leads."""
        url: str = self._ask("login", person=_said(person), link=LINK, choose=choose)
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
        form: dict[str, str] = self._ask(
            "launch", query=query, person=_said(person), course=[*COURSE, LABEL], link=LINK, custom=custom
        )
        return form

    def chosen(self, answer: str) -> list[dict[str, Any]]:
        """The content items of a deep linking answer that passes its checks. Raises Refused."""
        items: list[dict[str, Any]] = self._ask("chosen", answer=answer)
        return items

    # --- what it serves ---

    def _token(self) -> Response | tuple[str, int]:
        try:
            return jsonify(self._ask("token", form=request.form.to_dict()))
        except Refused as error:
            return str(error), 401

    def _members(self) -> Response | tuple[str, int]:
        token = request.headers["Authorization"].partition(" ")[2]
        try:
            said = self._ask(
                "members",
                token=token,
                url=f"{self.url}/members",
                course=[*COURSE, LABEL],
                people=[_said(person) for person in PEOPLE],
            )
        except Refused as error:
            return str(error), 403
        return Response(said, mimetype="application/vnd.ims.lti-nrps.v2.membershipcontainer+json")


def _said(person: Person) -> dict[str, str]:
    return {"id": person.id, "name": person.name, "email": person.email, "role": ROLES[person.role]}
