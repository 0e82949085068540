"""pandas' values, put together anew by its constructors: its own way back trusts positions and codes, and reads memory by them."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd
from pandas._libs import internals
from pandas.core.internals import managers

from . import columns
from .columns import checked, is_array, is_index
from .entry import Entry, Table, are_ints, is_int, need
from .kits import add_hashable
from .machine import check_key

_ATOMS = (int, float, str, bytes, bool, complex, type(None))
_OFFSET = pd.offsets.BaseOffset


# ---------------------------------------------------------------- indices


def _index(kind: Any, state: Any) -> Any:
    need(type(state) is dict and all(type(k) is str for k in state), "not the state of an index")
    need(kind in _INDICES, "no index of pandas' own")
    name = state.get("name")
    check_key(name)
    if kind is pd.RangeIndex:
        bounds = state.get("start"), state.get("stop"), state.get("step")
        need(are_ints(bounds), "its bounds are no integers")
        return pd.RangeIndex(*bounds, name=name)
    if kind is pd.MultiIndex:
        return _multi(state)
    values = checked(state.get("data"))
    if kind in (pd.DatetimeIndex, pd.TimedeltaIndex):
        freq = state.get("freq")
        need(freq is None or isinstance(freq, _OFFSET), "its frequency is no offset")
        return kind(values, name=name, freq=freq)
    if kind is pd.Index:
        return pd.Index(values, name=name, dtype=values.dtype, copy=False, tupleize_cols=False)
    return kind(values, name=name)


def _multi(state: dict[str, Any]) -> Any:
    levels, codes, names = state.get("levels"), state.get("codes"), state.get("names")
    need(all(isinstance(part, (list, tuple)) for part in (levels, codes, names)), "not the state of an index")
    for name in names or ():
        check_key(name)
    need(all(is_index(level) for level in levels or ()) and all(type(code) is np.ndarray for code in codes or ()), "no levels and codes")
    return pd.MultiIndex(levels=levels, codes=codes, names=names, verify_integrity=True)


def _intervals(kind: Any, state: Any) -> Any:
    need(kind is pd.IntervalIndex and type(state) is dict and state.keys() <= {"left", "right", "closed", "name"}, "no intervals")
    check_key(state.get("name"))
    return pd.IntervalIndex.from_arrays(
        checked(state.get("left")), checked(state.get("right")), closed=state.get("closed", "right"), name=state.get("name")
    )


_INDICES = frozenset(
    [pd.Index, pd.RangeIndex, pd.MultiIndex, pd.DatetimeIndex, pd.TimedeltaIndex, pd.PeriodIndex, pd.CategoricalIndex]
)  # fmt: skip

# ---------------------------------------------------------------- blocks


def _block(values: Any, placement: Any, ndim: Any) -> Any:
    need(is_array(values) and ndim in (1, 2), "its values are no array")
    if type(placement) is slice:
        need(are_ints((placement.start, placement.stop, placement.step), 0) and placement.step > 0, "no placement")
        count = len(range(placement.start, placement.stop, placement.step))
    else:
        need(type(placement) is np.ndarray and placement.dtype == np.intp and placement.ndim == 1, "no placement")
        need(placement.size == 0 or int(placement.min()) >= 0, "no placement")
        count = len(placement)
    whole = ndim == 1 or (type(values) is not np.ndarray and values.ndim == 1)
    need(values.ndim == 1 if ndim == 1 else whole or values.ndim == 2, "values of another dimension")
    need(ndim == 1 or count == (1 if whole else values.shape[0]), "values of another length than their placement")
    return internals._unpickle_block(values, placement, ndim)


def _is_block(block: Any) -> bool:
    return isinstance(block, internals.Block)


def _manager(blocks: Any, axes: Any, *more: Any) -> Any:
    need(type(blocks) is tuple and all(map(_is_block, blocks)) and type(axes) is list and len(axes) == 2, "no blocks and axes")
    need(not more and all(map(is_index, axes)), "its axes are no indices")
    places = [np.asarray(block.mgr_locs.as_array) for block in blocks]
    together = np.sort(np.concatenate(places)) if places else np.empty(0, np.intp)
    need(np.array_equal(together, np.arange(len(axes[0]))), "blocks that are not its columns")
    return managers.BlockManager(blocks, axes, verify_integrity=True)


def _single(block: Any, axis: Any, *more: Any) -> Any:
    if type(block) in (list, tuple) and len(block) == 1 and type(axis) is list and len(axis) == 1:
        block, axis = block[0], axis[0]
    need(not more and _is_block(block) and is_index(axis) and block.ndim == 1 and len(block.values) == len(axis), "no block of its index")
    return managers.SingleBlockManager(block, axis)


def _framed(kind: Any, manager: Any) -> Entry:
    """Filled in place: it may be a part of its own ``attrs``."""

    def fill(frame: Any, state: Any) -> Any:
        known = {"_mgr", "_typ", "_metadata", "attrs", "_attrs", "_flags", "_name"}
        need(type(state) is dict and state.keys() <= known and type(state.get("_mgr")) is manager, "not the state of a frame")
        need(state.get("_typ") in ("dataframe", "series") and type(state.get("attrs", {})) is dict, "not the state of a frame")
        flags = state.get("_flags", {})
        need(type(flags) is dict and flags.keys() <= {"allows_duplicate_labels"}, "unknown flags")
        need(state.get("_metadata", []) in ([], ["_name"]), "unknown attributes")
        check_key(state.get("_name"))
        frame.__setstate__(dict(state))
        return frame

    return Entry(new=lambda: kind.__new__(kind), fill=fill, must=True)


# ---------------------------------------------------------------- single values

_UNITS = range(7, 11)  # s, ms, us, ns


def _timestamp(value: Any, freq: Any, zone: Any = None, unit: Any = 10) -> Any:
    need(is_int(value) and freq is None and (zone is None or isinstance(zone, datetime.tzinfo)) and unit in _UNITS, "no time")
    from pandas._libs.tslibs import timestamps

    return timestamps._unpickle_timestamp(value, None, zone, unit)


def _timedelta(value: Any, unit: Any) -> Any:
    need(is_int(value) and unit in _UNITS, "no span of time")
    from pandas._libs.tslibs import timedeltas

    return timedeltas._timedelta_unpickle(value, unit)


def _period(value: Any, freq: Any, ordinal: Any) -> Any:
    need(value is None and isinstance(freq, _OFFSET) and is_int(ordinal), "no period")
    return pd.Period(ordinal=ordinal, freq=freq)


def _interval(left: Any, right: Any, closed: Any) -> Any:
    known = (int, float, pd.Timestamp, pd.Timedelta)
    need(all(type(side) in known or isinstance(side, np.number) for side in (left, right)), "its bounds are no numbers")
    return pd.Interval(left, right, closed)


def _offset(kind: Any) -> Entry:
    def make(*args: Any) -> Any:
        need(all(type(a) in _ATOMS for a in args), "its arguments are no plain values")
        return kind(*args)

    return Entry(make=make)


_MASKED = ("IntegerArray", "FloatingArray", "BooleanArray")
_NUMBERS = [f"{u}Int{n}Dtype" for u in ("", "U") for n in (8, 16, 32, 64)] + ["Float32Dtype", "Float64Dtype", "BooleanDtype"]
_ANY = ("pandas", "pandas.arrays")


def _dtype_of(name: str) -> Entry:
    return Entry(make=lambda: getattr(pd, name)(), new=lambda: getattr(pd, name)())


def _named() -> Table:
    """Classes under all names that a pandas gives them."""
    found: Table = {}

    def add(kind: Any, entry: Entry) -> None:
        for module in {*_ANY, kind.__module__}:
            target = Entry(entry.make, entry.new, entry.fill, entry.must, kind)
            found[module, kind.__qualname__] = target

    for kind in (*_INDICES, *columns.BACKED, pd.IntervalIndex):
        add(kind, Entry())
    for name in _MASKED:
        add(getattr(pd.arrays, name), columns.parts_of(getattr(pd.arrays, name), columns.masked))
    for name in ("ArrowStringArray", "ArrowExtensionArray"):
        add(getattr(pd.arrays, name), columns.parts_of(getattr(pd.arrays, name), columns.of_arrow))
    for name in _NUMBERS:
        add(getattr(pd, name), _dtype_of(name))
    add(pd.CategoricalDtype, columns.parts_of(pd.CategoricalDtype, columns.category_type))
    add(pd.DatetimeTZDtype, columns.parts_of(pd.DatetimeTZDtype, columns.zoned_type))
    add(pd.IntervalDtype, columns.parts_of(pd.IntervalDtype, columns.interval_type))
    add(pd.ArrowDtype, columns.parts_of(pd.ArrowDtype, columns.arrow_type))
    add(pd.PeriodDtype, Entry(make=lambda text: pd.PeriodDtype(_text(text))))
    add(pd.StringDtype, Entry(make=columns.string_type))
    add(pd.DataFrame, _framed(pd.DataFrame, managers.BlockManager))
    add(pd.Series, _framed(pd.Series, managers.SingleBlockManager))
    add(pd.Period, Entry(make=_period))
    add(pd.Interval, Entry(make=_interval))
    return found


def _text(value: Any) -> str:
    need(type(value) is str, "no text")
    return str(value)


_OFFSETS = (
    "Day Hour Minute Second Milli Micro Nano MonthEnd MonthBegin QuarterEnd QuarterBegin YearEnd YearBegin Week SemiMonthEnd "
    "SemiMonthBegin BusinessMonthEnd BusinessMonthBegin BQuarterEnd BQuarterBegin BYearEnd BYearBegin"
)

TABLE: Table = {
    **_named(),
    ("pandas", "NA"): Entry(target=pd.NA),
    ("pandas._libs.missing", "NA"): Entry(target=pd.NA),
    ("pandas.core.indexes.base", "_new_Index"): Entry(make=_index),
    ("pandas.core.indexes.datetimes", "_new_DatetimeIndex"): Entry(make=_index),
    ("pandas.core.indexes.timedeltas", "_new_TimedeltaIndex"): Entry(make=_index),
    ("pandas.core.indexes.interval", "_new_IntervalIndex"): Entry(make=_intervals),
    ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"): Entry(make=columns.backed, fill=columns.fill_backed, must=True),
    ("pandas._libs.internals", "_unpickle_block"): Entry(make=_block),
    ("pandas.core.internals.managers", "BlockManager"): Entry(make=_manager),
    ("pandas.core.internals.managers", "SingleBlockManager"): Entry(make=_single),
    ("pandas._libs.tslibs.timestamps", "_unpickle_timestamp"): Entry(make=_timestamp),
    ("pandas._libs.tslibs.timedeltas", "_timedelta_unpickle"): Entry(make=_timedelta),
    ("pandas._libs.tslibs.nattype", "_nat_unpickle"): Entry(make=lambda *args: pd.NaT),
    **{
        (module, name): _offset(getattr(pd.offsets, name))
        for name in _OFFSETS.split()
        for module in ("pandas._libs.tslibs.offsets", "pandas._libs.tslibs.ctime")
    },
}

add_hashable(pd.Timestamp, pd.Timedelta, pd.Period, pd.Interval, type(pd.NA), type(pd.NaT))
