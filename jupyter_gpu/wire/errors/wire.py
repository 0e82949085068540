"""Bytes that are not what they should be."""

from __future__ import annotations

from dataclasses import dataclass

from .base import JupyterGpuError, because


class WireError(JupyterGpuError):
    """Bytes that are not what they should be."""


@dataclass(kw_only=True, eq=False)
class FrameTooLarge(WireError):
    """Both in bytes."""

    code = "wire.too-large"
    size: int
    limit: int

    @property
    def sentence(self) -> str:
        return f"A message of {self.size:,} bytes is larger than the limit of {self.limit:,}."

    @property
    def hint(self) -> str:
        return "Keep the value remote with keep=, or send it in parts."


@dataclass(kw_only=True, eq=False)
class FrameGarbled(WireError):
    code = "wire.garbled"
    reason: str

    @property
    def sentence(self) -> str:
        return f"What came over the connection cannot be read{because(self.reason)}"

    @property
    def hint(self) -> str:
        return "Is it a jupyter-gpu of the same release at the other end, and no proxy in between that changes bytes?"


@dataclass(kw_only=True, eq=False)
class LinkBroken(WireError):
    code = "wire.link"
    reason: str

    @property
    def sentence(self) -> str:
        return f"The link to the worker cannot be resumed{because(self.reason)}"

    @property
    def hint(self) -> str:
        return "Run the cell again: it gets a new session."


@dataclass(kw_only=True, eq=False)
class SpoolFull(WireError):
    """``limit`` in bytes."""

    code = "wire.spool"
    limit: int

    @property
    def sentence(self) -> str:
        return f"More than {self.limit:,} bytes wait for the other end, which does not take them."

    @property
    def hint(self) -> str:
        return "Check the connection; print or send less at once."
