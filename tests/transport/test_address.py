from __future__ import annotations

import pytest

from jupyter_gpu.transport.address import Address, parse
from jupyter_gpu.wire.errors import BadOptionValue


@pytest.mark.parametrize(
    ("text", "base", "local"),
    [
        ("ws://gpu.example:8470", "ws://gpu.example:8470", False),
        ("http://gpu.example:8470/", "ws://gpu.example:8470", False),
        (" https://gpu.example/proxy/ ", "wss://gpu.example/proxy", False),
        ("WSS://GPU.example", "wss://gpu.example", False),
        ("ws://127.0.0.1:1", "ws://127.0.0.1:1", True),
        ("ws://localhost:1", "ws://localhost:1", True),
        ("ws://[::1]:9", "ws://[::1]:9", True),
        ("ws://10.0.0.1", "ws://10.0.0.1", False),
    ],
)
def test_websocket_addresses(text: str, base: str, local: bool) -> None:
    address = parse(text)
    assert address == Address(base=base, is_local=local)
    assert str(address) == base
    assert address.at("/v1/rpc") == f"{base}/v1/rpc"


def test_unix_sockets() -> None:
    address = parse("unix:///run/user/gateway.sock")
    assert (address.socket, str(address)) == ("/run/user/gateway.sock", "unix:///run/user/gateway.sock")
    assert address.at("/v1/rpc") == "ws://localhost/v1/rpc"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gpu.example:8470",
        "ftp://gpu.example",
        "ws://",
        "ws://host:port",
        "ws://host:99999",
        "ws://[::1",
        "ws://user:secret@host",
        "ws://host?token=abc",
        "ws://host#x",
        "unix://relative/path",
        "unix://",
        "unix:///" + "x" * 107,
    ],
)
def test_what_is_no_address_is_refused_by_the_name_of_the_option(text: str) -> None:
    with pytest.raises(BadOptionValue) as caught:
        parse(text, option="gateway")
    assert caught.value.option == "gateway" and caught.value.value == text
