"""Hooks on a running installation: they refuse, change and fail closed, for every kind of call."""

from __future__ import annotations

import asyncio
import base64
import json
import textwrap
from collections.abc import Iterator

import httpx
import pytest

from events.kept_definition import definition_record_key
from rowcast.installation import open_installation
from rowcast.kafka_access import write_record
from tests.integration.live_installation import LIMIT_S, LiveInstallation, wait_until

pytestmark = pytest.mark.integration

REPRESENTATION = {"prefer": "return=representation"}
HOOKS = {
    "hook_first": """
        # /// rowcast
        # before = "api.data.shop.products.*"
        # order = -1
        # reuse = true
        # ///
        async def main(call, g):
            if call["body"] == "boom":
                raise RuntimeError("the password is hunter2")
            if call["operation"] == "select":
                return {"query": {**call["query"], "price": ["gte.2", "lt.1000"]}}
            if call["operation"] == "delete":
                await g.emit("custom.hook_refused", {"who": call["caller"]["subject"]})
                return {"refuse": "nothing is deleted on Sundays"}
            return {"body": {**call["body"], "name": call["body"]["name"] + " first"}}
    """,
    "hook_second": """
        # /// rowcast
        # before = "api.data.*.products.created"
        # reuse = true
        # ///
        def main(call, g):
            body = call["body"]
            if body["price"] > 500:
                return {"refuse": {"status": 402, "code": "DEAR", "message": "too dear",
                                   "details": body["name"], "hint": "less"}}
            if body["price"] == 13:
                return {"nonsense": True}
            return {"body": {**body, "name": body["name"] + " second"}}
    """,
    "hook_lenient": """
        # /// rowcast
        # before = "api.data.shop.products.created"
        # order = 9
        # on_error = "allow"
        # ///
        def main(call, g):
            raise RuntimeError("never mind")
    """,
    "hook_documents": """
        # /// rowcast
        # before = "api.data.docs.reviews.*"
        # timeout_s = 1
        # ///
        import asyncio

        async def main(call, g):
            if call["method"] == "POST" and call["body"].get("stars") == 0:
                return {"refuse": {"status": 409, "message": "no stars"}}
            if call["method"] == "POST" and call["body"].get("stars") == 9:
                await asyncio.sleep(30)
            if call["method"] == "POST":
                return {"body": {**call["body"], "checked": True}}
            return {"query": {**call["query"], "checked": "is.true"}}
    """,
    "hook_function": """
        # /// rowcast
        # before = "api.custom.hooked.called"
        # ///
        def main(call, g):
            if call["query"].get("no"):
                return {"refuse": {"status": 451, "message": "not here"}}
            return {"body": {"n": call["body"]["n"] + 1}, "query": {"a": "b"}}
    """,
    "hook_system": """
        # /// rowcast
        # before = "api.system.emit"
        # ///
        def main(call, g):
            if call["body"]["type"] == "custom.unwanted":
                return {"refuse": "nobody wants it"}
            if call["body"]["type"] == "custom.rewritten":
                return {"body": {**call["body"], "data": "by the hook"}}
    """,
    "hook_operations": """
        # /// rowcast
        # before = "api.system.*"
        # reuse = true
        # ///
        def main(call, g):
            match call["operation"]:
                case "delete_definition" | "status":
                    return {"refuse": "nothing is ever deleted, nor looked at"}
                case "list_dead_letters":
                    return {"query": {**call["query"], "count": "many"}}
                case "make_token":
                    if call["body"].get("subject") == "eve":
                        return {"refuse": {"status": 423, "message": "not for her"}}
                    return {"body": {**call["body"], "subject": "by the hook"}}
    """,
    "hooked": """
        # /// rowcast
        # api = "hooked"
        # schema = { properties = { n = { maximum = 5 } } }
        # ///
        def main(request, g):
            return [request["body"], request["query"]]
    """,
}


@pytest.fixture(scope="module")
def client(live: LiveInstallation) -> Iterator[httpx.Client]:
    """A caller with a token of service_role, once the hooks are in force."""
    folder = live.folder / "test-hooks"
    folder.mkdir()
    for name, code in HOOKS.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(code))
    cluster = open_installation(live.folder, port_base=live.port_base).cluster
    key = definition_record_key("dashboard", "newer")
    asyncio.run(write_record(cluster, cluster.topics.definitions, key, b'{"anything":1}'))
    live.command("apply", str(folder))
    headers = {"apikey": live.token("--role", "service_role", "--subject", "ada")}
    base = f"http://127.0.0.1:{live.port_base}"
    with httpx.Client(base_url=base, headers=headers, timeout=LIMIT_S) as client:
        # Applied last, so that it is there once all are.
        wait_until(
            lambda: "POST" in client.options("/functions/v1/hooked").headers["allow"] or None,
            "the definitions in the HTTP service",
        )
        yield client
        live.command("delete", *HOOKS)
        wait_until(
            lambda: "POST" not in client.options("/functions/v1/hooked").headers["allow"] or None,
            "the definitions gone from the HTTP service",
        )


def test_hooks_change_and_refuse_calls_of_the_data_api_in_their_order(
    client: httpx.Client, live: LiveInstallation
) -> None:
    rest = "/rest/v1/products"
    made = client.post(rest, json={"name": "Lamp", "price": 8}, headers=REPRESENTATION)
    assert made.status_code == 201, made.text
    assert made.json()[0]["name"] == "Lamp first second"
    # As CSV it came, as JSON the hook made it.
    csv = {**REPRESENTATION, "content-type": "text/csv"}
    said = client.post(rest, content=b"name,price\nChair,9\n", headers=csv)
    assert said.status_code == 500
    client.post(rest, json={"name": "Pin", "price": 1}, headers=REPRESENTATION)
    named = {"name": "in.(Lamp first second,Pin first second)", "select": "name"}
    assert client.get(rest, params=named).json() == [{"name": "Lamp first second"}]

    dear = client.post(rest, json={"name": "Car", "price": 900})
    assert (dear.status_code, dear.json()) == (
        402,
        {"code": "DEAR", "message": "too dear", "details": "Car first", "hint": "less"},
    )
    deleted = client.delete(rest, params={"name": "like.*"})
    assert (deleted.status_code, deleted.json()["code"]) == (403, "RC403")
    failed = client.post(rest, content=b'"boom"', headers={"content-type": "application/json"})
    assert failed.status_code == 500
    assert "hunter2" not in failed.text
    nonsense = client.post(rest, json={"name": "Thirteen", "price": 13})
    assert nonsense.status_code == 500
    assert "hook_second failed" in nonsense.json()["message"]
    every = client.get(rest, params={"select": "name", "name": "like.*first*"}).json()
    assert every == [{"name": "Lamp first second"}]

    dumped = live.command("tail", "**", "--dump").stdout
    told = [json.loads(line) for line in dumped.split("\n") if line]
    by_call = {one["call"]: one for one in told if one["type"].startswith("api.")}
    for answer, outcome in ((made, "ok"), (dear, "refused"), (failed, "refused")):
        event = by_call[answer.headers["rowcast-call"]]
        assert (event["type"], event["outcome"]) == ("api.data.shop.products.created", outcome)
    refused = by_call[deleted.headers["rowcast-call"]]
    assert refused["error"] == {"code": "RC403", "message": "nothing is deleted on Sundays"}
    # What the hook emitted is there although the call was refused.
    (emitted,) = [one for one in told if one["type"] == "custom.hook_refused"]
    assert emitted["cause"]["event"] == deleted.headers["rowcast-call"]
    assert emitted["data"] == {"who": "ada"}
    runs = live.runs("hook_second")
    assert {"changed": ["body"]} in [run["result"] for run in runs]
    assert any("means nothing" in str(run["error"]) for run in runs)
    assert {str(run["status"]) for run in live.runs("hook_lenient")} == {"failed"}


def test_hooks_see_calls_on_documents_on_custom_apis_and_of_the_system(
    client: httpx.Client, live: LiveInstallation
) -> None:
    rest = "/rest/v1/reviews"
    good = {"_id": "hooked", "product_id": 1, "stars": 4}
    made = client.post(rest, json=good, headers=REPRESENTATION)
    assert made.json() == [{**good, "checked": True}]
    found = client.get(rest, params={"select": "_id", "product_id": "eq.1"}).json()
    assert found == [{"_id": "hooked"}]
    assert client.post(rest, json={"stars": 0}).status_code == 409
    slow = client.post(rest, json={"stars": 9})
    assert (slow.status_code, slow.json()["code"]) == (504, "RC504")
    assert client.delete(rest, params={"_id": "eq.hooked"}).status_code == 204

    emit = "/admin/v1/events"
    refused = client.post(emit, json={"type": "custom.unwanted"})
    assert (refused.status_code, refused.json()["message"]) == (403, "nobody wants it")
    client.post(emit, json={"type": "custom.rewritten", "data": 1}).raise_for_status()
    dumped = live.command("tail", "custom.*", "--dump").stdout
    events = [json.loads(line) for line in dumped.split("\n") if line]
    assert [one["data"] for one in events if one["type"] == "custom.rewritten"] == ["by the hook"]
    assert "custom.unwanted" not in dumped

    api = "/functions/v1/hooked"
    assert client.post(api, json={"n": 4}).json() == [{"n": 5}, {"a": "b"}]
    # What runs is what passed the schema, whoever wrote it.
    assert client.post(api, json={"n": 5}).status_code == 422
    assert client.post(f"{api}?no=1", json={"n": 1}).json()["message"] == "not here"


def test_hooks_are_asked_before_operations_of_the_system_but_for_those_that_mend(
    client: httpx.Client, live: LiveInstallation
) -> None:
    tokens = "/admin/v1/tokens"
    refused = client.post(tokens, json={"subject": "eve", "role": "anon"})
    assert (refused.status_code, refused.json()["message"]) == (423, "not for her")
    made = client.post(tokens, json={"subject": "ada"})
    claims = made.json()["token"].split(".")[1]
    assert b"by the hook" in base64.urlsafe_b64decode(claims + "==")
    # What the hook made of it is checked as if the caller had sent it.
    said = client.get("/admin/v1/dead-letters")
    assert (said.status_code, "$.count" in said.json()["message"]) == (400, True)
    assert client.get("/admin/v1/definitions/hook_operations").status_code == 200
    assert client.get("/admin/v1/").status_code == 200
    assert client.get("/admin/v1/status").status_code == 200
    # Whatever it refuses, it can be deleted.
    assert client.delete("/admin/v1/definitions/hook_operations").status_code == 200
    wait_until(
        lambda: client.get("/admin/v1/dead-letters").status_code == 200 or None, "the hook gone"
    )
    live.command("apply", str(live.folder / "test-hooks" / "hook_operations.py"))
    calls = {
        made.headers["rowcast-call"]: ("ok", {"subject": "by the hook"}),
        refused.headers["rowcast-call"]: ("refused", {"subject": "eve", "role": "anon"}),
    }
    for event in live.wait_for_events(lambda event: event.id in calls, 2):
        assert (event.body["outcome"], event.body["parameters"]) == calls[event.id]


def test_a_definition_of_a_kind_that_nobody_knows_disturbs_nobody(
    client: httpx.Client, live: LiveInstallation
) -> None:
    # It stands on the topic before the hooks, which the services have read.
    assert client.options("/functions/v1/hooked").status_code == 200
    for name in ("router", "http"):
        assert "dashboard" not in (live.folder / "logs" / f"{name}.log").read_text()
    assert "dashboard" not in live.command("get").stdout
