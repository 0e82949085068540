"""What our own pickler writes. Code is not among it: functions, cells of closures and classes of the notebook are refused by name."""

from __future__ import annotations

import sys
from typing import Any

from .. import codecs, lazy
from .entry import Entry, Table, need

#: Top-level packages whose modules a remote cell may bind here, to be imported at their first use. Others only if they are loaded.
_LIBRARIES = """
numpy pandas polars pyarrow scipy sklearn statsmodels torch torchvision torchaudio transformers datasets jax jaxlib flax matplotlib seaborn
plotly PIL cv2 skimage networkx sympy astropy xgboost lightgbm tqdm einops numba cupy h5py zarr
"""
LIBRARIES = frozenset(_LIBRARIES.split())


def _module(name: Any) -> Any:
    need(type(name) is str and name, "no name of a module")
    known = name.partition(".")[0] in LIBRARIES or name in sys.modules
    need(known and name != "__main__", f"the module {name!r} is not loaded here, and no library of values")
    return lazy.named_module(name, True)


def _load_flat(data: Any, shape: Any, fortran: Any) -> Any:
    from . import arrays
    from .machine import loads

    return arrays.flat_objects(loads(arrays.as_buffer(data)), shape, fortran)


def _view(*args: Any) -> Any:
    from . import arrays

    return codecs.note_view(arrays.view(*args))


def _storage(data: Any, home: Any) -> Any:
    from . import tensors

    return tensors.storage(data, home)


def _tensor(*args: Any) -> Any:
    from . import tensors

    return tensors.tensor(*args)


TABLE: Table = {
    ("jupyter_gpu.sync.loading", "named_module"): Entry(make=_module),
    ("jupyter_gpu.sync.codecs", "_load_flat"): Entry(make=_load_flat),
    ("jupyter_gpu.sync.codecs", "_view"): Entry(make=_view),
    ("jupyter_gpu.sync.torch_codec", "_load_storage"): Entry(make=_storage),
    ("jupyter_gpu.sync.torch_codec", "_make_tensor"): Entry(make=_tensor),
}
