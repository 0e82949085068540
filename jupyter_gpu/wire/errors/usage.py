"""Errors that the person can mend by writing something else."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from .base import JupyterGpuError, because, listed


class UsageError(JupyterGpuError):
    """The person can mend it by writing something else."""


@dataclass(kw_only=True, eq=False)
class UnknownOption(UsageError):
    code = "usage.option"
    option: str
    nearest: str = ""
    known: list[str] = dataclasses.field(default_factory=list)

    @property
    def sentence(self) -> str:
        return f"There is no option {self.option!r}."

    @property
    def hint(self) -> str:
        if self.nearest:
            return f"Did you mean {self.nearest!r}?"
        return f"The options are: {listed(self.known)}." if self.known else "`%remote?` lists the options."


@dataclass(kw_only=True, eq=False)
class BadOptionValue(UsageError):
    code = "usage.value"
    option: str
    value: str
    expected: str

    @property
    def sentence(self) -> str:
        return f"{self.option}={self.value} cannot be used."

    @property
    def hint(self) -> str:
        return f"Expected {self.expected.rstrip('.')}."


@dataclass(kw_only=True, eq=False)
class BadHardware(UsageError):
    code = "usage.hardware"
    text: str
    reason: str

    @property
    def sentence(self) -> str:
        return f"gpu={self.text} cannot be read{because(self.reason)}"

    @property
    def hint(self) -> str:
        return "Write a type, or several in order of preference: gpu=H100, gpu=H100:2, gpu=H100,A100, gpu=any or gpu=cpu."


@dataclass(kw_only=True, eq=False)
class NoSuchName(UsageError):
    code = "usage.name"
    name: str
    option: str = ""
    nearest: str = ""

    @property
    def sentence(self) -> str:
        where = f", which {self.option}= asks for" if self.option else ""
        return f"There is no variable {self.name!r}{where}."

    @property
    def hint(self) -> str:
        return f"Did you mean {self.nearest!r}?" if self.nearest else "Define it first, or leave the name out."


@dataclass(kw_only=True, eq=False)
class ConnectionFileBad(UsageError):
    code = "usage.connection-file"
    path: str
    reason: str

    @property
    def sentence(self) -> str:
        return f"The connection file {self.path} cannot be used{because(self.reason)}"

    @property
    def hint(self) -> str:
        return "Whatever starts kernels writes one for each; start the kernel again to get a new one."


@dataclass(kw_only=True, eq=False)
class NoSuchHardware(UsageError):
    """``wanted`` and ``available`` are short texts such as "H100:2" and "2 × A100"."""

    code = "usage.no-such-hardware"
    wanted: list[str]
    available: list[str] = dataclasses.field(default_factory=list)

    @property
    def sentence(self) -> str:
        there = listed(self.available) if self.available else "no GPU at all"
        return f"The gateway has no {' or '.join(self.wanted)}. It has: {there}."

    @property
    def hint(self) -> str:
        if self.available:
            return "Ask for one of these, or for gpu=any."
        return "Use gpu=cpu, or point JUPYTER_GPU_GATEWAY at a gateway that has GPUs."
