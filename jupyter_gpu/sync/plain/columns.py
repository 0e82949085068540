"""pandas' arrays and their types, by the constructors that check: codes that are no categories, masks of another length."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd

from .entry import Entry, Refused, need
from .machine import check_key

DTYPES = (np.dtype, pd.api.extensions.ExtensionDtype)


def is_array(values: Any) -> bool:
    return type(values) is np.ndarray or isinstance(values, pd.api.extensions.ExtensionArray)


def is_index(values: Any) -> bool:
    return isinstance(values, pd.Index)


def checked(values: Any) -> Any:
    """What labels may be: objects among them are hashed."""
    need(is_array(values) or is_index(values), "its labels are no array")
    if values.dtype == object:
        for label in np.asarray(values).ravel().tolist():
            check_key(label)
    return values


# ---------------------------------------------------------------- arrays over memory


class _Backed:
    """An array before its state came."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind


def backed(kind: Any, _: Any = None, state: Any = None) -> Any:
    need(kind in BACKED, "no array of pandas' own")
    return _Backed(kind) if state is None else fill_backed(_Backed(kind), state)


def fill_backed(old: Any, state: Any) -> Any:
    """(type, memory) in either order, and attributes."""
    if type(old) is not _Backed:
        raise Refused("the state of an array", "it came twice")
    need(type(state) is tuple and len(state) in (2, 3), "not the state of an array")
    first, second = state[:2]
    values, dtype = (first, second) if type(first) is np.ndarray else (second, first)
    need(type(values) is np.ndarray and isinstance(dtype, DTYPES), "no type and memory")
    attributes = state[2] if len(state) == 3 else {}
    need(type(attributes) is dict and attributes.keys() <= {"_readonly", "_freq", "_cache"}, "unknown attributes")
    made = BACKED[old.kind](values, dtype)
    if attributes.get("_readonly") is True:
        made._readonly = True
    return made


def _datetimes(values: Any, dtype: Any) -> Any:
    zoned = isinstance(dtype, pd.DatetimeTZDtype)
    need(values.dtype.kind == "M" and (zoned or dtype == values.dtype), "its memory is no times")
    need(not zoned or values.dtype == np.dtype(f"M8[{dtype.unit}]"), "its memory is of another unit")
    return pd.arrays.DatetimeArray._simple_new(values, dtype=dtype)


def _timedeltas(values: Any, dtype: Any) -> Any:
    need(values.dtype.kind == "m" and dtype == values.dtype, "its memory is no spans of time")
    return pd.arrays.TimedeltaArray._simple_new(values, dtype=dtype)


def _periods(values: Any, dtype: Any) -> Any:
    need(values.dtype == np.int64 and isinstance(dtype, pd.PeriodDtype), "its memory is no periods")
    return pd.arrays.PeriodArray(values, dtype=dtype)


def _categorical(values: Any, dtype: Any) -> Any:
    need(values.dtype.kind == "i" and isinstance(dtype, pd.CategoricalDtype) and dtype.categories is not None, "no codes")
    return pd.Categorical.from_codes(values, dtype=dtype, validate=True)


BACKED: dict[Any, Any] = {
    pd.arrays.DatetimeArray: _datetimes,
    pd.arrays.TimedeltaArray: _timedeltas,
    pd.arrays.PeriodArray: _periods,
    pd.Categorical: _categorical,
    pd.arrays.StringArray: lambda values, dtype: pd.array(_strings(values), dtype=dtype),
    pd.arrays.NumpyExtensionArray: lambda values, dtype: pd.arrays.NumpyExtensionArray(values),
}


def _strings(values: Any) -> Any:
    need(values.dtype == object, "its memory is no strings")
    return values


# ---------------------------------------------------------------- arrays of parts


class _Parts:
    """An array, a type or a frame before its state came."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind


def parts_of(kind: Any, make: Any) -> Entry:
    def fill(old: Any, state: Any) -> Any:
        if type(old) is not _Parts:
            raise Refused(f"pandas.{kind.__name__}", "its state came twice")
        need(type(state) is dict and all(type(k) is str for k in state), "its state is no dict")
        return make(kind, state)

    return Entry(new=lambda: _Parts(kind), fill=fill, must=True)


def masked(kind: Any, state: dict[str, Any]) -> Any:
    need(state.keys() <= {"_data", "_mask", "_dtype", "_cache", "_readonly"} and _are_arrays(state, "_data", "_mask"), "no values and mask")
    need(state["_mask"].dtype == np.bool_ and state["_data"].shape == state["_mask"].shape, "a mask of another shape")
    return kind(state["_data"], state["_mask"])


def _are_arrays(state: dict[str, Any], *names: str) -> bool:
    return all(type(state.get(n)) is np.ndarray for n in names)


def of_arrow(kind: Any, state: dict[str, Any]) -> Any:
    import pyarrow as pa

    need(
        state.keys() <= {"_pa_array", "_dtype", "_cache", "_readonly"} and isinstance(state.get("_pa_array"), (pa.Array, pa.ChunkedArray)),
        "no array",
    )
    if kind is pd.arrays.ArrowStringArray:
        dtype = state.get("_dtype")
        need(dtype is None or type(dtype) is pd.StringDtype, "no type of strings")
        return pd.array(kind(state["_pa_array"]), dtype=dtype) if dtype is None else kind(state["_pa_array"], dtype=dtype)
    return kind(state["_pa_array"])


def category_type(kind: Any, state: dict[str, Any]) -> Any:
    categories = state.get("categories")
    need(categories is None or is_index(categories), "its categories are no index")
    return pd.CategoricalDtype(None if categories is None else checked(categories), ordered=state.get("ordered") is True)


def arrow_type(kind: Any, state: dict[str, Any]) -> Any:
    import pyarrow as pa

    need(isinstance(state.get("pyarrow_dtype"), pa.DataType), "no type of Arrow's")
    return pd.ArrowDtype(state["pyarrow_dtype"])


def zoned_type(kind: Any, state: dict[str, Any]) -> Any:
    need(type(state.get("unit")) is str and isinstance(state.get("tz"), datetime.tzinfo), "no unit and zone")
    return pd.DatetimeTZDtype(state["unit"], state["tz"])


def interval_type(kind: Any, state: dict[str, Any]) -> Any:
    need(isinstance(state.get("subtype"), DTYPES), "no type of bounds")
    return pd.IntervalDtype(state["subtype"], state.get("closed"))


def string_type(*args: Any) -> Any:
    need(all(type(a) is str or a is pd.NA or (type(a) is float and a != a) for a in args), "no storage and missing value")
    return pd.StringDtype(*args)
