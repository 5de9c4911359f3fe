from __future__ import annotations

from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.path_pattern import PathPattern, read_path, write_path

SEGMENT = st.text(min_size=1, max_size=8)


@example(b"a/%252e%252e/b")
@example(b"a/%25252e/b")
@example(b"..;x/b")
@given(st.binary(max_size=40))
def test_a_path_is_refused_or_stays_where_it_was(raw: bytes) -> None:
    try:
        segments = read_path(b"/" + raw)
    except ValueError:
        return
    written = write_path(segments)
    assert read_path(written.encode()) == segments
    assert written.isascii()
    # However often a server decodes it, and whatever it does with parameters: it goes nowhere up.
    for _ in range(3):
        assert not {".", ".."} & {part.partition(";")[0] for part in written.split("/")}
        assert "\\" not in written
        assert "//" not in written
        written = unquote(written)


@given(st.lists(SEGMENT, min_size=1, max_size=4))
def test_plain_segments_are_read_as_they_are(segments: list[str]) -> None:
    raw = "/" + "/".join(quote(one, safe="") for one in segments)
    try:
        assert read_path(raw.encode()) == tuple(segments)
    except ValueError:
        marks = set("".join(segments)) & {"/", "\\", "%", *map(chr, range(32)), "\x7f"}
        assert marks or any(one.partition(";")[0] in (".", "..") for one in segments)


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("/charges", ["/charges"], ["/charges/", "/charges/1", "/charge", "/"]),
        (
            "/charges/*",
            ["/charges/1", "/charges/%C3%A4"],
            ["/charges", "/charges/", "/charges/1/2"],
        ),
        ("/charges/**", ["/charges", "/charges/1/2/3"], ["/chargesx", "/other"]),
        ("/a b/*/c", ["/a%20b/x/c"], ["/a%20b/c", "/a+b/x/c"]),
        ("/**", ["/", "/x", "/x/y/"], []),
        ("/", ["/"], ["/x"]),
    ],
)
def test_a_pattern_means_whole_segments(
    pattern: str, matching: list[str], other: list[str]
) -> None:
    parsed = PathPattern.parse(pattern)
    assert all(parsed.matches(read_path(path.encode())) for path in matching)
    assert not any(parsed.matches(read_path(path.encode())) for path in other)


@pytest.mark.parametrize("text", ["charges", "/a//b", "/a/**/b", "/a*", "/../b", ""])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected one such as"):
        PathPattern.parse(text)
