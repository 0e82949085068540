"""A gateway that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass

from .base import JupyterGpuError, because


class GatewayError(JupyterGpuError):
    """The gateway cannot be used."""


@dataclass(kw_only=True, eq=False)
class GatewayUnreachable(GatewayError):
    code = "gateway.unreachable"
    url: str
    reason: str = ""

    @property
    def sentence(self) -> str:
        return f"The gateway at {self.url} cannot be reached{because(self.reason)}"

    @property
    def hint(self) -> str:
        return "Is it running, and is JUPYTER_GPU_GATEWAY right? Without that variable a gateway of your own is started."


@dataclass(kw_only=True, eq=False)
class GatewayStartFailed(GatewayError):
    code = "gateway.start"
    reason: str
    log: str = ""

    @property
    def sentence(self) -> str:
        return f"No gateway could be started{because(self.reason)}"

    @property
    def hint(self) -> str:
        return f"Its log: {self.log}" if self.log else "`jupyter gpu gateway` starts one in a terminal and shows what it says."


@dataclass(kw_only=True, eq=False)
class TokenRefused(GatewayError):
    code = "gateway.token"
    url: str

    @property
    def sentence(self) -> str:
        return f"The gateway at {self.url} did not accept the token."

    @property
    def hint(self) -> str:
        return "Set JUPYTER_GPU_TOKEN to the token that the gateway was started with."


@dataclass(kw_only=True, eq=False)
class TokenFileExposed(GatewayError):
    """``mode`` as in ``ls``: octal, "0644"."""

    code = "gateway.token-file"
    path: str
    mode: str

    @property
    def sentence(self) -> str:
        return f"Others can read {self.path} (mode {self.mode}), and with the token in it run code as you."

    @property
    def hint(self) -> str:
        return f"Delete it, or `chmod go-rwx {self.path}` if you trust everybody who could have read it."


@dataclass(kw_only=True, eq=False)
class ProtocolMismatch(GatewayError):
    """``here`` and ``there`` are the protocols spoken, as whoever reads the error sees them; ``peer`` is who is over there."""

    code = "gateway.protocol"
    here: str
    there: str
    peer: str = "gateway"

    @property
    def sentence(self) -> str:
        there = f"protocol {self.there}" if self.there else "another protocol"
        return f"The {self.peer} speaks {there}, this side protocol {self.here}."

    @property
    def hint(self) -> str:
        return "Install the same release of jupyter-gpu at both ends."
