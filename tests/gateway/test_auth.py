from __future__ import annotations

import pytest
from jupyter_gpu_gateway.auth import Keys, bearer, digest, new_token

from jupyter_gpu.wire.errors import BadOptionValue


def test_there_is_no_open_mode() -> None:
    with pytest.raises(BadOptionValue, match="never open"):
        Keys("")


def test_a_client_has_the_token() -> None:
    keys = Keys("right")
    assert keys.is_client("right")
    assert not any(keys.is_client(token) for token in ("", "wrong", "right ", "Right"))


def test_a_worker_has_a_secret_of_its_own() -> None:
    keys = Keys("token")
    one, two = keys.new_worker("w-1"), keys.new_worker("w-2")
    assert keys.worker_of(f"w-1:{one}") == "w-1" and keys.worker_of(f"w-2:{two}") == "w-2"
    for wrong in ("", ":", "w-1", "w-1:", f"w-1:{two}", f"w-3:{one}", "token", "w-1:token"):
        assert keys.worker_of(wrong) == "", wrong
    assert not keys.is_client(f"w-1:{one}") and not keys.is_client(one), "user code runs in workers"


def test_secrets_are_long_differ_and_are_kept_as_digests() -> None:
    keys = Keys("token")
    secrets = {keys.new_worker(f"w-{n}") for n in range(20)} | {new_token()}
    assert len(secrets) == 21 and min(map(len, secrets)) >= 40
    assert all(len(kept) == 32 for kept in keys.workers.values())
    assert digest("a") != digest("b")


@pytest.mark.parametrize(
    ("header", "token"),
    [(None, ""), ("", ""), ("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", ""), ("abc", ""), ("Bearer", "")],
)
def test_the_header(header: str | None, token: str) -> None:
    assert bearer(header) == token
