"""Modules seen from the notebook: the person's own files, installed ones, missing ones."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from notebook_driver import Notebook

pytestmark = pytest.mark.timeout(180)
R = "%%remote gpu=H100\n"


@pytest.fixture
def folder(fresh: Notebook, tmp_path: Path) -> Path:
    """Where the notebook is."""
    return tmp_path


def errors(book: Notebook, code: str) -> str:
    return book.ok(code).text("stderr")


def test_a_file_beside_the_notebook_is_imported_with_nothing_done_before(fresh: Notebook, folder: Path) -> None:
    (folder / "helper.py").write_text("from deeper import tools\ndef f():\n    return tools.N\n")
    (folder / "deeper").mkdir()
    (folder / "deeper/tools.py").write_text("N = 1\n")
    where = fresh.ok(R + "import os; os.chdir('/')\nimport helper\nprint(helper.f(), helper.__file__)").text()
    assert where.startswith("1 ") and str(folder) not in where, "it travelled, and was not found by chance"
    assert fresh.value("'helper' in __import__('sys').modules") == "False"
    (folder / "deeper/tools.py").write_text("N = 2\n")
    assert fresh.ok(R + "print(helper.f())").text() == "2\n", "without being imported again"


def test_an_edited_class_goes_on_in_the_values_that_live_there(fresh: Notebook, folder: Path) -> None:
    text = "class Net:\n    def __init__(self): self.n = 3\n    def size(self): return self.n * {}\ndef make(): return Net()\n"
    (folder / "nets.py").write_text(text.format(1))
    fresh.ok("import nets; here = nets.make()")
    fresh.ok("%%remote gpu=H100 keep=there\nfrom nets import make, Net\nthere = make(); back = make()")
    (folder / "nets.py").write_text(text.format(10))
    out = fresh.ok(R + "print(there.size(), here.size(), isinstance(there, Net), isinstance(make(), Net)); back = there").text()
    assert out == "30 30 True True\n"
    assert fresh.ok("%%remote gpu=H100 out=back\nback.n = 4").error is None
    assert fresh.value("(back.n, type(back) is nets.Net)") == "(4, True)"
    (folder / "nets.py").write_text("class Net(:\n")
    result = fresh.ok(R + "print(there.size())")
    assert result.text() == "40\n" and "nets was edited, and cannot be loaded: SyntaxError" in result.text("stderr")


def test_a_deleted_file_is_deleted_there(fresh: Notebook, folder: Path) -> None:
    (folder / "doomed_mod.py").write_text("x = 1\n")
    fresh.ok(R + "import os; os.chdir('/')\nimport sys; sys.path[:] = [p for p in sys.path if p]\nimport doomed_mod")
    (folder / "doomed_mod.py").unlink()
    error = fresh.run(R + "import doomed_mod").error
    assert error is not None and "doomed_mod" in error["evalue"]


def test_functions_bring_what_they_import(fresh: Notebook, folder: Path) -> None:
    (folder / "inner_mod.py").write_text("def g(): return 'inner'\n")
    fresh.ok("def f():\n    import inner_mod\n    return inner_mod.g()")
    assert fresh.ok(R + "import os; os.chdir('/')\nprint(f())").text() == "inner\n"


def test_an_editable_package(place: dict[str, str], tmp_path: Path) -> None:
    """Installed as pip does it: a .pth file in a folder that ``site`` looks at."""
    project, site = tmp_path / "project", tmp_path / "site"
    (project / "editable_pkg").mkdir(parents=True)
    site.mkdir()
    (project / "editable_pkg/__init__.py").write_text("from .core import f\n__version__ = '0.7'\n")
    (project / "editable_pkg/core.py").write_text("def f(): return 'one'\n")
    (site / "editable.pth").write_text(f"{project}\n")
    book = Notebook(place, tmp_path)
    try:
        book.ok(f"import site; site.addsitedir({str(site)!r})")
        assert book.ok(R + "import editable_pkg\nprint(editable_pkg.f())").text() == "one\n"
        (project / "editable_pkg/core.py").write_text("def f(): return 'two'\n")
        assert book.ok(R + "print(editable_pkg.f())").text() == "two\n"
    finally:
        book.close()


def test_what_the_cell_needs_and_the_worker_lacks_is_refused_before_it_runs(fresh: Notebook) -> None:
    fresh.ok(
        "import sys, types\nonly_here = types.ModuleType('only_here'); only_here.__version__ = '1.2'; sys.modules['only_here'] = only_here; ran = 0"
    )
    error = fresh.run(R + "import only_here\nran = 1").error
    assert error is not None and "which the cell imports (here it is only_here 1.2)" in error["evalue"]
    assert fresh.value("ran") == "0" and fresh.ok(R + "print(ran)").text() == "0\n"
    for code in (
        "try:\n    import only_here\nexcept ImportError:\n    ran = 2",
        "def f():\n    import only_here\nran = 3",
        "if False:\n    import only_here\nran = 4",
    ):
        fresh.ok(R + code)
    assert fresh.value("ran") == "4"


def test_a_version_that_differs_and_a_module_that_may_be_missing_are_said_once(fresh: Notebook) -> None:
    fresh.ok("import pandas; pandas.__version__ = '0.1'; import sys, types; sys.modules['only_here_2'] = types.ModuleType('only_here_2')")
    assert "pandas is 0.1 in the notebook and" in errors(fresh, R + "import pandas")
    assert errors(fresh, R + "import pandas\nprint(1)") == ""
    code = R + "try:\n    import only_here_2\nexcept ImportError:\n    pass"
    assert "has no module only_here_2, which the cell may import" in errors(fresh, code)
    assert errors(fresh, code + "\nx = 1") == ""


def test_the_environment_of_the_notebook_stays_here(place: dict[str, str], tmp_path: Path) -> None:
    """Hazard 27. A gateway that somebody else started: the worker has that one's environment."""
    runtime = tmp_path / "far"
    runtime.mkdir(mode=0o700)
    env = place | {"JUPYTER_RUNTIME_DIR": str(runtime)}
    command = [sys.executable, "-u", "-m", "jupyter_gpu_gateway", "--url", f"unix://{runtime}/s", "--folder", str(runtime / "files")]
    far = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    told: dict[str, str] = {}
    book = None
    try:
        assert far.stdout is not None
        for line in far.stdout:
            name, _, value = line.strip().removeprefix("export ").partition("=")
            if name in ("JUPYTER_GPU_GATEWAY", "JUPYTER_GPU_TOKEN"):
                told[name] = value.strip("'\"")
            if len(told) == 2:
                break
        assert len(told) == 2
        book = Notebook(place | told | {"MY_SECRET": "hunter2"}, tmp_path)
        book.ok(
            "import os\nfrom os import environ\nfrom pathlib import Path\nhere = [Path('/usr')]\nholder = {'env': environ}; assert os.environ['MY_SECRET'] == 'hunter2'"
        )
        code = """
            print('MY_SECRET' in environ, os.environ.get('MY_SECRET'), holder['env'] is os.environ)
            print('hunter2' in open('/proc/self/environ', errors='replace').read(), os.environ.get('JUPYTER_GPU_TOKEN'))
        """
        result = book.ok("%%remote gpu=any\n" + textwrap.dedent(code))
        assert result.text() == "False None True\nFalse None\n"
        assert "holder['env'] is the environment of this machine" in result.text("stderr")
        assert any("working directory and environment are its own" in str(d["data"]) for d in result.displays)
        assert "here[0] is a path of this machine: the worker looks for it in its own files" in errors(book, "%%remote gpu=any\nhere")
        assert errors(book, "%%remote gpu=any\nhere.append(1)") == ""
        assert book.value("holder['env'] is os.environ and environ['MY_SECRET'] == 'hunter2'") == "True"
    finally:
        if book is not None:
            book.close()
        far.terminate()
        far.wait(20)
        if far.stdout is not None:
            far.stdout.close()


def test_the_worker_is_where_it_was_told(fresh: Notebook, folder: Path) -> None:
    assert fresh.ok(R + "import os; print(os.getcwd())").text().strip() == os.path.realpath(folder)
