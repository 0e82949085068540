"""What a person writes behind ``%%remote``, as a typed, frozen value; and a helpful refusal of anything else."""

from __future__ import annotations

import difflib
import keyword
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..wire.errors import BadHardware, BadOptionValue, UnknownOption
from ..wire.messages import Wanted

#: Most GPUs that one entry of gpu= may ask for: more is a slip of the keyboard.
MOST_GPUS = 1024

_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SESSION_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|sec|m|min|h|d)?", re.IGNORECASE)
_SECONDS = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SPACED = re.compile(r"\s*([=,])\s*")
_OPTION = re.compile(r"-{0,2}([A-Za-z_][\w-]*)(?:=(.*))?", re.DOTALL)


@dataclass(frozen=True)
class Options:
    """What one cell asks for. Times are in seconds; 0: not given."""

    gpu: tuple[Wanted, ...] = ()  #: in order of preference; empty: the default
    sent: tuple[str, ...] | None = None  #: ``in=``; None: what the cell names
    out: tuple[str, ...] | None = None  #: None: all that changed
    keep: tuple[str, ...] = ()
    name: str = ""
    timeout: float = 0.0
    idle: float = 0.0
    quiet: bool = False

    @property
    def hardware(self) -> str:
        """As one writes it: ``H100:2,A100``; empty: the default."""
        return hardware_text(self.gpu)


def hardware_text(wanted: Iterable[Wanted]) -> str:
    return ",".join(w.type if w.count == 1 else f"{w.type}:{w.count}" for w in wanted)


@lru_cache(maxsize=128)
def parse(line: str) -> Options:
    """Read ``gpu=H100:2,A100 in=a,b keep=model timeout=5m quiet`` (``--gpu H100`` and ``gpu = H100`` are taken too). Raises
    ``UnknownOption``, ``BadOptionValue`` or ``BadHardware``."""
    found: dict[str, Any] = {}
    for option, value in _pairs(_words(line)):
        field, read = _KNOWN[option]
        if field in found:
            raise BadOptionValue(option=option, value=value, expected=f"{option}= once only")
        found[field] = read(option, value)
    return Options(**found)


def parse_gpu(text: str) -> tuple[Wanted, ...]:
    """``H100:2,A100`` in order of preference. Raises ``BadHardware``, which says what is allowed."""
    wanted: list[Wanted] = []
    for entry in text.split(","):
        entry = entry.strip()
        if not entry:
            raise BadHardware(text=text, reason="a type is missing" if text.strip(", ") else "no type is given")
        each = _one_gpu(text, entry)
        if any(w.type == each.type and w.count == each.count for w in wanted):
            raise BadHardware(text=text, reason=f"{entry} is there twice")
        wanted.append(each)
    return tuple(wanted)


def parse_seconds(option: str, text: str) -> float:
    """``30s``, ``5m``, ``1h``, ``90``. Raises ``BadOptionValue``."""
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _SECONDS[(match[2] or "s").lower()] if match else 0.0
    if seconds <= 0:
        raise BadOptionValue(option=option, value=text, expected="a time of more than nothing: 30s, 5m, 1.5h, or a number of seconds")
    return seconds


def nearest(word: str, known: Iterable[str]) -> str:
    """The one that was probably meant, or an empty text."""
    known = list(known)
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return close[0] if close else next((k for k in known if len(word) > 1 and k.startswith(word.lower())), "")


# ---------------------------------------------------------------- inside


def _words(line: str) -> list[str]:
    """Without a comment at the end, without blanks around ``=`` and ``,``."""
    lexer = shlex.shlex(_SPACED.sub(r"\1", line), posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    lexer.escape = ""
    try:
        return list(lexer)
    except ValueError:  # a quotation mark without its twin
        raise BadOptionValue(option="%%remote", value=line.strip(), expected="quotation marks in pairs") from None


def _pairs(words: list[str]) -> Iterable[tuple[str, str]]:
    """(option, value); ``--gpu H100`` takes the word behind it, which must not look like an option itself."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        match = _OPTION.fullmatch(word)
        if match is None:
            raise UnknownOption(option=word, nearest="", known=_shown())
        option, value = match[1].lower(), match[2]
        if option not in _KNOWN:
            # `%%remote H100`: the commonest slip of all has a better answer than a list of options.
            guess = f"gpu={word}" if value is None and any(c.isdigit() for c in word) else nearest(option, _KNOWN)
            raise UnknownOption(option=word.partition("=")[0], nearest=guess, known=_shown())
        if value is None and option != "quiet":
            if not (word.startswith("-") and rest and "=" not in rest[0] and not rest[0].startswith("-")):
                raise BadOptionValue(option=option, value="", expected=f"a value, as in {_EXAMPLES[option]}")
            value = rest.pop(0)
        yield option, value or ""


def _shown() -> list[str]:
    return [option if option == "quiet" else f"{option}=" for option in _KNOWN]


def _one_gpu(text: str, entry: str) -> Wanted:
    kind, colon, count = entry.partition(":")
    if not _TYPE.fullmatch(kind):
        raise BadHardware(text=text, reason=f"{kind!r} is not a type")
    if kind.isdigit() and len(kind) < 4:
        raise BadHardware(text=text, reason=f"{kind} is a number and not a type; any {kind} GPUs are gpu=any:{kind}")
    if colon and not (count.isascii() and count.isdigit() and 1 <= int(count) <= MOST_GPUS):
        raise BadHardware(text=text, reason=f"{count!r} is not a number from 1 to {MOST_GPUS}")
    if colon and kind.upper() == "CPU":
        raise BadHardware(text=text, reason="cpu takes no number")
    return Wanted(type=kind.upper(), count=int(count) if colon else 1)


def _gpu(option: str, value: str) -> tuple[Wanted, ...]:
    return parse_gpu(value)


def _names(option: str, value: str) -> tuple[str, ...]:
    names = tuple(value.split(","))
    for name in names:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise BadOptionValue(option=option, value=value, expected=f"names of variables with commas between them: {_EXAMPLES[option]}")
        if names.count(name) > 1:
            raise BadOptionValue(option=option, value=value, expected=f"each name once; {name} is there twice")
    return names


def _session_name(option: str, value: str) -> str:
    if not _SESSION_NAME.fullmatch(value) or len(value) > 64 or value == "all":
        raise BadOptionValue(option=option, value=value, expected="a short name of letters, digits, '_', '.' and '-' (and not 'all')")
    return value


def _flag(option: str, value: str) -> bool:
    if value.lower() not in _FLAGS:
        raise BadOptionValue(option=option, value=value, expected="quiet alone, quiet=on or quiet=off")
    return _FLAGS[value.lower()]


_FLAGS = {"": True, "on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}
_EXAMPLES = {
    "gpu": "gpu=H100",
    "in": "in=x,y",
    "out": "out=result",
    "keep": "keep=model",
    "name": "name=second",
    "timeout": "timeout=5m",
    "idle": "idle=1h",
}
_KNOWN: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "gpu": ("gpu", _gpu),
    "in": ("sent", _names),
    "out": ("out", _names),
    "keep": ("keep", _names),
    "name": ("name", _session_name),
    "timeout": ("timeout", parse_seconds),
    "idle": ("idle", parse_seconds),
    "quiet": ("quiet", _flag),
}
