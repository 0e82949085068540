"""numpy, pandas, polars, pyarrow and sparse matrices."""

from kind import Kind, refused, value

_NP = "import numpy as np; "
_PD = "import numpy as np, pandas as pd; "
_PL = "import polars as pl; "
_PA = "import pyarrow as pa; "
_SP = "import numpy as np, scipy.sparse as sp; "


def array(name: str, make: str, change: str = "x.flat[0] = x.flat[-1]", look: str = "look(x)", stays: bool = True) -> Kind:
    return Kind("numpy: " + name, _NP + make, change, look, "numpy", stays)


def frame(name: str, make: str, change: str, look: str = "look(x)", stays: bool = True) -> Kind:
    return Kind("pandas: " + name, _PD + make, change, look, "pandas", stays)


NUMPY = [
    array("float64", "x = np.arange(3000.)", "x[5] = -1"),
    array("Fortran order", "x = np.asfortranarray(np.arange(12.).reshape(3, 4))", "x[0, 1] = 9"),
    array("strided view", "x = np.arange(40)[::3]", "x[1] = 99", "look(x.copy())"),
    array("transposed", "x = np.arange(6.).reshape(2, 3).T", "x[0, 1] = 9"),
    array("0-d", "x = np.array(5)", "x[()] = 6"),
    array("empty", "x = np.zeros((0, 3))", "x = np.zeros((1, 3))", stays=False),
    array("zero stride", "x = np.broadcast_to(np.arange(3), (4, 3))", "x = x + 1", "(x.tolist(), x.shape)", stays=False),
    array("structured", "x = np.array([(1, 2.5, b'ab'), (3, 4.5, b'c')], dtype=[('a', 'i4'), ('b', 'f8'), ('c', 'S3')])", "x['b'][1] = 7"),
    array("record array", "x = np.rec.array([(1, 2.)], dtype=[('a', 'i4'), ('b', 'f8')])", "x.b[0] = 9", "(look(x), x.a.tolist())"),
    array("objects", "x = np.array([[1], {'a': 2}, None], dtype=object)", "x[0].append(2); x[2] = 'z'"),
    array("strings", "x = np.array(['a', 'bcd'])", "x[0] = 'zz'"),
    array("variable strings", "x = np.array(['a', 'b' * 50], dtype=np.dtypes.StringDType())", "x[0] = 'zz'", "x.tolist()"),
    array(
        "datetime64",
        "x = np.array(['2020-01-01', 'NaT'], dtype='M8[us]')",
        "x[1] = np.datetime64('2021-01-01')",
        "(str(x.dtype), repr(x.tolist()))",
    ),
    array("bool and complex", "x = np.array([1j, np.nan])", "x[0] = 2"),
    array("big endian", "x = np.arange(4, dtype='>i4')", "x[0] = 9"),
    array("float16 and longdouble", "x = np.arange(4, dtype='f2')", "x[0] = 9"),
    array("read-only", "x = np.arange(3000.); x.flags.writeable = False", "x = x + 1", "(x.tolist(), x.dtype.str)", stays=False),
    array(
        "memmap",
        "import tempfile; x = np.memmap(tempfile.TemporaryFile(), dtype='f8', shape=(10,), mode='w+')",
        "x[1] = 5",
        "np.asarray(x).tolist()",
        stays=False,
    ),
    array("masked", "x = np.ma.masked_array([1., 2., 3.], mask=[0, 1, 0])", "x[0] = 9", stays=True),
    array(
        "matrix",
        "import warnings; warnings.simplefilter('ignore'); x = np.matrix([[1, 2], [3, 4]])",
        "x[0, 0] = 9",
        "(type(x).__name__, x.tolist())",
    ),
    value(
        "numpy: scalars",
        _NP + "x = (np.float32(1.5), np.int8(-3), np.datetime64('2020', 'Y'), np.bool_(True), np.str_('a'))",
        "x = x[::-1]",
        "[(type(v).__name__, repr(v)) for v in x]",
        "numpy",
    ),
    value(
        "numpy: dtypes and ufuncs",
        _NP + "x = (np.dtype('M8[ms]'), np.dtype([('a', '<i2')]), np.add, np.sin, np.float64)",
        "x = x[::-1]",
        "[repr(v) for v in x]",
        "numpy",
    ),
    array("Generator", "x = np.random.default_rng(3)", "x.random(5)", "repr(x.bit_generator.state)"),
    array(
        "RandomState", "x = np.random.RandomState(3)", "x.rand(5)", "(int(x.get_state()[2]), x.get_state()[1].tolist()[:5])", stays=False
    ),
    array(
        "view and its base",
        "b = np.arange(3000.); x = [b, b[10:2000]]",
        "x[1][0] = -5",
        "(look(x[0]), x[1].tolist(), np.shares_memory(*x))",
    ),
    array(
        "views of one matrix",
        "m = np.zeros((50, 60)); x = {'m': m, 'row': m[3], 'col': m[:, 4], 't': m.T}",
        "x['row'][4] = 7",
        "(x['m'].sum(), x['col'][3], x['t'][4, 3], np.shares_memory(x['row'], x['m']))",
    ),
    array("polynomial", "x = np.polynomial.Polynomial([1, 2, 3])", "x.coef[0] = 9", "x.coef.tolist()"),
    array(
        "subclass of the notebook",
        "\nclass A(np.ndarray): pass\nx = np.arange(3.).view(A)",
        "x[0] = 9",
        "(type(x).__name__, x.tolist())",
        stays=True,
    ),
    array(
        "nditer-free dict of arrays",
        "x = {k: np.full(2000, i) for i, k in enumerate('abc')}",
        "x['a'][:] = 9; x['d'] = x['a']",
        "({k: look(v) for k, v in x.items()}, x.get('d') is x['a'])",
    ),
]

PANDAS = [
    frame("numbers", "x = pd.DataFrame(np.arange(12.).reshape(4, 3), columns=list('abc'))", "x['d'] = x.a * 2"),
    frame("objects", "x = pd.DataFrame({'o': pd.Series(['a', None, 1.5, [1]], dtype=object)})", "x.loc[0, 'o'] = 'z'"),
    frame("strings", "x = pd.DataFrame({'s': ['a', None, 'ccc'] * 700})", "x.loc[1, 's'] = 'new'"),
    frame(
        "python strings by the thousand",
        "x = pd.DataFrame({'s': pd.Series([f'w{i}' for i in range(3000)] + [None, float('nan')], dtype=object)})",
        "x.loc[1, 's'] = 'new'",
    ),
    frame(
        "string storage",
        "x = pd.DataFrame({'p': pd.Series(['a', pd.NA], dtype=pd.StringDtype('python')), 'd': ['a', 'b']})",
        "x.loc[0, 'p'] = 'z'",
    ),
    frame(
        "categorical",
        "x = pd.DataFrame({'c': pd.Categorical(['a', 'b', 'a'], categories=['b', 'a', 'z'], ordered=True)})",
        "x.loc[0, 'c'] = 'z'",
    ),
    frame(
        "time zones", "x = pd.DataFrame({'t': pd.date_range('2024-03-30', periods=3, tz='Europe/Vienna')})", "x['t'] += pd.Timedelta('1D')"
    ),
    frame(
        "nullable",
        "x = pd.DataFrame({'i': pd.array([1, None], dtype='Int64'), 'b': pd.array([True, None], dtype='boolean'), 'f': pd.array([1.5, None], dtype='Float32')})",
        "x.loc[1, 'i'] = 5",
    ),
    frame(
        "period, interval, timedelta",
        "x = pd.DataFrame({'p': pd.period_range('2020', periods=2, freq='M'), 'i': pd.interval_range(0, 2), 'd': pd.to_timedelta([1, 2], 's')})",
        "x = x.iloc[::-1]",
        stays=False,
    ),
    frame("sparse", "x = pd.DataFrame({'s': pd.arrays.SparseArray([0, 0, 1])})", "x['t'] = 1"),
    frame(
        "MultiIndex",
        "x = pd.DataFrame({'v': range(4)}, index=pd.MultiIndex.from_product([['a', 'b'], [1, 2]], names=['k', 'n']))",
        "x.loc[('a', 1), 'v'] = 9",
    ),
    frame(
        "MultiIndex in columns", "x = pd.DataFrame(np.eye(2), columns=pd.MultiIndex.from_tuples([('a', 1), ('b', 2)]))", "x[('c', 3)] = 5"
    ),
    frame(
        "DatetimeIndex with a frequency",
        "x = pd.DataFrame({'v': [1, 2, 3]}, index=pd.date_range('2020', periods=3, freq='D'))",
        "x.iloc[0, 0] = 9",
    ),
    frame("duplicate columns", "x = pd.DataFrame([[1, 2.], [3, 4.]], columns=['a', 'a'])", "x.iloc[0, 0] = 9"),
    frame(
        "attrs and flags",
        "x = pd.DataFrame({'a': [1]}).set_flags(allows_duplicate_labels=False); x.attrs['k'] = [1]",
        "x.attrs['k'].append(2)",
        "(look(x), x.flags.allows_duplicate_labels)",
    ),
    frame("empty", "x = pd.DataFrame({'a': pd.Series(dtype='i4')})", "x.loc[0] = 1"),
    frame("slice of a frame", "b = pd.DataFrame({'a': range(10), 'b': 1.5}); x = b[2:5]", "x = x.assign(c=1)", stays=False),
    frame(
        "a frame and its column",
        "d = pd.DataFrame({'a': [1., 2.]}); x = [d, d['a'], d.copy()]",
        "x[0].loc[0, 'a'] = 9",
        "[look(v) for v in x]",
    ),
    frame("Series", "x = pd.Series([1, 2, 3], index=list('abc'), name='s')", "x['b'] = 9; x['z'] = 1"),
    frame(
        "Index kinds",
        "x = [pd.RangeIndex(3, name='r'), pd.Index(['a', 'b']), pd.CategoricalIndex(['u']), pd.DatetimeIndex(['2020']), pd.IntervalIndex.from_breaks([0, 1])]",
        "x.append(pd.Index([1.5]))",
        "[look(v) for v in x]",
    ),
    value(
        "pandas: Timestamp, Timedelta, NA",
        _PD
        + "x = (pd.Timestamp('2024-10-27 02:30', tz='UTC'), pd.Timedelta('1h'), pd.NA, pd.NaT, pd.Period('2020-01'), pd.Interval(0, 1))",
        "x = x[::-1]",
        "([repr(v) for v in x], sum(v is pd.NA for v in x), sum(v is pd.NaT for v in x))",
        "pandas",
    ),
    frame(
        "extension arrays",
        "x = [pd.array([1, None]), pd.Categorical(['a']), pd.array(['x'], dtype='string')]",
        "x[0][0] = 5",
        "[(str(a.dtype), repr(a.tolist())) for a in x]",
    ),
    frame(
        "GroupBy and rolling",
        "x = pd.DataFrame({'k': [1, 1, 2], 'v': [1., 2., 3.]}).groupby('k')",
        "x = x.obj.groupby('v')",
        "x.size().to_dict()",
        stays=False,
    ),
    frame(
        "subclass of the notebook",
        "\nclass F(pd.DataFrame):\n    _metadata = ['tag']\n    @property\n    def _constructor(self): return F\nx = F({'a': [1]}); x.tag = 't'",
        "x['b'] = 2",
        "(type(x).__name__, x.tag, x.to_dict())",
    ),
    Kind(
        "pandas: Arrow columns",
        _PD
        + "import pyarrow as pa; x = pd.DataFrame({'l': pd.Series([[1], [2, 3]], dtype=pd.ArrowDtype(pa.list_(pa.int64()))), 's': pd.Series(['a', None], dtype='string[pyarrow]'), 'i': pd.Series([1, None], dtype='int32[pyarrow]')})",
        "x.loc[0, 'i'] = 7",
        "(str(x.dtypes.to_dict()), repr(x.to_dict('list')))",
        "pyarrow",
    ),
]

POLARS = [
    value(
        "polars: frame",
        _PL + "x = pl.DataFrame({'a': [1, None], 's': ['x', 'y'], 'l': [[1], []], 'd': [{'u': 1}, {'u': 2}]})",
        "x = x.with_columns(b=pl.lit(1))",
        needs="polars",
    ),
    value(
        "polars: categorical, enum, decimal, time",
        _PL
        + "import datetime as d, decimal; x = pl.DataFrame({'c': pl.Series(['a', 'b'], dtype=pl.Categorical), 'e': pl.Series(['u', 'v'], dtype=pl.Enum(['u', 'v', 'w'])), 't': [d.datetime(2020, 1, 1, tzinfo=d.timezone.utc)] * 2, 'n': [decimal.Decimal('1.25')] * 2})",
        "x = x[1:]",
        needs="polars",
    ),
    Kind(
        "polars: frame changed in place",
        _PL + "x = pl.DataFrame({'a': [1, 2]})",
        "x.insert_column(1, pl.Series('b', [3, 4])); x[0, 'a'] = 9",
        needs="polars",
    ),
    value("polars: Series", _PL + "x = pl.Series('n', [1.5, None] * 900)", "x = x * 2", needs="polars"),
    value(
        "polars: LazyFrame and Expr",
        _PL + "x = (pl.DataFrame({'a': [1, 2]}).lazy().filter(pl.col('a') > 1), pl.col('a') + 1)",
        "x = (x[0].with_columns(b=x[1]), x[1])",
        "(str(x[0].collect().rows()), str(x[1]))",
        "polars",
    ),
    value(
        "polars: dtypes",
        _PL + "x = [pl.Int8(), pl.List(pl.String), pl.Datetime('us', 'UTC')]",
        "x = x[::-1]",
        "[str(t) for t in x]",
        "polars",
    ),
    value(
        "pyarrow: table",
        _PA + "x = pa.table({'a': list(range(3000)), 's': ['x'] * 3000})",
        "x = x.append_column('b', pa.array([1.5] * 3000))",
        needs="pyarrow",
    ),
    value(
        "pyarrow: arrays",
        _PA
        + "x = [pa.array([1, None]), pa.array([['a'], []]), pa.array(['a', 'b', 'a']).dictionary_encode(), pa.chunked_array([[1], [2]]), pa.array(range(99999)).slice(5, 3)]",
        "x = [*x, pa.array([{'a': 1}])]",
        "[look(a) for a in x]",
        "pyarrow",
    ),
    value(
        "pyarrow: batch, schema, scalar, types",
        _PA
        + "x = [pa.record_batch({'a': [1]}), pa.schema([pa.field('a', pa.int8(), metadata={'k': 'v'})]), pa.scalar(5), pa.timestamp('us', 'UTC')]",
        "x = [*x, pa.null()]",
        "[str(v) for v in x]",
        "pyarrow",
    ),
    value(
        "pyarrow: with metadata",
        _PA + "x = pa.table({'a': [1]}).replace_schema_metadata({'k': 'v'})",
        "x = x.replace_schema_metadata({'k': 'w'})",
        "(str(x.schema.metadata), look(x))",
        "pyarrow",
    ),
]

SPARSE = [
    Kind(f"scipy.sparse: {name}", _SP + f"x = sp.{name}(np.eye(3))", change, "(type(x).__name__, x.toarray().tolist())", "scipy", stays)
    for name, change, stays in [
        ("csr_matrix", "x[0, 0] = 5", True),
        ("csc_array", "x[0, 0] = 5", True),
        ("coo_array", "x.data[0] = 5", True),
        ("lil_matrix", "x[0, 1] = 5", True),
        ("dok_array", "x[0, 1] = 5", True),
        ("bsr_array", "x.data *= 2", True),
        ("dia_array", "x = x * 2", False),
    ]
]

KINDS = [
    *NUMPY,
    *PANDAS,
    *POLARS,
    *SPARSE,
    refused("numpy: array with a generator in it", _NP + "x = np.array([(i for i in 'a'), 1], dtype=object)", "numpy"),
]
