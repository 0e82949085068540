"""The connection file: where front ends will look for the kernel, and how they sign."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..wire.errors import ConnectionFileBad

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")


@dataclass(frozen=True)
class ConnectionFile:
    """What it says. ``ports`` by channel; ``curve``: (public, secret) key of the server's side where transport is encrypted."""

    path: Path
    transport: str
    ip: str
    ports: dict[str, int]
    key: str
    scheme: str
    curve: tuple[str, str] | None = None

    def endpoint(self, channel: str) -> str:
        between = "-" if self.transport == "ipc" else ":"
        return f"{self.transport}://{self.ip}{between}{self.ports[channel]}"


def read(path: Path) -> ConnectionFile:
    """Raises ``ConnectionFileBad``."""
    try:
        said: Any = json.loads(path.read_text())
        transport = said.get("transport", "tcp")
        if transport not in ("tcp", "ipc"):
            raise ConnectionFileBad(path=str(path), reason=f"transport {transport!r} is neither tcp nor ipc")
        ports = {channel: int(said[f"{channel}_port"]) for channel in CHANNELS}
        public, secret = said.get("curve_publickey"), said.get("curve_secretkey")
        return ConnectionFile(
            path,
            transport,
            str(said.get("ip") or "127.0.0.1"),
            ports,
            str(said.get("key", "")),
            str(said.get("signature_scheme") or "hmac-sha256"),
            (str(public), str(secret)) if public and secret else None,
        )
    except OSError as error:
        raise ConnectionFileBad(path=str(path), reason=error.strerror or str(error)) from None
    except KeyError as error:
        raise ConnectionFileBad(path=str(path), reason=f"it does not say {error.args[0]}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ConnectionFileBad(path=str(path), reason=f"it is no connection file: {error}") from None
