"""What code imports is told without running any of it."""

from __future__ import annotations

import pytest

from jupyter_gpu.sync.imports import imports_in, imports_of
from jupyter_gpu.sync.names import imports

CERTAIN = {
    "import a": ["a"],
    "import a.b.c as d, e": ["a", "e"],
    "from a.b import c\nfrom d import (e,\n f)": ["a", "d"],
    "'''doc'''\nx = 1\ny: int = 2\nz = [x, 'y']\nimport a": ["a"],
    "def f(x=1):\n    return g()\nimport a": ["a"],
    "# %%remote gpu=H100\nimport a\nprint(a)\nimport b": ["a"],
    "from . import a\nfrom .b import c": [],
    "x = 1": [],
    "important = 1": [],
    "import": [],
    "f()\nimport a": [],
    "@f\ndef g(): pass\nimport a": [],
    "def g(x=f()): pass\nimport a": [],
    "class C:\n    pass\nimport a": [],
    "del x\nimport a": [],
    "x = y[0]\nimport a": [],
    "%pip install a\nimport a": [],
    "!pip install a\nimport a": [],
    "try:\n    import a\nexcept ImportError:\n    a = None": [],
    "if x:\n    import a": [],
    "def f():\n    import a": [],
}


@pytest.mark.parametrize(("code", "certain"), CERTAIN.items())
def test_what_is_sure_to_run_first(code: str, certain: list[str]) -> None:
    assert list(imports(code).certain) == certain


POSSIBLE = {
    "f()\nimport a, b.c": ["a", "b"],
    "try:\n    import a\nexcept ImportError:\n    import b": ["a", "b"],
    "class C:\n    def f(self):\n        async def g():\n            from a.b import c": ["a"],
    "import a\nif x:\n    import a, b": ["b"],
    "%%time\nimport a": ["a"],
    "x = 1\n%time import a": ["a"],
    "%%bash\nimport a": [],
    "if x:\n    from . import a": [],
}


@pytest.mark.parametrize(("code", "possible"), POSSIBLE.items())
def test_what_may_run(code: str, possible: list[str]) -> None:
    found = imports(code)
    assert list(found.possible) == possible and set(found.all) == {*found.certain, *possible}


def test_code_that_cannot_be_read_imports_nothing() -> None:
    assert imports_of("import a\nx = = 1").all == () == imports_of("import\0").all
    assert imports("import a\n%%time\n(((").all == ()


def test_functions() -> None:
    def outer() -> None:
        import json.decoder
        from os import path

        def inner() -> None:
            import numpy as np

            print(np, json, path)

        inner()

    assert imports_in(outer.__code__) == {"json", "os", "numpy"}
    relative = compile("def f():\n    from . import a\n    from ..b import c\n    import d.e", "x", "exec")
    assert imports_in(relative) == {"d"}
