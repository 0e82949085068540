"""A value or a module that cannot go along. Nothing ran."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from .base import JupyterGpuError, because, listed


class TravelError(JupyterGpuError):
    """A value or a module cannot go along; nothing ran."""


@dataclass(kw_only=True, eq=False)
class ValueCannotTravel(TravelError):
    """``path`` leads to the culprit inside the variable ("model.layers[3].lock"); ``others`` are further paths."""

    code = "travel.value"
    name: str
    path: str
    type: str
    reason: str = ""
    others: list[str] = dataclasses.field(default_factory=list)

    @property
    def sentence(self) -> str:
        inside = "" if self.path in ("", self.name) else f" because of {self.path}"
        text = f"The variable {self.name!r} cannot be sent{inside} (a {self.type}){because(self.reason)}"
        if self.others:
            text += f" Nor can: {listed(self.others)}."
        return text

    @property
    def hint(self) -> str:
        return "Nothing ran. Create it inside the remote cell, or name in in= only what the cell needs."


@dataclass(kw_only=True, eq=False)
class ModuleMissing(TravelError):
    """``here`` is the version where the value is, ``there`` the one where it was to go (empty: no such module). ``lacking``: the end
    that lacks it, "worker" or "notebook". ``needed_by``: "variable", or "cell" for what the cell itself imports."""

    code = "travel.module"
    module: str
    here: str = ""
    there: str = ""
    lacking: str = "worker"
    needed_by: str = "variable"

    @property
    def sentence(self) -> str:
        here = f" {self.here}" if self.here else ""
        if self.lacking == "notebook":
            return f"The value needs the module {self.module!r}, which this notebook does not have (the worker has {self.module}{here})."
        if self.there:
            return f"The worker has {self.module} {self.there}, but a variable was made with {self.module}{here}."
        if self.needed_by == "cell":
            known = f"here it is {self.module}{here}" if self.here else "nor does the notebook know a version of it"
            return f"The worker has no module {self.module!r}, which the cell imports ({known})."
        return f"The worker has no module {self.module!r}, which a variable needs (here it is {self.module}{here})."

    @property
    def hint(self) -> str:
        version = f"=={self.here}" if self.here else ""
        if self.lacking == "notebook":
            return f"Use it in %%remote cells, or install it here: `%pip install {self.module.split('.')[0]}{version}`."
        return f"Nothing ran. Install it there: `%pip install {self.module.split('.')[0]}{version}` in a remote cell."


@dataclass(kw_only=True, eq=False)
class PythonMismatch(TravelError):
    """``what`` is "Python", "cloudpickle", ..."""

    code = "travel.python"
    what: str
    here: str
    there: str

    @property
    def sentence(self) -> str:
        return f"The worker runs {self.what} {self.there}, this notebook {self.what} {self.here}: variables cannot go between them."

    @property
    def hint(self) -> str:
        return f"Nothing ran. Start the notebook with {self.what} {self.there}, or the worker with {self.what} {self.here}."


@dataclass(kw_only=True, eq=False)
class UntrustedValue(TravelError):
    """Under ``trust="data"``: ``what`` is the class or function, by its dotted name, that is not plain data. ``others`` are further
    variables, and ``others_what`` what each of them was refused for."""

    code = "travel.untrusted"
    variable: str
    what: str
    reason: str = ""
    others: list[str] = dataclasses.field(default_factory=list)
    others_what: list[str] = dataclasses.field(default_factory=list)

    @property
    def refused(self) -> dict[str, str]:
        """Variable -> what it was refused for."""
        return {self.variable: self.what, **dict(zip(self.others, self.others_what))}

    @property
    def sentence(self) -> str:
        text = (
            f"The variable {self.variable!r} was refused, since it is rebuilt by {self.what}, which is not plain data{because(self.reason)}"
        )
        if self.others:
            text += f" So were: {listed([f'{name} ({what})' for name, what in zip(self.others, self.others_what)])}."
        return text

    @property
    def hint(self) -> str:
        return (
            "Nothing of it was rebuilt here, and .fetch() is refused as well: use it in %%remote cells, or turn it into arrays and plain "
            'values there. If the gateway is yours, JUPYTER_GPU_TRUST=code (c.JupyterGPU.trust = "code") takes whatever comes.'
        )


@dataclass(kw_only=True, eq=False)
class SnapshotRefused(TravelError):
    code = "travel.snapshot"
    reason: str

    @property
    def sentence(self) -> str:
        return f"The variables could not be taken over{because(self.reason)}"

    @property
    def hint(self) -> str:
        return "No variable was changed. Run the cell again; `%remote stop` first gives you a fresh session."
