"""What a session has beside its variables, and takes along: one class for each thing.

``take()`` gives plain data, or None where there is nothing to take; ``give(found)`` puts it into place in another kernel, and returns
sentences about what means nothing there. Those that come ``first`` decide what can be imported, and are put into place before the
variables are rebuilt; all others after it, so that nothing that is rebuilt changes them.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, ClassVar

Notes = list[str]

#: ``sys.path`` as it was when the kernel began.
_path_at_start: list[str] = []


def remember() -> None:
    """The kernel begins now: what is there already is not the person's."""
    _path_at_start[:] = sys.path


class Belonging:
    """Base of all. ``shell`` is IPython's."""

    first: ClassVar[bool] = False

    def __init__(self, shell: Any) -> None:
        self.shell = shell

    def take(self) -> Any:
        raise NotImplementedError

    def give(self, found: Any) -> Notes:
        raise NotImplementedError


class Directory(Belonging):
    """The working directory, where the other kernel has one of this name."""

    first = True

    def take(self) -> Any:
        try:
            return os.getcwd(), list(self.shell.user_ns.get("_dh", ()))
        except OSError:
            return None  # it was removed

    def give(self, found: Any) -> Notes:
        path, visited = found
        try:
            os.chdir(path)
        except OSError as error:
            return [f"the folder {path} cannot be used here ({error.strerror}); the working directory is {os.getcwd()}"]
        self.shell.user_ns.get("_dh", [])[:] = visited
        return []


class Paths(Belonging):
    """What was added to ``sys.path``, in front or behind."""

    first = True

    def take(self) -> Any:
        known = set(_path_at_start)
        added = [(i, path) for i, path in enumerate(sys.path) if path not in known and isinstance(path, str)]
        begins = next((i for i, path in enumerate(sys.path) if path in known), 0)
        return [path for i, path in added if i <= begins], [path for i, path in added if i > begins]

    def give(self, found: Any) -> Notes:
        front, back = ([path for path in paths if path not in sys.path] for paths in found)
        sys.path[:] = [*front, *sys.path, *back]
        gone = [path for path in (*front, *back) if not os.path.exists(path)]
        return [f"{path}, which was added to sys.path, is not here" for path in gone]


class Extensions(Belonging):
    """IPython extensions that were loaded. Those that cannot be are told."""

    first = True

    def take(self) -> Any:
        return sorted(self.shell.extension_manager.loaded)

    def give(self, found: Any) -> Notes:
        manager, notes = self.shell.extension_manager, []
        for name in found:
            if name in manager.loaded:
                continue
            try:
                manager.load_extension(name)
            except Exception as error:
                notes.append(f"the extension {name} cannot be loaded here ({type(error).__name__}: {error})")
        return notes


class Autoreload(Belonging):
    """``%autoreload``'s mode, and what ``%aimport`` named."""

    _FIELDS = ("enabled", "check_all", "autoload_obj", "modules", "skip_modules")

    def _reloader(self) -> Any:
        return getattr(self.shell.magics_manager.registry.get("AutoreloadMagics"), "_reloader", None)

    def take(self) -> Any:
        reloader = self._reloader()
        return None if reloader is None else {name: getattr(reloader, name) for name in self._FIELDS if hasattr(reloader, name)}

    def give(self, found: Any) -> Notes:
        reloader = self._reloader()
        if reloader is None:
            return ["autoreload is off: its extension is not here"]
        for name, value in found.items():
            setattr(reloader, name, value)
        with contextlib.suppress(Exception):
            reloader.check(check_all=True, do_reload=False)  # what was rebuilt imported modules as they are now
        return []


class Matplotlib(Belonging):
    """The backend, and what was set in ``rcParams``."""

    def take(self) -> Any:
        matplotlib = sys.modules.get("matplotlib")
        if matplotlib is None:
            return None
        backend = dict.__getitem__(matplotlib.rcParams, "backend")
        default = matplotlib.rcParamsDefault
        changed = {k: v for k, v in dict.items(matplotlib.rcParams) if not k.startswith("backend") and v != default.get(k)}
        return backend if isinstance(backend, str) else "", {k: v for k, v in changed.items() if _is_plain(v)}

    def give(self, found: Any) -> Notes:
        backend, changed = found
        try:
            import matplotlib

            if "inline" in backend:
                self.shell.enable_matplotlib("inline")
            elif backend:
                matplotlib.use(backend)
            matplotlib.rcParams.update(changed)
        except Exception as error:
            return [f"matplotlib's backend {backend} cannot be used here ({type(error).__name__}: {error})"]
        return []


class Random(Belonging):
    """Python's own generator."""

    def take(self) -> Any:
        import random

        return random.getstate()

    def give(self, found: Any) -> Notes:
        import random

        random.setstate(found)
        return []


class NumpyRandom(Belonging):
    """numpy's global generator; those that variables hold travel as what they are."""

    def take(self) -> Any:
        numpy = sys.modules.get("numpy.random")
        if numpy is None:
            return None
        kind, keys, *rest = numpy.get_state(legacy=True)
        return kind, keys.tobytes(), str(keys.dtype), rest

    def give(self, found: Any) -> Notes:
        import numpy

        kind, keys, dtype, rest = found
        numpy.random.set_state((kind, numpy.frombuffer(keys, dtype), *rest))
        return []


class TorchRandom(Belonging):
    """torch's generators: that of the CPU, and those of the GPUs, where both have them."""

    def take(self) -> Any:
        torch = sys.modules.get("torch")
        if torch is None or not hasattr(torch, "get_rng_state"):
            return None
        devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []
        return [bytes(state.numpy()) for state in (torch.get_rng_state(), *devices)]

    def give(self, found: Any) -> Notes:
        import torch  # type: ignore[import-not-found,unused-ignore]

        own, *devices = (torch.frombuffer(bytearray(state), dtype=torch.uint8) for state in found)
        torch.set_rng_state(own)
        if devices and torch.cuda.is_available():
            for number, state in enumerate(devices[: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(state, number)
        return []


class History(Belonging):
    """What was typed so far: ``In``, ``_i``, ``_i3``."""

    def take(self) -> Any:
        history, ns = self.shell.history_manager, self.shell.user_ns
        last = [ns.get(name, "") for name in ("_i", "_ii", "_iii")]
        numbered = {k: v for k, v in ns.items() if k[:2] == "_i" and k[2:].isdigit() and isinstance(v, str)}
        return list(history.input_hist_parsed), list(history.input_hist_raw), last, numbered

    def give(self, found: Any) -> Notes:
        parsed, raw, last, numbered = found
        history, ns = self.shell.history_manager, self.shell.user_ns
        history.input_hist_parsed[:] = parsed
        history.input_hist_raw[:] = raw
        ns.update(zip(("_i", "_ii", "_iii"), last))
        ns.update(numbered)
        if raw:  # what it puts into ``_i`` at the next cell
            history._i00 = raw[-1]
            history._i, history._ii, history._iii = last
        return []


_KINDS: tuple[type[Belonging], ...] = (Directory, Paths, Extensions, Autoreload, Matplotlib, Random, NumpyRandom, TorchRandom, History)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or type(value) in (str, int, float, bool)


def take_all(shell: Any) -> dict[str, Any]:
    """All that there is, by the names of the classes. What fails stays behind, with a word."""
    found: dict[str, Any] = {}
    for kind in _KINDS:
        try:
            value = kind(shell).take()
        except Exception as error:
            found.setdefault("failed", []).append(f"{kind.__name__}: {type(error).__name__}: {error}")
            continue
        if value is not None:
            found[kind.__name__] = value
    return found


def next_number(shell: Any, *, in_cell: bool) -> int:
    """Of the cell that will run next. ``in_cell``: a numbered one runs; versions of IPython count it at its beginning, or at its end."""
    return int(shell.displayhook.prompt_count) + 1 if in_cell else int(shell.execution_count)


def give_all(shell: Any, found: dict[str, Any], *, first: bool) -> Notes:
    """Put into place what comes first, or the rest."""
    notes: Notes = []
    for kind in _KINDS:
        if kind.first is not first or kind.__name__ not in found:
            continue
        try:
            notes += kind(shell).give(found[kind.__name__])
        except Exception as error:
            notes.append(f"{kind.__name__} is not as it was ({type(error).__name__}: {error})")
    return notes
