"""Two browsers in a real Chromium see each other's messages, and totals that are right."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.examples.conftest import Scenarios
from tests.integration.live_installation import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
BURST = 20


async def opened(browser: Browser, scenarios: Scenarios, subject: str) -> Page:
    """The chat of somebody, in a browser of their own."""
    page = await (await browser.new_context()).new_page()
    page.set_default_timeout(60_000)
    token = scenarios.token(subject)
    await page.goto(f"{scenarios.url}/live-chat/#token={token}")
    await expect(page.locator("#state")).to_have_text("live")
    return page


async def write(page: Page, text: str) -> None:
    await page.fill("#body", text)
    await page.click("#write button")
    await expect(page.locator("#body")).to_have_value("")


async def test_two_browsers_see_each_others_messages_and_live_totals(scenarios: Scenarios) -> None:
    expect.set_options(timeout=60_000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        ada = await opened(browser, scenarios, "ada")
        grace = await opened(browser, scenarios, "grace")
        complaints: list[str] = []
        for page in (ada, grace):
            page.on("pageerror", lambda error: complaints.append(str(error)))
        await write(ada, "Hello Grace")
        await expect(grace.locator("#messages li").last).to_have_text("ada Hello Grace")
        await write(grace, HOSTILE)
        for page in (ada, grace):
            await expect(page.locator("#messages li").last).to_have_text(f"grace {HOSTILE}")
            await expect(page.locator("#count")).to_have_text("2")
            assert await page.locator("main img").count() == 0
        # Under another's name nobody writes.
        forged = {"author": "grace", "body": "I am not Grace"}
        token = scenarios.token("ada")
        assert scenarios.call("POST", "/rest/v1/messages", forged, token).status_code == 403
        scenarios.rows(
            "insert into messages (author, body) select 'sql', n::text"
            " from generate_series(1, %s) n",
            BURST,
        )
        wait_until(
            lambda: scenarios.rows("select 1 from chat_totals where author = 'sql'") or None,
            "the first of many to be counted",
        )
        scenarios.kill_router()
        await expect(ada.locator("#messages li").last).to_have_text(f"sql {BURST}")
        await write(ada, "and on")
        for page in (ada, grace):
            await expect(page.locator("#messages li")).to_have_count(BURST + 3)
            await expect(page.locator("#count")).to_have_text(str(BURST + 3))
            assert await page.locator("#totals dt").all_text_contents() == ["sql", "ada", "grace"]
            assert await page.locator("#totals dd").all_text_contents() == [str(BURST), "2", "1"]
        assert complaints == []
        await browser.close()
