"""A session moves into another kernel, and its handles with it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from client_end import KernelEnd
from jupyter_gpu_worker.state import restore, save

from jupyter_gpu.sync.handles import Handle
from jupyter_gpu.sync.kept import Kept

FIND = "import gc, pickle\nrunner = next(o for o in gc.get_objects() if type(o).__name__ == 'CellRunner')\n"


def test_two_kernels(new_kernel: Callable[[], KernelEnd], tmp_path: Path) -> None:
    first, second = new_kernel(), new_kernel()
    for kernel in (first, second):
        kernel.hello()
    cell = first.ok("model = [1, {'deep': 2}]\nother = model\nplain = model[1]\nimport threading\nlock = threading.Lock()", keep=["model"])
    handles = {info.name: Handle(info, lambda: None) for info in cell.done.handles}
    assert handles["model"].key == handles["other"].key
    done = first.ok(
        f"def move():\n    {FIND.replace(chr(10), chr(10) + '    ')}\n    open({str(tmp_path / 'state')!r}, 'wb').write(pickle.dumps(runner.export_state()))\nmove()"
    )
    assert done.done.status == "ok"
    second.ok(
        f"def take():\n    {FIND.replace(chr(10), chr(10) + '    ')}\n    runner.import_state(pickle.load(open({str(tmp_path / 'state')!r}, 'rb')))\ntake()"
    )
    second.namespace["again"] = handles["model"]  # a handle of the first kernel's
    second.namespace["held"] = {"in": [handles["other"]]}
    code = "again.append(3)\nprint(again, again is held['in'][0] is model is other, plain is again[1], 'lock' in globals())"
    assert second.ok(code).text() == "[1, {'deep': 2}, 3] True True False\n"


def test_what_is_shared_stays_shared_and_nothing_is_changed() -> None:
    data = [1]
    namespace: dict[str, Any] = {"__name__": "__main__", "data": data, "holder": {"data": data}, "_12": "hidden"}
    exec("def f(): return data", namespace)
    kept = Kept()
    key = kept.keep(data, "data")
    lost = kept.keep((n for n in data), "lost")
    before = dict(namespace)
    state = pickle.loads(pickle.dumps(save(namespace, kept)))
    assert namespace == before and state.keys == [key] and state.names == {"data": key} and [s.name for s in state.stuck] == [lost]
    there: dict[str, Any] = {"__name__": "__main__", "own": 1}
    mine = Kept()
    restore(state, there, mine)
    assert there.keys() - {"__builtins__"} == {"__name__", "own", "data", "holder", "f"}
    assert there["f"]() is there["data"] is there["holder"]["data"] is mine.values[key] and mine.stays("data", there["data"])
    there["data"].append(2)
    assert data == [1], "copies"
