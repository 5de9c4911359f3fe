from __future__ import annotations

import pytest
from websockets.frames import Frame as ReferenceFrame
from websockets.frames import Opcode

from push.frame import Frame


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 200_000])
def test_a_frame_is_as_websockets_writes_it(size: int) -> None:
    payload = b"x" * size
    frame = Frame.of(payload)
    assert frame.wire == ReferenceFrame(Opcode.TEXT, payload).serialize(mask=False)
    assert (frame.payload, frame.size_bytes) == (payload, size)
