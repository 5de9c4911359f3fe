"""A chain over HTTP is trusted where we signed it just now, and nowhere else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.chain import Chain
from events.errors import EventFormatError
from events.signed_chain import MAX_AGE_MS, MAX_CHARS, sign_chain, verify_chain

CHAIN = Chain("shop/1/1", ("first", "second"))
SIGNED = sign_chain(CHAIN, "secret", 1_000)


@given(st.text(), st.lists(st.text(max_size=20), max_size=20), st.text(min_size=1))
def test_what_was_signed_is_read_back(root: str, path: list[str], secret: str) -> None:
    chain = Chain(root, tuple(path))
    try:
        header = sign_chain(chain, secret, 5)
    except (EventFormatError, TypeError, UnicodeEncodeError):
        return
    assert header.isascii()
    assert verify_chain(header, secret, 5) == chain


@pytest.mark.parametrize(
    "header",
    [
        "",
        ".",
        "x",
        CHAIN.encode().decode(),
        SIGNED[:-1],
        SIGNED + "A",
        SIGNED.split(".")[0] + ".",
        "." + SIGNED.split(".")[1],
        base64.urlsafe_b64encode(b'{"root":"r","path":[],"at_ms":1000}').decode() + ".AAAA",
        "A" * (MAX_CHARS + 1),
        SIGNED + "\xe9",
    ],
)
def test_what_we_did_not_sign_is_refused(header: str) -> None:
    with pytest.raises(EventFormatError, match="rowcast-chain"):
        verify_chain(header, "secret", 1_000)


@given(st.integers(0, len(SIGNED) - 1), st.sampled_from("ABCz09-_."))
def test_no_character_can_be_changed(at: int, character: str) -> None:
    changed = SIGNED[:at] + character + SIGNED[at + 1 :]
    # The last character of base64 may carry bits that mean nothing.
    if changed[:-1] == SIGNED[:-1] or SIGNED.index(".") - 1 == at:
        return
    with pytest.raises(EventFormatError):
        verify_chain(changed, "secret", 1_000)


def test_another_secret_and_an_old_signature_are_refused() -> None:
    with pytest.raises(EventFormatError, match="not this installation's"):
        verify_chain(SIGNED, "other", 1_000)
    assert verify_chain(SIGNED, "secret", 1_000 + MAX_AGE_MS) == CHAIN
    with pytest.raises(EventFormatError, match="5 minutes"):
        verify_chain(SIGNED, "secret", 1_001 + MAX_AGE_MS)


def test_a_chain_that_no_header_holds_is_refused_when_it_is_signed() -> None:
    with pytest.raises(EventFormatError, match="no HTTP header holds"):
        sign_chain(Chain("r", ("listener",) * 2_000), "secret", 1)
