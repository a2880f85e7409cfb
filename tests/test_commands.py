"""What an operator types, and the shapes that others rely on."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Browser, Cast, Lms, empty_database
from flask import Flask

Run = Callable[..., Any]


@pytest.fixture
def run(app: Flask) -> Run:
    """run("user", "list", "--account", "default") is the command's JSON; `fails=1` expects that status."""

    def call(*words: str, fails: int = 0) -> Any:
        result = app.test_cli_runner().invoke(args=[*words, "--json"] if not fails else list(words))
        assert result.exit_code == fails, result.output + result.stderr
        if fails:
            assert result.stdout.strip() == "" or fails == 2
            assert result.stderr.strip()
            return result.stderr
        return json.loads(result.stdout)

    return call


def test_init_makes_the_first_account_and_prints_a_link_that_signs_in(
    app: Flask, run: Run, browse: Callable[[int | None], Browser]
) -> None:
    empty_database(app)
    answer = run("init", "--owner-email", "you@example.org")
    assert answer["account"] == "default"
    link = answer["sign_in"]
    assert link.startswith("https://tool.example/")
    browser = browse(None)
    assert browser.get(link).status_code == 200
    signed_in = browser.post(link)
    assert signed_in.status_code == 303
    assert "Courses" in browser.get("/courses").text
    assert browse(None).post(link).status_code == 410


def test_init_again_keeps_what_is_there(app: Flask, run: Run) -> None:
    empty_database(app)
    first, second = run("init"), run("init")
    assert first["account"] == second["account"]
    assert first["sign_in"] != second["sign_in"]
    assert [user["role"] for user in run("user", "list", "--account", "default")] == ["owner"]


def test_lists_have_the_shapes_others_rely_on(run: Run, cast: Cast, lms: Lms, browse) -> None:
    lms.launch(browse(None), "sam", "geology")
    users = run("user", "list", "--account", "default")
    assert set(users[0]) >= {"id", "name", "email", "role", "status", "courses"}
    sam = next(user for user in users if user["id"] == cast.sam)
    assert sam["courses"] == [cast.geology]
    assert (sam["role"], sam["status"]) == ("student", "registered")
    listed = run("course", "list", "--account", "default")
    launched = next(course for course in listed if course["contexts"])
    assert launched["active"] is False
    assert launched["plan"] is None
    assert set(launched["contexts"][0]) == {"issuer", "client_id", "deployment_id", "context_id"}
    roster = run("roster", "show", "--course", str(launched["id"]))
    assert roster == [
        {
            "user": roster[0]["user"],
            "subject": lms.person("sam").id,
            "name": lms.person("sam").name,
            "email": lms.person("sam").email,
            "role": "student",
            "source": "lms",
            "active": True,
            "roles": ["http://purl.imsglobal.org/vocab/lis/v2/membership#Learner"],
        }
    ]
    assert run("registration", "list")[0]["deployments"] == ["1"]


def test_a_plan_is_granted_to_a_course_and_the_door_says_so(run: Run, cast: Cast) -> None:
    door = ("door", "--user", str(cast.sam), "--course", str(cast.geology))
    assert run(*door)["gate"] == "course_inactive"
    plan = run("plan", "grant", "--account", "default", "--seats", "20", "--course", str(cast.geology))
    assert (plan["seats"], plan["until"], plan["course"]) == (20, None, cast.geology)
    answer = run(*door)
    assert answer["gate"] == "no_meeting"
    assert len(answer["because"]) >= 3
    run("plan", "free", str(plan["id"]))
    assert run(*door)["gate"] == "course_inactive"


def test_a_registration_is_added_once_and_never_overwritten(run: Run, cast: Cast) -> None:
    words = ["registration", "add", "--account", "default", "--name", "Moodle"]
    for field in ("issuer", "auth-url", "token-url", "jwks-url"):
        words += [f"--{field}", f"https://moodle.example/{field}"]
    words += ["--client-id", "abc", "--deployment", "1", "--deployment", "2"]
    added = run(*words)
    assert added["deployments"] == ["1", "2"]
    assert (added["issuer"], added["client_id"]) == ("https://moodle.example/issuer", "abc")
    assert "never overwritten" in run(*words, fails=1)
    assert run("registration", "remove", str(added["id"]), "--yes")["id"] == added["id"]
    assert run("registration", "list") == []


def test_a_roster_is_synced_here_and_now(run: Run, cast: Cast, lms: Lms, browse) -> None:
    lms.launch(browse(None), "ivan", "geology")
    course = next(c for c in run("course", "list", "--account", "default") if c["contexts"])["id"]
    words = ("roster", "sync", "--course", str(course))
    preview = run(*words, "--dry-run")
    assert preview["state"] == "applied"
    assert preview["added"] == 2
    assert len(run("roster", "show", "--course", str(course))) == 1
    applied = run(*words)
    assert (applied["state"], applied["added"], applied["error"]) == ("applied", 2, None)
    assert run(*words)["state"] == "unchanged"
    lms.faults.roster = "500"
    failed = run(*words)
    assert failed["state"] == "failed"
    assert failed["error"]
    assert run("roster", "sync", "--all")[0]["course"] == course


def test_what_is_not_there_is_said_on_stderr(run: Run, cast: Cast) -> None:
    assert "no account" in run("user", "list", "--account", "nobody", fails=1)
    assert "no course" in run("roster", "show", "--course", "999", fails=1)
    assert "no user" in run("door", "--user", "999", "--course", str(cast.geology), fails=1)
    assert "comes from no LMS" in run("roster", "sync", "--course", str(cast.statics), fails=1)
    assert "last owner" in run("user", "role", str(cast.ada), "student", fails=1)
    run("roster", "sync", fails=2)


def test_keys_rotate_and_old_ones_stay_published(run: Run, app: Flask) -> None:
    client = app.test_client()
    first = run("keys", "rotate")["kid"]
    second = run("keys", "rotate")["kid"]
    published = {key["kid"] for key in client.get("/lti/jwks.json").json["keys"]}
    assert {first, second} <= published


def test_every_command_explains_itself(app: Flask) -> None:
    for words in (["init"], ["demo"], ["worker"], ["door"], ["registration"], ["roster", "sync"]):
        shown = app.test_cli_runner().invoke(args=[*words, "--help"])
        assert shown.exit_code == 0
        assert "Usage:" in shown.output
