from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.errors import ProgressFormatError
from cdc.progress import MongoProgress, PostgresProgress, Progress, decode_progress, progress_key
from events.lsn import Lsn

LSNS = st.integers(0, 2**64 - 1).map(Lsn)
COUNTS = st.integers(0, 2**31)


@given(
    st.one_of(
        st.builds(
            PostgresProgress,
            st.text("0123456789", min_size=1),
            COUNTS,
            LSNS,
            LSNS,
            st.none() | COUNTS,
            st.none() | st.just("shop/1/gap"),
        ),
        st.builds(
            MongoProgress, st.dictionaries(st.just("_data"), st.text("0F")), COUNTS, COUNTS, COUNTS
        ),
    )
)
def test_progress_is_read_back_as_it_was_written(progress: Progress) -> None:
    assert decode_progress(progress.encode()) == progress


def test_the_key_names_the_source() -> None:
    assert progress_key("shop") == b'{"source":"shop"}'


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b'{"kind":"mysql"}',
        b'{"kind":"postgres","system_id":1}',
        b'{"kind":"postgres","system_id":"1","timeline":-1,"commit":"0/1","end":"0/1"}',
        b'{"kind":"postgres","system_id":"1","timeline":1,"commit":"x","end":"0/1"}',
        b'{"kind":"mongo","token":7}',
    ],
)
def test_what_is_no_progress_is_refused_and_shown(value: bytes) -> None:
    with pytest.raises(ProgressFormatError, match="progress record b"):
        decode_progress(value)
