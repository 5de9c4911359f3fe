"""The example shop's page in a real Chromium, over a whole installation."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from playwright.async_api import Page, expect
from pymongo import MongoClient

from tests.integration.live_installation import LiveInstallation

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


def statement(live: LiveInstallation, text: str, *values: object) -> int:
    """Run a statement in PostgreSQL; returns the number that it returns."""
    with psycopg.connect(live.status().sources["shop"].dsn) as connection:
        row = connection.execute(text.encode(), values).fetchone()
    assert row is not None
    return int(row[0])


def new_order(live: LiveInstallation) -> int:
    return statement(
        live, "insert into orders (user_id, product_id, total) values (1, 2, 29.90) returning id"
    )


async def open_shop(page: Page, live: LiveInstallation) -> None:
    await page.goto(f"{live.status().http}/#token={live.token()}")
    await expect(page.locator("#state")).to_have_text("live")


async def test_a_row_that_changes_in_postgresql_changes_on_the_page_and_its_receipt_arrives(
    page: Page, live: LiveInstallation, tmp_path: Path
) -> None:
    await open_shop(page, live)
    # What was there before the page was opened.
    await expect(page.locator("[data-product='1']")).to_contain_text("Tea")
    order = new_order(live)
    row = page.locator(f"[data-order='{order}']")
    await expect(row).to_contain_text("Ada")
    await expect(row).to_contain_text("Pot")
    await expect(row).to_contain_text("pending")
    paid = "update orders set status = 'paid' where id = %s returning id"
    statement(live, paid, order)
    await expect(row.locator(".badge")).to_have_text("paid")
    receipt = page.locator("#receipts li", has_text=f"Order #{order}")
    await expect(receipt).to_contain_text("Ada, 1 \N{MULTIPLICATION SIGN} Pot")
    await page.screenshot(path=tmp_path / "shop.png", full_page=True)
    statement(live, "delete from orders where id = %s returning id", order)
    await expect(row).to_have_count(0)


async def test_stock_and_reviews_follow_both_databases(page: Page, live: LiveInstallation) -> None:
    await open_shop(page, live)
    made = "insert into products (name, price, stock) values ('Kettle', 35, 40) returning id"
    product = statement(live, made)
    item = page.locator(f"[data-product='{product}']")
    await expect(item).to_contain_text("40 in stock")
    statement(live, "update products set stock = 3 where id = %s returning id", product)
    await expect(item.locator(".low")).to_have_text("3 in stock")
    with MongoClient[dict[str, object]](live.status().sources["docs"].dsn) as mongo:
        mongo["shop"]["reviews"].insert_one(
            {"_id": f"kettle-{live.port_base}", "product_id": product, "stars": 2}
        )
    await expect(item).to_contain_text("1 review")
    await expect(item.locator(".stars")).to_have_text("★★☆☆☆")


async def test_what_a_row_holds_is_text_and_never_markup(
    page: Page, live: LiveInstallation
) -> None:
    await open_shop(page, live)
    made = "insert into products (name, price) values (%s, 1) returning id"
    product = statement(live, made, HOSTILE)
    await expect(page.locator(f"[data-product='{product}'] b")).to_have_text(HOSTILE)
    assert await page.title() == "Tea & Things"
    assert await page.locator("main img").count() == 0


async def test_the_token_leaves_the_address_and_a_reload_works(
    page: Page, live: LiveInstallation
) -> None:
    await open_shop(page, live)
    assert page.url == f"{live.status().http}/"
    await page.reload()
    await expect(page.locator("#state")).to_have_text("live")


async def test_without_a_token_the_page_says_how_to_get_one(
    page: Page, live: LiveInstallation
) -> None:
    await page.goto(live.status().http)
    await expect(page.locator("#state")).to_have_text("not signed in")
    await expect(page.locator("#notice")).to_contain_text("rowcast token")
    await page.goto(f"{live.status().http}/#token={live.token('--expires', '-1s')}")
    await expect(page.locator("#notice")).to_contain_text("expired")


async def test_it_is_usable_on_a_phone(page: Page, live: LiveInstallation, tmp_path: Path) -> None:
    await page.set_viewport_size({"width": 360, "height": 740})
    await open_shop(page, live)
    await expect(page.locator("#orders tr").first).to_be_visible()
    await page.screenshot(path=tmp_path / "phone.png", full_page=True)
    widths = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    scroll_width, client_width = await page.evaluate(widths)
    assert scroll_width == client_width
