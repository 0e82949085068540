"""What our own pickler writes. Code is not among it: functions, cells of closures and classes of the notebook are refused by name."""

from __future__ import annotations

import sys
from typing import Any

from .. import codecs, lazy
from .entry import Entry, Table, are_ints, need, under

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

    if type(data) is not list:
        return arrays.flat_objects(loads(arrays.as_buffer(data)), shape, fortran)
    values: list[Any] = []
    made: list[tuple[list[Any], Any]] = []
    for piece in data:  # in the order of their memory
        found = loads(buffer := arrays.as_buffer(piece))
        need(type(found) is list, "its values are no list")
        values += found
        made.append((found, buffer))
    array = arrays.flat_objects(values, shape, False, "F" if fortran else "C")
    codecs.note_flat(array, made)
    return array


def _make_view(content: Any, format: Any, shape: Any, readonly: Any) -> memoryview:
    need(type(content) in (bytes, bytearray) and type(format) is str and are_ints(shape, 0) and type(readonly) is bool, "no memory")
    view: Any = memoryview(content)
    if (view.format, view.shape) != (format, shape):
        view = view.cast(format, shape)
    return view.toreadonly() if readonly and not view.readonly else view  # type: ignore[no-any-return]


def _view(*args: Any) -> Any:
    from . import arrays

    return codecs.note_view(arrays.view(*args))


def _storage(data: Any, home: Any) -> Any:
    from . import tensors

    return tensors.storage(data, home)


def _tensor(*args: Any) -> Any:
    from . import tensors

    return tensors.tensor(*args)


def _frame(data: Any) -> Any:
    from . import arrow

    return arrow.frame_of(data)


def _series(data: Any) -> Any:
    from . import arrow

    return arrow.series_of(data)


def _image(state: Any, data: Any) -> Any:
    from . import arrays, images

    need(type(state) is list, "not the state of an image")
    return images.image_of([*state, bytes(arrays.as_buffer(data))])


def _is_numbers(array: Any) -> bool:
    from numpy import ndarray

    return type(array) is ndarray and not array.dtype.hasobject


def _is_name(name: Any) -> bool:
    return type(name) is str and name.isidentifier() and len(name) < 40


def _is_spread(spread: Any) -> bool:
    """Shape of a mesh, names of its axes, and for each axis of an array those that it is spread over."""
    parts = spread if type(spread) is tuple and len(spread) == 3 and all(type(p) is tuple for p in spread) else None
    if spread is None or parts is None or not are_ints(parts[0], 1) or len(parts[0]) > 8:
        return spread is None
    over = [name for axis in parts[2] for name in (axis if type(axis) is tuple else (axis,)) if name is not None]
    return all(map(_is_name, [*parts[1], *over]))


def _jax_array(raw: Any, shape: Any, dtype: Any, spread: Any) -> Any:
    from ..codecs import jax_codec  # type: ignore[attr-defined, unused-ignore]

    need(_is_numbers(raw) and are_ints(shape, 0) and _is_name(dtype) and _is_spread(spread), "not what an array of jax writes")
    return jax_codec.load_array(raw, shape, dtype, spread)


def _jax_key(data: Any, how: Any) -> Any:
    from ..codecs import jax_codec  # type: ignore[attr-defined, unused-ignore]

    need(_is_numbers(data) and _is_name(how), "no key")
    return jax_codec.load_key(data, how)


_CODECS = "jupyter_gpu.sync.codecs"

TABLE: Table = {
    ("jupyter_gpu.sync.loading", "named_module"): Entry(make=_module),
    ("jupyter_gpu.sync.loading", "make_view"): Entry(make=_make_view),
    **under([_CODECS, f"{_CODECS}.arrays"], ["_load_flat"], Entry(make=_load_flat)),
    **under([_CODECS, f"{_CODECS}.arrays"], ["_view"], Entry(make=_view)),
    (f"{_CODECS}.polars_codec", "load_frame"): Entry(make=_frame),
    (f"{_CODECS}.polars_codec", "load_series"): Entry(make=_series),
    (f"{_CODECS}.images", "load_image"): Entry(make=_image),
    (f"{_CODECS}.jax_codec", "load_array"): Entry(make=_jax_array),
    (f"{_CODECS}.jax_codec", "load_key"): Entry(make=_jax_key),
    ("jupyter_gpu.sync.torch_codec", "_load_storage"): Entry(make=_storage),
    ("jupyter_gpu.sync.torch_codec", "_make_tensor"): Entry(make=_tensor),
}
