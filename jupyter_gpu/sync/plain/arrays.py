"""numpy's values. Types are put together anew from their description: numpy itself takes the flags of a pickled type as they are, and
with false ones would read bytes of the stream as addresses of objects."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from .entry import Entry, Table, are_ints, bounded, is_int, need, under
from .kits import add_hashable

_CORE = ("numpy._core", "numpy.core")
_SCALARS = re.compile(r"[?bBhHiIlLqQefdgFDGOSUVMm]\d*|[biufcSUVM]\d+|[mM]8?")
_UNITS = frozenset({"Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as", "generic"})
#: How many times more than its memory a view may show (zero strides), and bytes that every view may show.
_BLOWN_UP = 16
_FREE = 64 << 20


# ---------------------------------------------------------------- types


def dtype_of(code: Any, align: Any = False, copy: Any = True) -> Any:
    need(type(code) is str and _SCALARS.fullmatch(code), "not the code of a type")
    need(type(align) is bool or align in (0, 1), "not what a type writes")
    return np.dtype(code, copy=True)


def _fill_dtype(dtype: Any, state: Any) -> Any:
    """(version, byte order, (base, shape), names, fields, itemsize, alignment, flags[, metadata])"""
    need(type(state) is tuple and len(state) in (8, 9) and state[0] in (3, 4), "not the state of a type")
    order, base, names, fields, size = state[1:6]
    need(type(order) is str and order in ("<", ">", "|", "="), "no byte order")
    metadata = state[8] if len(state) == 9 else None
    if base is not None:
        need(type(base) is tuple and len(base) == 2 and isinstance(base[0], np.dtype) and _is_shape(base[1]), "no base and shape")
        need(base[0].subdtype is None, "a base with a base")
        found = np.dtype((base[0], base[1]))
    elif names is not None:
        found = _structured(names, fields, size, bool(state[7] & 0x80) if is_int(state[7]) else False)
    elif dtype.kind in "mM" and type(metadata) is tuple and len(metadata) == 2:
        found = _time(dtype.kind, metadata[1])
    else:
        need(metadata is None or type(metadata) is dict, "no metadata")
        found = dtype
    need((size in (-1, found.itemsize) and found.kind == dtype.kind) or found.subdtype is not None, "another size than its parts have")
    return found if order in ("|", "=") else found.newbyteorder(order)


def _is_shape(shape: Any) -> bool:
    return is_int(shape) or are_ints(shape, 0)


def _structured(names: Any, fields: Any, size: Any, aligned: bool) -> Any:
    need(type(names) is tuple and all(type(n) is str for n in names), "its names are no strings")
    need(type(fields) is dict and is_int(size) and set(names) <= fields.keys(), "it has no fields")
    parts = [fields[n] for n in names]
    need(
        all(type(p) is tuple and len(p) in (2, 3) and isinstance(p[0], np.dtype) and is_int(p[1]) and p[1] >= 0 for p in parts),
        "a field that is no type at an offset",
    )
    titles = [p[2] if len(p) == 3 else None for p in parts]
    need(all(t is None or type(t) is str for t in titles), "a title that is no string")
    how: dict[str, Any] = {"names": list(names), "formats": [p[0] for p in parts], "offsets": [p[1] for p in parts], "itemsize": size}
    if any(titles):
        how["titles"] = titles
    for part in parts:
        bounded(part[0], _fields_of, "a type that is nested too deeply")
    make: Any = np.dtype
    return make(how, align=aligned)  # refuses fields beyond its size, and objects over other fields


def _fields_of(dtype: Any) -> list[Any]:
    inner = dtype.subdtype[0] if dtype.subdtype is not None else dtype
    return [field[0] for field in inner.fields.values()] if inner.fields else []


def _time(kind: str, unit: Any) -> Any:
    need(type(unit) is tuple and len(unit) == 4 and type(unit[0]) is bytes, "no unit of time")
    name = unit[0].decode("ascii")
    need(name in _UNITS and is_int(unit[1]) and unit[1] > 0, "no unit of time")
    return np.dtype(f"{kind}8" if name == "generic" else f"{kind}8[{unit[1]}{name}]")


# ---------------------------------------------------------------- arrays


def as_buffer(data: Any) -> memoryview:
    """What an array may be laid over."""
    need(type(data) in (bytes, bytearray, memoryview), "its memory is no buffer")
    return memoryview(data)


def from_buffer(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> Any:
    need(
        isinstance(dtype, np.dtype) and not dtype.hasobject and are_ints(shape, 0) and order in ("C", "F", "K"), "not what an array writes"
    )
    if axes is not None:
        need(are_ints(axes, 0) and sorted(axes) == list(range(len(shape))), "no order of axes")
        return np.frombuffer(as_buffer(data), dtype).reshape(shape).transpose(axes)
    return np.frombuffer(as_buffer(data), dtype).reshape(shape, order="C" if order == "K" else order)


def _reconstruct(kind: Any, shape: Any, code: Any) -> Any:
    need(kind is np.ndarray and shape == (0,) and code == b"b", "another kind of array than numpy's own")
    return np.ndarray((0,), "b")


def _fill_array(_: Any, state: Any) -> Any:
    """(version, shape, type, whether Fortran, bytes or list of objects): a new array, since the empty one may be looked at."""
    need(type(state) is tuple and len(state) == 5, "not the state of an array")
    _, shape, dtype, fortran, data = state
    need(are_ints(shape, 0) and isinstance(dtype, np.dtype) and type(fortran) is bool, "not the state of an array")
    order: Any = "F" if fortran else "C"
    if dtype.hasobject:
        need(dtype.kind == "O" or dtype.fields, "an array of objects within")
        need(type(data) is list and len(data) == math.prod(shape), "its objects are no list of its length")
        made: Any = np.empty(len(data), dtype)
        made[:] = data if dtype.fields else _objects(data)
        bounded(made, _arrays_in, "arrays that are nested too deeply")
        return made.reshape(shape, order=order)
    need(type(data) is bytes and len(data) == math.prod(shape) * dtype.itemsize, "its bytes are not those of its shape")
    if dtype.itemsize == 0:
        return np.empty(shape, dtype, order)
    return np.frombuffer(bytearray(data), dtype).reshape(shape, order=order)


def _arrays_in(array: Any) -> list[Any]:
    """The arrays of objects among the objects of an array."""
    return [part for part in array.ravel().tolist() if type(part) is np.ndarray and part.dtype.hasobject] if array.dtype.kind == "O" else []


def _objects(data: list[Any]) -> Any:
    """One by one: numpy would take lists apart."""
    made = np.empty(len(data), object)
    for i, value in enumerate(data):
        made[i] = value
    return made


def flat_objects(values: Any, shape: Any, fortran: Any) -> Any:
    """Plain values as an array of objects."""
    need(type(values) is list and are_ints(shape, 0) and len(values) == math.prod(shape), "its values are no list of its length")
    made = _objects(values).reshape(shape)
    return np.asfortranarray(made) if fortran else made


def view(whole: Any, offset: Any, shape: Any, strides: Any, dtype: Any) -> Any:
    need(type(whole) is np.ndarray and not whole.dtype.hasobject, "it shows what is no array of numbers")
    need(is_int(offset) and offset >= 0 and are_ints(shape, 0) and are_ints(strides) and len(shape) == len(strides), "no shape and strides")
    need(isinstance(dtype, np.dtype) and not dtype.hasobject, "it shows objects")
    size = math.prod(shape) * dtype.itemsize
    need(size <= max(_FREE, _BLOWN_UP * whole.nbytes), "it shows its memory too many times")
    return np.ndarray(shape, dtype, buffer=whole if whole.flags.c_contiguous else whole.T, offset=offset, strides=strides)


def _scalar(dtype: Any, data: Any = None) -> Any:
    need(isinstance(dtype, np.dtype) and not dtype.hasobject and type(data) is bytes and len(data) == dtype.itemsize, "not its bytes")
    return np.frombuffer(data, dtype)[0] if dtype.itemsize else dtype.type()


# ---------------------------------------------------------------- random numbers

_KINDS = {k.__name__: k for k in (np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64)}


def _bit_generator(kind: Any = "MT19937") -> Any:
    name = kind if type(kind) is str else getattr(kind, "__name__", "")
    need(name in _KINDS and (type(kind) is str or kind is _KINDS[name]), "no generator of bits")
    return _KINDS[name]()


def _check_state(state: Any) -> None:
    """Positions within a block are used as they are."""
    need(type(state) is dict and type(state.get("state")) is dict, "not the state of a generator")
    for name, limit in (("pos", 624), ("buffer_pos", 4)):
        for place in (state, state["state"]):
            need(name not in place or (is_int(place[name]) and 0 <= place[name] <= limit), "a position that is not in its block")


def _fill_bits(bits: Any, state: Any) -> Any:
    state, seeds = state if type(state) is tuple and len(state) == 2 else (state, None)
    _check_state(state)
    need(seeds is None or type(seeds) is np.random.SeedSequence, "seeds of another kind")
    if seeds is not None:
        bits = type(bits)(seeds)
    bits.state = state
    return bits


def _generator(bits: Any, _: Any = None) -> Any:
    need(type(bits) in _KINDS.values(), "no generator of bits")
    return np.random.Generator(bits)


def _random_state(bits: Any, _: Any = None) -> Any:
    need(type(bits) is np.random.MT19937, "no Mersenne twister")
    return np.random.RandomState(bits)


def _fill_random_state(generator: Any, state: Any) -> Any:
    _check_state(state)
    generator.set_state(state)
    return generator


def _seeds(kind: Any, _: Any, state: Any) -> Any:
    need(kind is np.random.SeedSequence, "no sequence of seeds")
    return np.random.SeedSequence(0) if state is None else _fill_seeds(None, state)


def _fill_seeds(_: Any, state: Any) -> Any:
    """(entropy, children, pool, size of the pool, key): the pool follows from the others."""
    need(type(state) is tuple and len(state) == 5, "not the state of seeds")
    entropy, children, _, size, key = state
    need(entropy is None or is_int(entropy) or (type(entropy) is list and are_ints(tuple(entropy), 0)), "its entropy is no integer")
    need(is_int(children) and children >= 0 and is_int(size) and 4 <= size <= 1024 and are_ints(key, 0), "not the state of seeds")
    return np.random.SeedSequence(entropy, spawn_key=key, pool_size=size, n_children_spawned=children)


_SEEDS = Entry(make=_seeds, fill=_fill_seeds)
_VALUE = Entry()

TABLE: Table = {
    ("numpy", "dtype"): Entry(make=dtype_of, fill=_fill_dtype),
    ("numpy", "ndarray"): _VALUE,
    **under(["numpy"], {k.__name__ for k in np.sctypeDict.values()}, _VALUE),
    **{
        (f"{core}.{module}", name): entry
        for core in _CORE
        for module, name, entry in (
            ("numeric", "_frombuffer", Entry(make=from_buffer)),
            ("multiarray", "_reconstruct", Entry(make=_reconstruct, fill=_fill_array, must=True)),
            ("multiarray", "scalar", Entry(make=_scalar)),
        )
    },
    ("numpy.random._pickle", "__bit_generator_ctor"): Entry(make=_bit_generator, fill=_fill_bits),
    ("numpy.random._pickle", "__generator_ctor"): Entry(make=_generator),
    ("numpy.random._pickle", "__randomstate_ctor"): Entry(make=_random_state, fill=_fill_random_state),
    ("numpy.random.bit_generator", "SeedSequence"): _VALUE,
    ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"): _SEEDS,
    **{(kind.__module__, name): _VALUE for name, kind in _KINDS.items()},
}

add_hashable(np.dtype)
