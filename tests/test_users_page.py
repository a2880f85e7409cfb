"""The users list and a person's panel: who is found, in which order, and who may change whom."""

import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape

import pytest
from conftest import Browser, Cast, LiveServer, Lms, sign_in_token
from flask import Flask
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from sqlalchemy import event, select
from werkzeug.test import TestResponse

from lti_tool.classroom import accounts
from lti_tool.classroom.accounts import Identity, Status, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.batches import Batch
from lti_tool.database import db, now

Browse = Callable[[int | None], Browser]


def names(page: TestResponse) -> list[str]:
    """The names in the list, in order."""
    return [unescape(name) for name in re.findall(r'class="rowlink clip".*?<bdi>(.*?)</bdi>', page.text)]


def link(page: TestResponse, label: str) -> str:
    """Where a link of the pager leads."""
    found = re.search(rf'href="([^"]+)"[^>]*aria-label="{label}"', page.text)
    assert found, f"no link {label}"
    return unescape(found[1])


def add_people(app: Flask, cast: Cast, number: int) -> None:
    with app.app_context():
        for n in range(number):
            accounts.add_user(cast.account, name=f"Person {n:03}", email=f"p{number - n:03}@example.net")
        db.session.commit()


def actions(app: Flask, user_id: int) -> list[str]:
    with app.app_context():
        return list(
            db.session.scalars(
                select(AuditEvent.action).filter_by(target=f"user:{user_id}").order_by(AuditEvent.id)
            )
        )


# --- the list ----------------------------------------------------------------------------


def test_an_admin_sees_everybody_of_the_own_account_and_nobody_else(cast: Cast, browse: Browse) -> None:
    page = browse(cast.ada).get("/users")
    assert names(page) == ["Ada Okonkwo", "Ivan Petrović", "Sam Whitfield", "Tess van der Meulen"]
    assert "1 – 4 of 4" in page.text
    assert "Eve" not in page.text


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("sam", ["Sam Whitfield"]),
        ("PETROVIC", ["Ivan Petrović"]),
        ("meulen van", ["Tess van der Meulen"]),
        ("ivan@exam", ["Ivan Petrović"]),
        ("hitfie", ["Sam Whitfield"]),
        ("%", []),
        ("a_a", []),
        ("\x00", ["Ada Okonkwo", "Ivan Petrović", "Sam Whitfield", "Tess van der Meulen"]),
    ],
)
def test_search_finds_parts_of_names_and_addresses(
    cast: Cast, browse: Browse, search: str, found: list[str]
) -> None:
    page = browse(cast.ada).get("/users", query_string={"q": search})
    assert page.status_code == 200
    assert names(page) == found


def test_finding_nobody_repeats_the_search_and_offers_to_clear_it(cast: Cast, browse: Browse) -> None:
    page = browse(cast.ada).get("/users?q=wolfeschlegelstein")
    assert "Nobody called “wolfeschlegelstein”" in page.text
    assert "Clear search" in page.text


def test_filters_narrow_the_list_by_role_status_and_course(app: Flask, cast: Cast, browse: Browse) -> None:
    with app.app_context():
        accounts.add_user(cast.account, name="Nguyễn Khai", email="k@example.net", status=Status.PENDING)
        db.session.commit()
    browser = browse(cast.ada)
    assert names(browser.get("/users?role=instructor")) == ["Ivan Petrović"]
    assert names(browser.get("/users?role=admin")) == ["Ada Okonkwo"], "owners are admins too"
    assert names(browser.get("/users?status=pending")) == ["Nguyễn Khai"]
    assert names(browser.get(f"/users?course={cast.statics}")) == ["Ivan Petrović"]
    assert names(browser.get(f"/users?course={cast.geology}&role=student&q=tess")) == ["Tess van der Meulen"]
    for nonsense in ("role=king", "status=dead", "course=abc", "course=99999999999999999999", "sort=shoe"):
        assert browser.get(f"/users?{nonsense}").status_code == 200


def test_the_list_says_who_is_blocked_where_people_are_known_from_and_who_was_seen(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, move_clock: Callable[[timedelta], None]
) -> None:
    lms.launch(browse(None), "sam", "geology")
    with app.app_context():
        accounts.add_user(cast.account, name="Nguyễn Khai", email="k@example.net", status=Status.PENDING)
        tess = db.session.get_one(User, cast.tess)
        tess.blocked_at = tess.last_seen_at = now()
        db.session.get_one(User, cast.sam).last_seen_at = now() + timedelta(minutes=1)
        arrived = db.session.scalars(select(User.name).join(Identity, Identity.user_id == User.id)).one()
        db.session.commit()
    browser = browse(cast.ada)
    everybody = browser.get("/users")
    assert everybody.text.count('data-status="stop">Blocked') == 1
    assert names(browser.get("/users?status=blocked")) == ["Tess van der Meulen"]
    assert "Tess van der Meulen" not in names(browser.get("/users?status=registered"))
    assert names(browser.get("/users?status=pending")) == ["Nguyễn Khai"]
    assert names(browser.get(f"/users?source={lms.registration_id}")) == [arrived]
    assert names(browser.get("/users?source=manual&course=1&role=student")) == [
        "Sam Whitfield",
        "Tess van der Meulen",
    ]
    assert names(browser.get("/users?source=invitation")) == []
    assert f'<option value="{lms.registration_id}">Linden campus' in everybody.text
    seen = browser.get("/users?sort=-seen")
    assert names(seen)[:2] != names(browser.get("/users?sort=seen"))[-2:]
    assert "never seen" in seen.text
    for nonsense in (
        "source=king",
        "source=-1",
        "source=99999999999",
        "status=dead",
        "sort=-",
        "source=4711",
    ):
        assert browser.get(f"/users?{nonsense}").status_code == 200
    assert "Linden campus" not in browse(cast.eve).get(f"/users?source={lms.registration_id}").text
    assert names(browse(cast.eve).get(f"/users?source={lms.registration_id}")) == []


def test_who_is_ticked_or_everybody_who_matches_is_taken_on(app: Flask, cast: Cast, browse: Browse) -> None:
    add_people(app, cast, 30)
    browser = browse(cast.ada)
    page = browser.get("/users?q=person&role=student&sort=-name")
    bar = page.text[
        page.text.index('<form class="bulkbar"') : page.text.index("</form>", page.text.index("bulkbar"))
    ]
    assert "Select all 30 that match" in bar
    for name, value in (("q", "person"), ("role", "student"), ("sort", "-name")):
        assert f'<input type="hidden" name="{name}" value="{value}">' in bar
    boxes = re.findall(r'name="user" value="(\d+)" id="pick-\d+" form="bulk"', page.text)
    assert len(boxes) == 25
    for deed in ("add_to_course", "remove_from_course", "change_role", "invite_again", "delete"):
        assert f'formaction="/users/batches/new/{deed}"' in bar
    assert 'formaction="/users/export"' in bar

    def drafted(form: dict[str, object]) -> int:
        answer = browser.post("/users/batches/new/change_role", form)
        assert answer.status_code == 303, answer.text
        with app.app_context():
            return db.session.scalars(select(Batch.total).order_by(Batch.id.desc())).first() or 0

    assert drafted({"user": boxes[:3]}) == 3
    assert drafted({"user": [str(cast.eve), boxes[0]]}) == 1, "another account's person is nobody"
    assert drafted({"all": "1", "q": "person", "role": "student", "user": boxes[:2]}) == 30
    assert drafted({"all": "1", "q": "PERSON 007"}) == 2, "one by name, one by address"
    assert "that match" not in browser.get("/users?q=sam").text


def test_pages_follow_each_other_without_gaps_in_both_directions(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    add_people(app, cast, 56)
    browser = browse(cast.ada)
    for order in ("name", "-name", "email", "-email", "role", "-role", "status", "-status"):
        page = browser.get(f"/users?sort={order}")
        assert "1 – 25 of 60" in page.text
        seen = names(page)
        page = browser.get(link(page, "Next page"))
        assert "26 – 50 of 60" in page.text
        middle = names(page)
        page = browser.get(link(page, "Next page"))
        assert "51 – 60 of 60" in page.text
        everybody = seen + middle + names(page)
        assert len(set(everybody)) == 60, order
        page = browser.get(link(page, "Previous page"))
        assert names(page) == middle, order
        assert "26 – 50 of 60" in page.text
        page = browser.get(link(page, "Previous page"))
        assert names(page) == seen, order
        assert "1 – 25 of 60" in page.text
        assert 'aria-label="Previous page" disabled' in page.text


def test_sorting_by_role_puts_the_powerful_last_and_turned_round_first(cast: Cast, browse: Browse) -> None:
    browser = browse(cast.ada)
    assert names(browser.get("/users?sort=role"))[-2:] == ["Ivan Petrović", "Ada Okonkwo"]
    turned = browser.get("/users?sort=-role")
    assert names(turned)[:2] == ["Ada Okonkwo", "Ivan Petrović"]
    assert 'aria-sort="descending"' in turned.text


@pytest.mark.parametrize("cursor", ["x", "%00", "W10", "WyJhIiwiYiIsMV0", "ś" * 9, "WzEsMl0", "W251bGxd"])
def test_a_mangled_cursor_shows_the_first_page(cast: Cast, browse: Browse, cursor: str) -> None:
    page = browse(cast.ada).get(f"/users?after={cursor}")
    assert page.status_code == 200
    assert len(names(page)) == 4


def test_htmx_gets_the_list_alone_and_caches_keep_the_two_apart(cast: Cast, browse: Browse) -> None:
    browser = browse(cast.ada)
    part = browser.get("/users?q=sam", headers={"HX-Request": "true", "HX-Target": "list"})
    assert "<html" not in part.text
    assert names(part) == ["Sam Whitfield"]
    assert 'id="pager" hx-swap-oob="true"' in part.text.replace("  ", " ")
    assert '<div hx-swap-oob="innerHTML:#found">1 user found</div>' in part.text
    assert "HX-Request" in part.headers["Vary"]
    assert "HX-Request" in browser.get("/users").headers["Vary"]


def test_the_list_and_the_panel_take_few_statements_however_many_people(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    add_people(app, cast, 60)
    with app.app_context():
        engine = db.engine
    counted: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: counted.append(args[2]))
    browser = browse(cast.ada)
    for address in ("/users", f"/users/{cast.ivan}", "/users/invite"):
        counted.clear()
        assert browser.get(address).status_code == 200
        asked = [statement for statement in counted if statement != "BEGIN"]
        assert len(asked) <= 10, f"{address}: {len(asked)}"


@pytest.mark.parametrize("who", ["ivan", "sam", None])
def test_who_does_not_manage_users_sees_none_of_it(cast: Cast, browse: Browse, who: str | None) -> None:
    browser = browse(getattr(cast, who) if who else None)
    expected = 403 if who else 303
    for address in ("/users", f"/users/{cast.tess}", f"/users/{cast.tess}/delete", "/users/invite"):
        assert browser.get(address).status_code == expected
    assert browser.get("/users/known?email=tess@example.org").status_code == expected
    for address in (
        f"/users/{cast.tess}",
        f"/users/{cast.tess}/delete",
        f"/users/{cast.tess}/courses/{cast.geology}/remove",
        f"/users/{cast.tess}/invitation/resend",
        f"/users/{cast.tess}/invitation/withdraw",
        "/users/invite",
    ):
        assert browser.post(address, {"role": "admin"}).status_code == (403 if who else 401)


def test_eve_finds_nothing_of_another_account(cast: Cast, browse: Browse) -> None:
    eve = browse(cast.eve)
    assert names(eve.get("/users")) == ["Eve Mallory"]
    assert names(eve.get(f"/users?course={cast.geology}")) == []
    assert "Geology" not in eve.get(f"/users?course={cast.geology}").text
    assert "Geology" not in eve.get("/users/invite/courses?q=geo").text
    assert "Sam" not in eve.get("/users/known?email=sam@example.org").text
    for address in (f"/users/{cast.sam}", f"/users/{cast.sam}/delete", "/users/4711", f"/users/{9**30}"):
        assert eve.get(address).status_code == 404
    for address in (
        f"/users/{cast.sam}",
        f"/users/{cast.sam}/delete",
        f"/users/{cast.sam}/courses/{cast.geology}/remove",
        f"/users/{cast.eve}/courses/{cast.geology}/remove",
        f"/users/{cast.sam}/invitation/resend",
        f"/users/{cast.sam}/invitation/withdraw",
    ):
        assert eve.post(address, {"role": "student", "confirm": "Sam Whitfield"}).status_code == 404


# --- in a browser ------------------------------------------------------------------------


def sign_in(driver: webdriver.Chrome, server: LiveServer, user_id: int) -> None:
    driver.get(f"{server.url}/sign-in")
    driver.execute_cdp_cmd(
        "Network.setCookie",
        {
            "name": "__Host-doorlist",
            "value": sign_in_token(server.app, user_id),
            "url": server.url,
            "path": "/",
            "secure": True,
            "httpOnly": True,
        },
    )


def emulate(driver: webdriver.Chrome, *, width: int, dark: bool = False) -> None:
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]},
    )


def test_searching_changing_and_inviting_work_in_a_browser(
    cast: Cast,
    server: LiveServer,
    chromium: Callable[..., webdriver.Chrome],
    shot: Callable[[webdriver.Chrome, str], None],
    mailbox: object,
) -> None:
    add_people(server.app, cast, 40)
    driver = chromium()
    wait = WebDriverWait(driver, 20, ignored_exceptions=[StaleElementReferenceException])

    def see(css: str, text: str = "") -> None:
        wait.until(lambda d: any(text in e.text for e in d.find_elements(By.CSS_SELECTOR, css)))

    sign_in(driver, server, cast.ada)
    for width, dark in ((1280, False), (1280, True), (360, False), (360, True)):
        emulate(driver, width=width, dark=dark)
        name = f"{width}{'-dark' if dark else ''}"
        for address, picture in (
            ("/users", "users"),
            (f"/users/{cast.sam}", "user-panel"),
            (f"/users/{cast.sam}/delete", "user-delete"),
            ("/users/invite", "invite-page"),
        ):
            driver.get(server.url + address)
            shot(driver, f"{picture}-{name}")
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    emulate(driver, width=1280)
    driver.get(f"{server.url}/users")
    driver.find_element(By.ID, "q").send_keys("whit")
    see("#pager span", "1 – 1 of 1")
    wait.until(lambda d: d.current_url == f"{server.url}/users?q=whit")
    driver.find_element(By.CSS_SELECTOR, ".rowlink").click()
    see("#side h2", "Sam Whitfield")
    wait.until(lambda d: d.current_url == f"{server.url}/users/{cast.sam}?q=whit")
    assert driver.switch_to.active_element.text == "Sam Whitfield"
    field = driver.find_element(By.ID, "person-name")
    field.clear()
    field.send_keys("Samuel Whitfield")
    driver.find_element(By.CSS_SELECTOR, "#side .btn-primary").click()
    see("#side .note", "Saved.")
    see(".rowlink", "Samuel Whitfield")
    driver.find_element(By.CSS_SELECTOR, "#side .side-foot [data-panel-close]").click()
    wait.until(lambda d: not d.find_elements(By.CSS_SELECTOR, ".side"))
    assert driver.switch_to.active_element.text == "Samuel Whitfield"
    assert driver.current_url.endswith("/users?q=whit")

    driver.find_element(By.CSS_SELECTOR, ".pagehead .btn-primary").click()
    see("dialog[open] h2", "Invite user")
    assert driver.switch_to.active_element.get_attribute("id") == "name"
    driver.find_element(By.ID, "name").send_keys("Nguyễn Thị Minh Khai")
    driver.find_element(By.ID, "email").send_keys("khai@example.com\t")
    see("#known", "gets an invitation")
    picker = driver.find_element(By.ID, "courses-ts-control")
    picker.send_keys("geo")
    see(".ts-dropdown .option", "Introduction to Structural Geology")
    shot(driver, "invite-1280")
    emulate(driver, width=1280, dark=True)
    shot(driver, "invite-1280-dark")
    emulate(driver, width=360)
    shot(driver, "invite-360")
    emulate(driver, width=1280)
    driver.find_element(By.CSS_SELECTOR, ".ts-dropdown .option").click()
    see(".ts-control .item", "Introduction to Structural Geology")
    driver.find_element(By.ID, "more").click()
    driver.find_element(By.CSS_SELECTOR, "dialog .btn-primary").click()
    see("dialog[open] .note", "Invited Nguyễn Thị Minh Khai.")
    see("dialog .ts-control .item", "Introduction to Structural Geology")
    assert driver.find_element(By.ID, "name").get_attribute("value") == ""
    assert driver.switch_to.active_element.get_attribute("id") == "name"
    driver.find_element(By.ID, "name").send_keys("Tess again")
    driver.find_element(By.ID, "email").send_keys("tess@example.org\t")
    see("#known", "In 1 course already")
    driver.find_element(By.CSS_SELECTOR, "dialog .btn-primary").click()
    see(".field-error", "is on the list of Introduction to Structural Geology already")
    shot(driver, "invite-known-1280")
    role = driver.find_element(By.ID, "role")
    role.send_keys("Admin")
    wait.until(lambda d: not d.find_element(By.CSS_SELECTOR, ".courses-field").is_displayed())
    driver.find_element(By.CSS_SELECTOR, "dialog .dialog-foot [data-close]").click()
    wait.until(lambda d: not d.find_elements(By.CSS_SELECTOR, "dialog"))
    driver.get(f"{server.url}/users?status=pending")
    see(".rowlink", "Nguyễn Thị Minh Khai")
    noise = [
        line["message"]
        for line in driver.get_log("browser")
        if line["level"] == "SEVERE" and " 422 " not in line["message"]
    ]
    assert noise == []


def test_a_sign_in_that_is_over_ends_what_the_panel_can_do(
    cast: Cast, browse: Browse, move_clock: Callable[[timedelta], None]
) -> None:
    browser = browse(cast.ada)
    assert browser.get("/users").status_code == 200
    move_clock(timedelta(hours=2))
    assert browser.get("/users").status_code == 303
    assert browser.post(f"/users/{cast.sam}", {"role": "admin"}).status_code == 401
