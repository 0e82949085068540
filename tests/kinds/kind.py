"""One row of the table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """``make`` binds ``x`` in a notebook, ``change`` changes it (or binds it anew), ``look`` says what there is to compare: plain data,
    taken at each end of its own object. ``needs``: the module without which there is nothing to test. ``stays``: ``x`` is the same
    object after ``change``, at both ends. ``refused``: it cannot travel, and is refused by its name."""

    name: str
    make: str
    change: str = ""
    look: str = "look(x)"
    needs: str = ""
    stays: bool = True
    refused: bool = False


def value(name: str, make: str, change: str, look: str = "look(x)", needs: str = "") -> Kind:
    """Of a kind whose objects never change: another one is bound."""
    return Kind(name, make, change, look, needs, stays=False)


def refused(name: str, make: str, needs: str = "") -> Kind:
    return Kind(name, make, needs=needs, refused=True)
