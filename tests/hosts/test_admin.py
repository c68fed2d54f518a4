"""The admin of the Django example in a real browser, as an operator uses it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.hosts.admin_rows import PASSWORD, REFUSED
from tests.hosts.admin_site import CHROMIUM, FOLDER, MISSING, PATIENCE, browsing, log_in, served
from tests.integration.contrib.running import python

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page

pytest.importorskip("django")
pytest.importorskip("playwright", reason="needs playwright: pip install playwright")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs gunicorn, which needs fork"),
]

LIST = "/admin/buttdial_sync/outboxmessage/"
Site = tuple[str, dict[str, str]]
Scheme = Literal["light", "dark"]
Opened = Callable[..., AbstractContextManager["Page"]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(Path(tmp_path_factory.mktemp("shop"))) as given:
        yield given


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as started:
        yield started


@pytest.fixture(scope="module")
def logins() -> dict[str, Any]:
    """The cookies of each user who has logged in."""
    return {}


@pytest.fixture
def opened(browser: Browser, site: Site, logins: dict[str, Any]) -> Opened:
    """Open a fresh window of a user; nothing may go wrong that a browser notices."""
    url, _ = site

    @contextmanager
    def window(user: str = "operator", scheme: Scheme = "light") -> Iterator[Page]:
        context = browser.new_context(
            viewport={"width": 1360, "height": 800},
            color_scheme=scheme,
            locale="en-US",
            storage_state=logins.get(user),
        )
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        problems: list[str] = []

        def watch(message: ConsoleMessage) -> None:
            # The browser asks for it by itself, once.
            if not message.location["url"].endswith("/favicon.ico"):
                problems.append(message.text)

        page.on("console", watch)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("response", lambda got: problems.append(got.url) if got.status >= 400 else None)
        page.on("request", lambda sent: problems.append(sent.url) if url not in sent.url else None)
        try:
            if user not in logins:
                log_in(page, url, user, PASSWORD)
                logins[user] = context.storage_state()
            yield page
        finally:
            context.close()
        assert problems == []

    return window


def style(found: Locator, name: str) -> Any:
    return found.evaluate(f"each => getComputedStyle(each).{name}")


def go(page: Page, site: Site, address: str) -> None:
    page.goto(site[0] + address)


def states(page: Page) -> list[str]:
    """The states in the list, top down."""
    shown = page.locator("#result_list .buttdial-state").all_inner_texts()
    return [each.replace("\xa0", " ") for each in shown]


def happened(page: Page) -> str:
    return page.locator(".buttdial-summary").inner_text()


def test_the_list_in_colour(opened: Opened, site: Site) -> None:
    """States differ in colour and in words, and the admin has its style."""
    with opened() as page:
        go(page, site, LIST)
        assert style(page.locator("#header"), "backgroundColor") == "rgb(65, 118, 144)"
        colours = {
            tone: style(page.locator(f"#result_list .buttdial-{tone}").first, "backgroundColor")
            for tone in ("good", "warning", "bad")
        }
        assert len(set(colours.values())) == 3
        assert "? unknown" in states(page)
        assert "✓ sent" in states(page)
        assert REFUSED in page.locator("#result_list").inner_text()


def test_the_list_in_the_dark(opened: Opened, site: Site) -> None:
    """A dark page has light writing, also on the badges."""
    with opened(scheme="dark") as page:
        go(page, site, LIST)
        assert style(page.locator("body"), "backgroundColor") == "rgb(18, 18, 18)"
        badge = page.locator("#result_list .buttdial-warning").first
        assert style(badge, "backgroundColor") == "rgb(88, 51, 5)"
        assert style(badge, "color") == "rgb(238, 238, 238)"


def test_filter_and_search(opened: Opened, site: Site) -> None:
    """Two clicks find what nobody knows, and a word finds one message."""
    with opened() as page:
        go(page, site, LIST)
        page.get_by_role("link", name="Unknown whether it was sent").click()
        page.wait_for_url("**/?why=unknown")
        assert states(page) == ["? unknown"]
        go(page, site, LIST)
        page.fill("#searchbar", "lentil")
        page.press("#searchbar", "Enter")
        page.wait_for_url("**/?q=lentil")
        assert states(page) == ["‖ at rest"]
        assert "wrong prices in the menu" in page.locator("#result_list").inner_text()


def test_from_given_up_to_sent(opened: Opened, site: Site) -> None:
    """An operator looks at a row, has it sent again, and sees that it was."""
    with opened() as page:
        go(page, site, f"{LIST}row-dead/change/")
        assert REFUSED in happened(page)
        assert page.locator("[name=_save], [name=_continue]").count() == 0
        page.get_by_role("button", name="Send again now").click()
        page.wait_for_selector(".messagelist .success")
        assert "due now" in happened(page).replace("\xa0", " ")
        python("manage.py", "buttdial_retry", "--drain", folder=FOLDER, env=site[1])
        page.reload()
        assert "Sent as " in happened(page)
        assert "operator: asked for: queued" in page.locator(".buttdial-history").inner_text()
        assert page.locator(".buttdial-buttons button").count() == 0


def test_giving_up(opened: Opened, site: Site) -> None:
    """A button on the row's page, and the row says who did it."""
    with opened() as page:
        go(page, site, f"{LIST}row-again/change/")
        page.get_by_role("button", name="Give up").click()
        page.wait_for_selector(".messagelist .success")
        assert "A person gave it up" in happened(page)
        go(page, site, f"{LIST}row-again/history/")
        assert "asked for: dismissed" in page.locator("#change-history").inner_text()


def test_the_dashboard(opened: Opened, site: Site) -> None:
    """It leads to the lists; an agent is paused with a reason, and resumed."""
    with opened() as page:
        go(page, site, LIST)
        page.get_by_role("link", name="Do messages flow?").click()
        page.get_by_role("link", name="1 dead message may have been sent").click()
        page.wait_for_url("**/?why=unknown")
        go(page, site, f"{LIST}row-limited/change/")
        page.get_by_role("link", name="Pause its agent…").click()
        page.fill("#reason", "the kitchen is on fire")
        page.get_by_role("button", name="Pause").click()
        page.wait_for_url(f"**{LIST}dashboard/")
        note = page.locator("form.buttdial-note", has_text="the kitchen is on fire")
        note.get_by_role("button", name="Resume").click()
        page.wait_for_selector(".messagelist .success")
        assert note.count() == 0


def test_who_may_only_look(opened: Opened, site: Site) -> None:
    """All is shown but for the token, and nothing can be pressed."""
    with opened(user="looker") as page:
        go(page, site, f"{LIST}row-due/change/")
        assert "Your order" in page.locator("#content").inner_text()
        assert "never-shown" not in page.content()
        assert page.locator(".buttdial-buttons button, .buttdial-buttons a").count() == 0
        go(page, site, f"{LIST}dashboard/")
        assert page.locator("#content button, #content a[href*=pause]").count() == 0


def test_what_came_in(opened: Opened, site: Site) -> None:
    """The page of an event tells why no handler took it, and hands it over again."""
    with opened() as page:
        go(page, site, "/admin/buttdial_sync/inboxevent/")
        page.get_by_role("link", name="InboundMessage").first.wait_for()
        assert sorted(states(page)) == ["✓ handled", "✗ given up"]
        go(page, site, "/admin/buttdial_sync/inboxevent/event-dead/change/")
        assert "after 5 attempts: KeyError: 'parcel'." in happened(page)
        page.get_by_role("button", name="Handle again now").click()
        page.wait_for_selector(".messagelist .success")
        assert "Waits for the handlers" in happened(page)
