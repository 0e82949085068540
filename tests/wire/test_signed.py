from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.session import Session

from jupyter_gpu.wire.errors import FrameGarbled
from jupyter_gpu.wire.signed import DELIMITER, Signer, body, join, split

KEY = b"a-key"


def session() -> Session:
    return Session(key=KEY, signature_scheme="hmac-sha256")


@given(st.lists(st.binary(max_size=5).filter(lambda b: b != DELIMITER), max_size=3), st.lists(st.binary(), max_size=2))
def test_what_is_joined_is_split(identities: list[bytes], buffers: list[bytes]) -> None:
    signer = Signer(KEY)
    parts = [*body("status", {"execution_state": "idle"}, session="s"), *buffers]
    found = split(join(identities, signer, parts))
    assert (found.identities, found.body) == (identities, parts)
    assert signer.fits(found.signature, found.body) and not Signer(b"another").fits(found.signature, found.body)


def test_jupyters_own_session_reads_what_is_made_here() -> None:
    parent = b'{"msg_id": "p", "msg_type": "execute_request"}'
    frames = join([b"me"], Signer(KEY), body("error", {"ename": "E"}, session="s", parent=parent, metadata={"m": 1}))
    identities, rest = session().feed_identities([bytes(f) for f in frames])
    message: Any = session().deserialize(rest)
    assert identities == [b"me"] and message["msg_type"] == "error" and message["content"] == {"ename": "E"}
    assert message["parent_header"]["msg_id"] == "p" and message["metadata"] == {"m": 1} and message["header"]["session"] == "s"


def test_headers_of_what_jupyter_sends() -> None:
    theirs = session()
    sent = theirs.msg("execute_request", {"code": "1"}, parent=theirs.msg("comm_open"))
    sent["header"]["subshell_id"] = "sub"
    found = split(theirs.serialize(sent, ident=b"client"))
    assert (found.header.msg_type, found.header.subshell_id, found.parent.msg_type) == ("execute_request", "sub", "comm_open")
    assert found.header.session == theirs.session and Signer(KEY).fits(found.signature, found.body)


def test_without_a_key_nothing_is_signed() -> None:
    assert join([], Signer(b""), [b"{}"] * 4)[1] == b""


def test_another_scheme() -> None:
    theirs = Session(key=KEY, signature_scheme="hmac-md5")
    found = split(theirs.serialize(theirs.msg("status")))
    assert Signer(KEY, "hmac-md5").fits(found.signature, found.body)


@pytest.mark.parametrize("scheme", ["hmac-nothing", "rot13"])
def test_a_scheme_that_is_none(scheme: str) -> None:
    with pytest.raises(FrameGarbled):
        Signer(KEY, scheme)


@pytest.mark.parametrize("frames", [[], [b"{}"] * 6, [DELIMITER, b"", b"{}"], [b"x", DELIMITER, b"", b"{}", b"{}", b"{}"]])
def test_what_is_no_message(frames: list[bytes]) -> None:
    with pytest.raises(FrameGarbled):
        split(frames)


def test_a_header_that_is_none() -> None:
    with pytest.raises(FrameGarbled):
        _ = split([DELIMITER, b"", b"[", b"{}", b"{}", json.dumps({}).encode()]).header
