"""What all errors share: fields, a sentence and a hint, and how they travel."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from ..messages import ErrorRecord

#: What a field of an error may hold.
Field = str | int | float | bool | None | list[str]

#: Travels beside the fields, so that a peer that does not know the code can still show the sentence.
SENTENCE = "_sentence"


@dataclass(kw_only=True, eq=False)
class JupyterGpuError(Exception):
    """Root of the tree. ``code`` is stable; the text is not."""

    code: ClassVar[str] = ""

    @property
    def sentence(self) -> str:
        """What is wrong, in one sentence (more where there is more to list)."""
        return "Something went wrong."

    @property
    def hint(self) -> str:
        """What to do about it; may be empty."""
        return ""

    def __str__(self) -> str:
        return f"{self.sentence} {self.hint}".rstrip()

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own would call the class with positional arguments.
        return _rebuild, (type(self), self.fields())

    def fields(self) -> dict[str, Field]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def to_record(self) -> ErrorRecord:
        return ErrorRecord(code=self.code, fields={**self.fields(), SENTENCE: str(self)})

    def _render_traceback_(self) -> list[str]:
        """IPython shows this instead of a traceback: the frames would be ours, and tell a person nothing."""
        lines = [f"\x1b[0;31m{type(self).__name__}\x1b[0m: {self.sentence}"]
        if self.hint:
            lines.append(self.hint)
        return lines


def _rebuild(kind: type[JupyterGpuError], fields: dict[str, Field]) -> JupyterGpuError:
    return kind(**fields)


def listed(items: list[str]) -> str:
    return ", ".join(items)


def because(reason: str) -> str:
    """``reason`` as the end of a sentence."""
    return f": {reason.rstrip('.')}." if reason else "."
