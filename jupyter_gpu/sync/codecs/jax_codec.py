"""jax: arrays with their bytes out of band, in any dtype, and spread over devices as they were where there are as many."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .base import Route

if TYPE_CHECKING:
    from ..pickler import Pickler

trusted = frozenset({"jupyter_gpu.sync.codecs.jax_codec:load_array", "jupyter_gpu.sync.codecs.jax_codec:load_key"})

#: Shape of the mesh, names of its axes, and for each axis of the array those that it is spread over.
Spread = tuple[tuple[int, ...], tuple[str, ...], tuple[Any, ...]]


def route_of(kind: type, pickler: Pickler) -> Route | None:
    jax = sys.modules.get("jax")
    if jax is None or not issubclass(kind, jax.Array) or issubclass(kind, jax.core.Tracer):
        return None
    return _reduce_array


def _reduce_array(_: Pickler, array: Any) -> Any:
    import jax
    import numpy as np

    if array.is_deleted() or not array.is_fully_addressable:
        return NotImplemented  # jax says why
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        return load_key, (np.asarray(jax.random.key_data(array)), str(jax.random.key_impl(array)))
    if array.weak_type:
        return NotImplemented  # results of Python's numbers, mostly scalars: nobody but jax can make one
    values = np.asarray(array)
    # ml_dtypes are none of the buffer protocol's
    raw = values if values.dtype.isbuiltin == 1 else np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return load_array, (raw, values.shape, values.dtype.name, _spread_of(array))


def _spread_of(array: Any) -> Spread | None:
    sharding = array.sharding
    if len(sharding.device_set) < 2 or not hasattr(sharding, "mesh"):
        return None
    mesh = sharding.mesh
    return tuple(mesh.devices.shape), tuple(mesh.axis_names), tuple(sharding.spec)


def load_key(data: Any, how: str) -> Any:
    import jax

    return jax.random.wrap_key_data(jax.numpy.asarray(data), impl=how)


def load_array(raw: Any, shape: tuple[int, ...], dtype: str, spread: Spread | None) -> Any:
    import jax
    import numpy as np

    values = np.asarray(raw)
    if values.dtype.name != dtype:
        values = values.view(jax.numpy.dtype(dtype)).reshape(shape)
    return jax.device_put(np.array(values), _sharding(spread)) if spread is not None else jax.numpy.array(values)


def _sharding(spread: Spread) -> Any:
    """None where this end has not as many devices."""
    import jax
    import numpy as np

    shape, names, spec = spread
    count = int(np.prod(shape))
    devices = jax.devices()
    if len(devices) < count:
        return None
    return jax.sharding.NamedSharding(jax.sharding.Mesh(np.array(devices[:count]).reshape(shape), names), jax.sharding.PartitionSpec(*spec))
