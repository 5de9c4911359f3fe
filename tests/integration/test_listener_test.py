"""`rowcast test` runs one listener against a sample event and shows what it did."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest
from pymongo import MongoClient

from tests.integration.live_installation import LiveInstallation

pytestmark = pytest.mark.integration

CODE = """\
# /// rowcast
# on = "custom.tested"
# where = { data = { n = [7] } }
# ///
async def main(event, g):
    shop, reviews = g.db("shop"), g.db("docs").collection("reviews")
    n = event["data"]["n"]
    await shop.execute("insert into order_audit (order_id, new_status, event_id)"
                       " values (77, 'tested', $1)", f"tested-{n}")
    async with shop.transaction() as tx:
        await tx.execute("update order_audit set new_status = 'seen' where order_id = 77")
    row = await shop.fetch_one("select new_status from order_audit where order_id = 77")
    await reviews.insert({"_id": f"tested-{n}", "stars": 1})
    await reviews.delete({"product_id": 1}, many=True)
    await g.emit("custom.after_test", {"n": n}, key="k")
    await g.schedule.every("5m", "tested")
    await g.push("orders", {"n": n})
    g.log("seen", status=row["new_status"])
    return row["new_status"]
"""


def audit_rows(live: LiveInstallation) -> int:
    with psycopg.connect(live.status().sources["shop"].dsn) as connection:
        row = connection.execute("select count(*) from order_audit where order_id = 77").fetchone()
    assert row is not None
    return int(row[0])


def test_a_rehearsal_sees_its_own_writes_and_leaves_nothing_and_a_test_does_them(
    live: LiveInstallation, tmp_path: Path
) -> None:
    listener, event = tmp_path / "tested.py", tmp_path / "event.json"
    listener.write_text(CODE)
    event.write_text(json.dumps({"id": "e1", "type": "custom.tested", "data": {"n": 7}}))
    arguments = ("test", str(listener), "--event", str(event))

    said = live.command(*arguments, "--dry-run").stdout
    assert said.startswith("ok in ")
    assert 'result   "seen"' in said
    assert 'emits    custom.after_test key k {"n":7}' in said
    assert "emits    schedule.tested null every 0:05:00 as tested" in said
    assert 'pushes   orders {"n":7}' in said
    assert 'log      info: seen {"status":"seen"}' in said
    assert said.count("(rehearsed)") == 6
    assert audit_rows(live) == 0
    with MongoClient[dict[str, object]](live.status().sources["docs"].dsn) as mongo:
        reviews = mongo["shop"]["reviews"]
        assert reviews.count_documents({"_id": "tested-7"}) == 0
        assert reviews.count_documents({"product_id": 1}) > 0

    # Without it everything but Kafka is done; with an id of its own each time.
    real = CODE.replace('    await reviews.delete({"product_id": 1}, many=True)\n', "")
    listener.write_text(real.replace('f"tested-{n}", "stars"', 'str(row), "stars"'))
    outcome = json.loads(live.command(*arguments, "--json").stdout)
    assert (outcome["status"], outcome["result"], outcome["matches"]) == ("ok", "seen", True)
    assert [call["name"] for call in outcome["calls"]][:2] == ["db.execute", "db.begin"]
    assert audit_rows(live) == 1
    lines = live.command("tail", "custom.after_test", "--dump").stdout
    assert lines == ""


def test_a_listener_that_fails_or_is_not_meant_says_so(
    live: LiveInstallation, tmp_path: Path
) -> None:
    listener, event = tmp_path / "fails.py", tmp_path / "event.json"
    listener.write_text(
        "# /// rowcast\n# on = 'custom.other'\n# ///\n"
        "async def main(event, g):\n    await g.db('shop').fetch('select nonsense')\n"
    )
    event.write_text('{"id": "e1", "type": "custom.tested"}')
    done = live.command("test", str(listener), "--event", str(event), "--dry-run", check=False)
    assert done.returncode == 1
    assert "do not select this event" in done.stdout
    assert "line 5, in main" in done.stdout
    assert "nonsense" in done.stdout
    event.write_text("[]")
    done = live.command("test", str(listener), "--event", str(event), check=False)
    assert done.returncode == 2
    assert "holds no event" in done.stderr
    done = live.command("test", "nobody", "--event", str(event), check=False)
    assert done.returncode == 2
    assert "order_paid" in done.stderr


def test_a_custom_api_is_tested_with_a_request_and_the_modules_that_are_applied(
    live: LiveInstallation, tmp_path: Path
) -> None:
    live.apply("tested_rules", '# /// rowcast\n# module = "tested_rules"\n# ///\nTEN = 10\n')
    api, request = tmp_path / "tested_api.py", tmp_path / "request.json"
    api.write_text(
        "# /// rowcast\n# api = 'tested_api'\n# modules = ['tested_rules']\n# ///\n"
        "import tested_rules\n"
        "def main(request, g):\n"
        "    g.emit('custom.tested_api', request['caller']['role'])\n"
        "    return {'status': 201, 'body': request['body']['n'] + tested_rules.TEN}\n"
    )
    request.write_text('{"body": {"n": 1}}')
    said = live.command("test", str(api), "--event", str(request)).stdout
    assert 'result   {"status":201,"body":11}' in said
    assert 'emits    custom.tested_api "service_role"' in said
