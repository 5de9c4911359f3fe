"""Nothing of what a command asks for stands in a read event unless it is asked for."""

from __future__ import annotations

from collections.abc import Mapping

from bson import Int64
from hypothesis import given
from hypothesis import strategies as st

from cdc.mongo_statement import statement_text
from cdc.profile_entry import ProfileEntry, read_entry

SECRETS = st.sampled_from(["s3cret", "$s3cret", 5_3_7, Int64(537), 53.7, b"s3cret"])
NAMES = st.sampled_from(
    ["a", "from", "limit", "find", "$eq", "$in", "$literal", "$lookup", "coll", "pipeline", "let"]
)
VALUES = st.recursive(
    SECRETS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=3)
STAGES = st.dictionaries(
    st.sampled_from(["$match", "$project", "$group", "$addFields", "$set", "$unwind", "$new"]),
    VALUES,
    min_size=1,
    max_size=1,
)


def entry(command: Mapping[str, object]) -> ProfileEntry:
    found = read_entry({"op": "command", "ns": "shop.c", "command": command, "$recordId": 1})
    assert found is not None
    return found


@given(DOCUMENTS, DOCUMENTS, DOCUMENTS)
def test_a_find_tells_no_value(wanted: object, projection: object, hint: object) -> None:
    command = {"find": "c", "filter": wanted, "projection": projection, "hint": hint, "limit": 2}
    text = statement_text(entry({**command, "comment": "s3cret", "$db": "shop"}), "normalized")
    assert text is not None
    assert "s3cret" not in text
    assert "537" not in text
    assert '"limit": 2' in text


@given(st.lists(STAGES, max_size=3), DOCUMENTS)
def test_a_pipeline_tells_no_value(stages: list[object], let: object) -> None:
    join = {"from": "d", "let": let, "pipeline": stages, "as": "e"}
    pipeline = [*stages, {"$lookup": join}, {"$facet": {"f": stages}}]
    text = statement_text(entry({"aggregate": "c", "pipeline": pipeline}), "normalized")
    assert text is not None
    assert "s3cret" not in text
    assert "537" not in text
    assert '"from": "d"' in text


def test_a_command_is_told_whole_or_not_at_all_where_that_is_asked_for() -> None:
    command = {"find": "c", "filter": {"a": "s3cret"}, "lsid": {"id": b"1"}, "$db": "shop"}
    assert statement_text(entry(command), "full") == '{"find": "c", "filter": {"a": "s3cret"}}'
    assert statement_text(entry(command), "none") is None
    cut = entry({"$truncated": '{ find: "c", filter: { a: "s3cr'})
    assert (cut.verb, statement_text(cut, "normalized")) == ("find", None)
