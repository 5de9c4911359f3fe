"""A change of a row deletes what a real Redis has of it, though the router was killed meanwhile."""

from __future__ import annotations

import httpx
import pytest

from tests.examples.conftest import Scenarios
from tests.integration.live_installation import wait_until

pytestmark = pytest.mark.integration


def test_what_is_cached_of_a_row_is_gone_when_it_changes(scenarios: Scenarios) -> None:
    url = f"http://127.0.0.1:{scenarios.port_base + 7}/articles"

    def read(number: int) -> tuple[str, str]:
        answer = httpx.get(f"{url}/{number}", timeout=60)
        return answer.headers["x-cache"], answer.json().get("body", "none")

    # The runs of the rows' own creation are over.
    scenarios.wait_for_runs("forget_article", 2)
    assert read(1) == ("miss", "Boil water.")
    assert read(1) == ("hit", "Boil water.")
    assert read(2)[0] == "miss"
    scenarios.kill_router()
    scenarios.rows("update articles set body = 'Boil water, wait.' where id = 1")
    scenarios.rows("delete from articles where id = 2")
    wait_until(
        lambda: read(1) == ("hit", "Boil water, wait.") or None, "the new article to be cached"
    )
    wait_until(lambda: read(2) == ("miss", "none") or None, "the deleted article to be gone")
    deleted = [run for run in scenarios.runs("forget_article") if run["result"] == 1]
    assert len(deleted) == 2
