"""Which names a cell needs: more than 150 cells, each compared with what the cell really looked up when it ran.

The truth is measured, not written down: a cell runs in a namespace that notes every name that was asked for. None may be missed;
sent needlessly is what a branch not taken would have read, and the like.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import contextlib
import inspect
import sys
from typing import Any

import pytest

from jupyter_gpu.sync.names import analyze
from jupyter_gpu.sync.replica import Replica

SETUP = """
import math, json, functools, contextlib, dataclasses, typing, asyncio, collections, itertools, string, operator, os
a, b, c, k, n, limit, flag = 1, 2, 3, 4, 5, 10, True
x, y, z = 1.5, 2.5, 3.5
xs, ys, words = [3, 1, 2], [4, 5, 6], ['one', 'two']
d, deep, s, t = {'p': 1, 'q': 2}, {'m': {'n': [1, 2]}}, 'text', (1, 2, 3)
unit, scale, rate, offset = 2, 3, 4, 5
def plain(v): return v
def scaled(v): return v * scale
def outer(v): return scaled(v) + offset
def defaults(v=n): return v
def late(): return rate
def recursive(v): return 0 if v <= 0 else recursive(v - unit)
def even(v): return True if v == 0 else odd(v - 1)
def odd(v): return False if v == 0 else even(v - 1)
def bump():
    global counter
    counter += 1
counter = 0
def closure(v):
    def inner(w): return v + w + offset
    return inner
add = closure(1)
def deco(f):
    @functools.wraps(f)
    def wrapper(*args, **kw): return f(*args, **kw) * scale
    return wrapper
@deco
def decorated(v): return v + unit
def gen():
    for v in xs: yield v * rate
async def acall(v): return v + offset
async def agen():
    for v in ys: yield v
class Base:
    size = unit
    def area(self): return self.size * scale
class Child(Base):
    def area(self): return super().area() + offset
class Manager:
    def __enter__(self): return unit
    def __exit__(self, *exc): return False
class AManager:
    async def __aenter__(self): return rate
    async def __aexit__(self, *exc): return False
class Prop:
    @property
    def value(self): return rate
    @staticmethod
    def still(v): return v + offset
    @classmethod
    def make(cls): return cls()
class Box:
    def __init__(self): self.v = 1; self.items = [1, 2]
    def __getitem__(self, i): return self.items[i]
    def __setitem__(self, i, v): self.items[i] = v
    def __iadd__(self, o): self.v += o; return self
    def __call__(self): return self.v + limit
@dataclasses.dataclass
class Point:
    px: int = 0
    py: int = unit
point, box, base, child, prop = Point(1, 2), Box(), Base(), Child(), Prop()
part = functools.partial(scaled, 2)
tools = {'f': [late], 'g': lambda v: v + limit}
methods = [child.area, prop.still]
class Meta(type):
    def __new__(m, name, bases, ns): ns['tag'] = unit; return super().__new__(m, name, bases, ns)
class Unused: pass
unused1, unused2, unused3 = [0] * 3
def unused_function(): return unused1
source, expression = 'made = a + b', 'a * c'
id_, list_ = 7, [8]
"""

#: Cells of plain Python. One to a paragraph.
CELLS = """
pass

a

a + b

r = a + b

a = 5

a = a + 1

a += 1

xs.append(a)

xs[0] = b

xs[a:b] = ys

d['p'] += c

box.v = n

box.v += n

box[0] = a

box += 1

point.px, point.py = ys[:2]

del xs

del xs[0]

del d['p']

del box.v

r = [v for v in xs]

r = [v * k for v in xs if v > a]

r = {v: k for v in xs}

r = {v for v in words}

r = sum(v for v in gen())

r = [[v + w for w in ys] for v in xs]

r = [(v, w) for v in xs for w in ys if w > k]

r = [a for a in xs]

a = [a for _ in xs]

r = (m := n) + m

if (m := len(xs)) > limit: r = m

[last := v for v in xs]

while (counter := counter + 1) < limit: pass

f'{a}'

f'{a:{k}d}'

f'{d["p"]!r:>{n}}'

f"{x:.2f} {plain(y)}"

f'{[v + unit for v in xs]}'

def local(v): return v + k
local(a)

def local(v=a): return v

def local(v): return v + k

def local(v: int = k) -> float: return v
local()

def local():
    global made
    made = k
local()

def local():
    def inner():
        return rate
    return inner
local()()

def local():
    v = a
    def inner():
        nonlocal v
        v += unit
        return v
    return inner()
local()

def local(*args, **kw): return args, kw
local(*xs, **d)

f = lambda v: v * scale

f = lambda v=k: v

r = (lambda v: v + offset)(a)

plain(a)

scaled(a)

outer(a)

defaults()

late()

recursive(n)

even(4)

bump()

add(2)

decorated(1)

list(gen())

child.area()

base.area()

Child().area()

prop.value

prop.still(1)

Prop.make()

box()

part()

tools['f'][0]()

tools['g'](1)

[m() for m in methods[:1]]

Point(3)

dataclasses.replace(point, px=9)

class Local: pass

class Local(Base): pass

class Local(Base):
    def area(self): return super().area() * rate
Local().area()

class Local:
    v = k
    w = [v for v in xs]

class Local:
    v = a
    def get(self): return self.v + b
Local().get()

class Local(metaclass=Meta): pass

class Local:
    n = n

class Local:
    @property
    def v(self): return unit
Local().v

@deco
def local(v): return v
local(2)

@functools.lru_cache(maxsize=n)
def local(v): return v + scale
local(1)

@dataclasses.dataclass
class Local:
    v: int = k

for v in xs: r = v + a

for i, v in enumerate(words): d[v] = i

for v in xs:
    pass
else:
    r = c

for xs[0] in ys: pass

while flag: flag = False

if flag: r = a

r = a if flag else b

r = flag and a

r = x < y < z

with Manager() as m: r = m

with Manager() as box.v: pass

with contextlib.suppress(KeyError): d['none']

with contextlib.ExitStack() as stack: stack.enter_context(Manager())

try:
    d['none']
except KeyError as error:
    r = str(error)

try:
    r = a
finally:
    s = b

try:
    raise ValueError(s)
except (ValueError, KeyError): r = c

assert a < limit, s

import math

import os.path

import collections as col
col.Counter(words)

from math import pi

from math import *
r = pi * a

r = math.floor(x)

json.dumps(d)

match a:
    case 1: r = b
    case _: pass

match d:
    case {'p': p, **rest}: r = p

match point:
    case Point(px=px): r = px

match xs:
    case [first, *rest]: r = first

match a:
    case 1 if flag: r = 1

match t:
    case (1, second, _) | [1, second, _]: r = second

first, *rest = xs

(p, q), r = (a, b), c

p = q = a

[p, q] = xs[:2]

*head, tail = [*xs, *ys]

r = [*xs, a]

r = {**d, 'z': k}

r = (*t, n)

r = max(*xs, key=lambda v: v * unit)

sorted(xs, key=plain)

list(map(scaled, xs))

list(filter(lambda v: v > a, xs))

functools.reduce(operator.add, xs, k)

r = xs[a:b:None]

r = deep['m']['n'][a]

r = s.upper().lower()

r = words[0][0]

r = a @ b if False else None

r = -n

r = not flag

r = a == 1 or b

r: int = a

r: int

v: typing.List[int] = xs

print(a, b, sep=s)

len(xs)

list = [1]
list

sum = a
sum

id = id_
id

max = plain
max(a)

str(a) + str(b)

isinstance(child, Base)

type(box)()

getattr(box, 'v')

setattr(box, 'v', k)

hasattr(box, s)

eval('a + b')

eval(expression)

exec('made = c')

exec(source)

globals()['made'] = a

globals()['k']

vars()['n']

await acall(a)

r = await asyncio.sleep(0, k)

r = [v async for v in agen()]

async with AManager() as m: r = m

async for v in agen(): r = v

r = [await acall(v) for v in xs]

r = await asyncio.gather(acall(1), acall(b))

async def local(v): return v + rate
await local(1)

def local():
    yield from xs
list(local())

def local(v):
    if v: return local(v - 1) + unit
    return 0
local(2)

def local():
    import string
    return string.digits + s
local()

def local():
    class Inner:
        w = rate
    return Inner.w
local()

def local(): return [v + offset for v in ys]
local()

def local(v):
    try: return d[v]
    except KeyError: return limit
local('none')

r = [f() for f in (late, defaults)]

r = (lambda: [late() for _ in range(2)])()

collections.defaultdict(late)['v']

itertools.chain(xs, gen())

list(itertools.accumulate(xs, lambda p, q: p + q + unit))

functools.partial(outer)(1)

string.Template('$v').substitute(v=n)

type('Made', (Base,), {'v': rate})

typing.cast(int, a)

print('{} {}'.format(a, b))

'%s' % s

s[::-1] * k

r = ...

1 if a else unused1

x = 1; y = x + 1

x, y = y, x

a = b = c

for a in range(3): pass
r = a

del a; a = 1

r = lambda: unused1

xs = xs + [1]

words.sort(); words

counter = counter or n

nothing_here if False else a

try:
    undefined_name
except NameError: r = b

class Local:
    def get(self): return __class__.size + unit
    size = k
Local().get()

class Local:
    v: Base = point
    w: 'Unused' = None

class Local:
    def one(self): return self.two() + rate
    def two(self): return scale
Local().one()

class Local:
    items = list(map(lambda v: v * k, xs))
    total = sum(items)

class Outer:
    class Inner(Base):
        def get(self): return Child().area() + n
Outer.Inner().get()

class Local(Base, metaclass=Meta):
    tag2 = offset

class Local:
    def __init_subclass__(cls, **kw): cls.kw = (kw, rate)
class Sub(Local, flag=a): pass

class Local:
    def __getattr__(self, name): return d
Local().anything

def local():
    v = unit
    def one():
        nonlocal v
        v += scale
        def two():
            nonlocal v
            v *= rate
        two()
    one()
    return v
local()

def local():
    global counter, made
    made = counter
    counter = n
    del made
local()

def local():
    def deep():
        global a
        a += b
    deep()
local()

def local(v, /, w=k, *, u=n): return v + w + u
local(a)

def local(): return (yield)
next(local())

def local():
    x = yield a
    yield from gen()
list(local())

def local():
    try: return a
    finally: xs.append(b)
local()

def local(*, key=lambda v: v + unit): return key(1)
local()

def local():
    for scale in xs: pass
    return scale
local()

def local(a): return a + b
local(1)

def local():
    a = 1
    return [a + v + limit for v in ys]
local()

def local():
    if (found := [v for v in xs if v > k]): return found
local()

def local():
    del d['p']
    return d
local()

def local():
    with Manager() as inner: return inner + offset
local()

def local():
    import json as j
    from math import floor
    return j.dumps(floor(x))
local()

def local(): return eval('1 + 1')
local()

@contextlib.contextmanager
def local():
    yield scale
with local() as v: r = v

@deco
@functools.lru_cache
def local(v): return v + rate
local(1)

@(lambda f: f)
def local(): return unit
local()

@functools.partial(deco)
def local(v): return v
local(2)

@dataclasses.dataclass
class Local(Point):
    pz: list = dataclasses.field(default_factory=lambda: [limit])
Local()

@functools.total_ordering
class Local:
    def __eq__(self, o): return True
    def __lt__(self, o): return a < b
Local() < Local()

r = [w for v in deep.values() for w in v.values()]

r = {k: v for k, v in zip(words, xs)}

r = {(p, q) for p in xs if p > a for q in ys if q > p}

r = [[(lambda: v + w + unit)() for w in xs] for v in ys]

r = [y := x, y ** 2]

r = any((hit := v) > k for v in xs) and hit

r = [f(v) for f in (plain, scaled) for v in xs]

r = list(v for v in (w for w in xs if w) if v)

r = next((v for v in xs if v == c), None)

f'{a=} {b!r} {c:>{n}}'

f"{f'{a + b}'} {d['p']}"

f'{[f"{v}{unit}" for v in xs]}'

f'{(lambda v: v * scale)(2)}'

f'{{a}} {k}'

'{a} {0}'.format(n, a=k)

'{}'.format(*xs)

a, b = b, a

a = b = a + b

*xs[:1], r = ys

(box.v, box[0]), d['p'] = (1, 2), 3

xs[a], xs[0] = xs[0], xs[a]

first, (second, *others) = a, ys

for a, (b, *c) in [(1, (2, 3))]: pass

for box.v in xs: pass

xs[a - 1] += k

d.setdefault('z', []).append(n)

d |= {'k': k}

deep['m']['n'][0] *= scale

box.items[0] = rate

point.px = point.py = a

del a, b

del (xs[0], d['p'])

del [a]

x: float = y

point.px: int = n

d['p']: 'Unused' = n

print(*xs, **{'sep': s})

outer(*[a], **{})

max(xs, key=lambda v: d.get(v, k))

sorted(d.items(), key=operator.itemgetter(1))

map = plain
map(a)

def len(v): return k
len(xs)

class int: pass
int()

for id in xs: pass
id

[str for str in words]

import json as list
list.dumps(d)

type = type(a)

with Manager() as input: input

match words:
    case [str() as w, *_] if plain(w): r = w

match point:
    case Point(1, py) | Point(py, 2): r = py

match d:
    case {'p': int(v), 'q': q} if v < limit: r = v

match (a, b):
    case (1, 2) if late(): r = unit
    case _: r = unused1

match a:
    case string.digits: pass
    case other: r = other

match child:
    case Base(size=size): r = size

async def local():
    async with AManager() as m: return m + offset
await local()

async def local():
    async for v in agen(): yield v + unit
r = [v async for v in local()]

async def local(): return await asyncio.gather(*(acall(v) for v in xs))
await local()

await asyncio.wait_for(acall(n), timeout=limit)

r = {v: await acall(v) for v in xs}

def local(v: Base = None) -> Point: return v
local()

def local(v: 'Unused'): return v
local(a)

def local(*args: typing.Any, **kw: typing.Any) -> None: pass

r = typing.get_type_hints(plain)

def local(v: list[Base]) -> dict[str, Point]: return k
local([])

from os import path as where, sep
where.join(s, sep)

from math import *
floor(y)

from collections import *
Counter(words)

import os.path as where
where.sep

__import__('math').pi

try:
    import nothing_of_that_name
except ImportError: r = k
else: r = unused1

try:
    1 / 0
except (ZeroDivisionError, KeyError) as error: r = (error, a)
finally: s = b

try:
    raise KeyError(words)
except KeyError as error:
    error.args
    r = k

with Manager() as p, Manager() as q: r = p + q + a

with contextlib.redirect_stdout(None): print(n)

while True:
    if a: break
else: r = b

if False: r = unused1
elif flag: r = k

r = a if b else c if flag else n

r = not (a and b or c)

r = a < b <= c != n

r = xs[::a]

r = xs[-a:, ] if False else k

r = (lambda *p, **q: (p, q, unit))(*xs, **d)

r = (lambda v, w=n: v + w)(k)

r = (lambda: (yield))

globals().update(made=a)

[globals()[name] for name in ('k', 'n')]

locals()['c']

'k' in globals()

r = dir()

exec('def made(): return k'); made()

exec('a = b', globals())

eval('c + 1', globals())

eval(compile('n', '', 'eval'))

getattr(math, 'floor')(x)

operator.attrgetter('px')(point)

box.items.append(a); box.items

methods[0]()

tools['f'].append(plain)

partial = functools.partial(add, 2); partial()

child.size = k; child.area()

Base.size = n; child.area()

Prop.value.fget(prop)

box.__call__()

Base.area(child)

super(Child, child).area()

list(itertools.starmap(operator.mul, [(a, b)]))

reduce = functools.reduce; reduce(lambda p, q: p + q * unit, xs)
"""

#: What older Pythons cannot compile.
NEWER = {
    (3, 11): """
try:
    raise ExceptionGroup('g', [ValueError(a)])
except* ValueError as group: r = (group, k)

r = d.get((*t, *xs))

def local(*args: *tuple[Base]): return unit
local()
""",
    (3, 12): """
type Alias = list[Base]

type Alias[T] = dict[T, Point]
Alias.__value__

def local[T: Base](v: T) -> T: return scale
local(a)

class Local[T]:
    def get(self) -> T: return rate
Local().get()

f'{d['p']} {f'{a + unit}'}'
""",
    (3, 14): """
t'{a} {b:{n}}'

def local(v: Base): return v
local.__annotations__

class Local:
    v: Point
Local.__annotations__

try: d['none']
except KeyError, ValueError: r = k
""",
}


class Noting(dict):  # type: ignore[type-arg]
    """A namespace that notes what was looked up in it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.read: set[str] = set()
        self.written: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        if name in self and name not in self.written:
            self.read.add(name)
        return super().__getitem__(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self.written.add(name)
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        if name not in self.written:
            self.read.add(name)  # it must be there to be deleted
        super().__delitem__(name)


def cells() -> list[str]:
    text = CELLS + "".join(more for version, more in NEWER.items() if sys.version_info >= version)
    return [part.strip("\n") for part in text.split("\n\n") if part.strip()]


class Asked(dict):  # type: ignore[type-arg]
    """Builtins that give the names of the setup one by one, to a namespace that has none of them: what class bodies look up goes past
    ``Noting``, as the interpreter reads the globals for them without asking a subclass."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        super().__init__(vars(builtins))
        self.namespace = namespace
        self.held: dict[str, Any] = {}
        self.read: set[str] = set()

    def __missing__(self, name: str) -> Any:
        value = self.namespace[name] = self.held.pop(name)
        self.read.add(name)
        return value


def looked_up(cell: str) -> set[str]:
    """Names of the setup that the cell looked up, by either way to see it."""
    noting = Noting({"__name__": "__main__", "__builtins__": __builtins__})
    exec(compile(SETUP, "<setup>", "exec"), noting)
    noting.read.clear()
    noting.written.clear()
    run(cell, noting)
    plain: dict[str, Any] = {"__name__": "__main__"}
    plain["__builtins__"] = asked = Asked(plain)
    exec(compile(SETUP, "<setup>", "exec"), plain)
    asked.held = {name: plain.pop(name) for name in list(plain) if not name.startswith("__")}
    with contextlib.suppress(Exception):  # globals()["k"], del a: they want the name to be there, and the other way has seen it
        run(cell, plain)
    return {n for n in noting.read | asked.read if not n.startswith("__")}


def run(cell: str, namespace: dict[str, Any]) -> None:
    code = compile(cell, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    result = eval(code, namespace)
    if inspect.iscoroutine(result):
        asyncio.run(result)


def sent(cell: str) -> tuple[set[str], bool]:
    """(names of the setup that would go along, whether more may be fetched while it runs)."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(SETUP, "<setup>", "exec"), namespace)
    names = analyze(cell)
    return set(Replica(namespace, "client").needed([*names.loads, *names.deletes])), names.star


def test_there_are_more_than_150_cells() -> None:
    assert len(set(cells())) > 150


@pytest.mark.parametrize("cell", cells())
def test_nothing_is_missed(cell: str) -> None:
    found, more = sent(cell)
    missed = looked_up(cell) - found
    # What only running code can know (eval of a variable) comes by the backstop, which such a cell has told of.
    assert not missed or (more and missed <= {"a", "b", "c", "k", "n"}), f"not sent: {sorted(missed)}"
    if not any(word in cell for word in ("eval", "exec", "globals", "locals", "vars")):
        assert not missed


def test_at_most_a_tenth_is_sent_needlessly() -> None:
    all_sent = needless = 0
    worst: dict[str, list[str]] = {}
    for cell in cells():
        found, _ = sent(cell)
        extra = found - looked_up(cell)
        all_sent += len(found)
        needless += len(extra)
        if extra:
            worst[cell] = sorted(extra)
    print(f"\n  {needless} of {all_sent} names sent were not looked up: {needless / all_sent:.1%}")
    assert needless <= 0.1 * all_sent, worst


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ("%time r = scaled(a)", {"scaled", "scale", "a"}),
        ("%timeit -n1 -r1 plain(b)", {"plain", "b"}),
        ("%%time\nr = outer(c)", {"outer", "scaled", "scale", "offset", "c"}),
        ("%%timeit v = xs\nsum(v) + k", {"xs", "k"}),
        ("%%capture out\nprint(words)", {"words"}),
        ("!echo {s} $n", {"s", "n"}),
        ("files = !ls {words[0]}", {"words"}),
        ("r = %sql SELECT * FROM xs", {"xs"}),
        ("%prun late()", {"late", "rate"}),
        ("%matplotlib inline\na", {"a"}),
        ("?scaled", {"scaled", "scale"}),
        ("scaled?", {"scaled", "scale"}),
        ("!echo $$HOME {d['p']}", {"d"}),
        ("%env KEY={s}", {"s"}),
        ("%%bash\necho hi", set()),
        ("%pip list", set()),
        ("%%time\n%timeit -n1 plain(n)", {"plain", "n"}),
        ("a = !echo {f'{k}'}", {"k"}),
        ("%cd /tmp", set()),
        ("get_ipython().run_line_magic('time', 'scaled(b)')", {"scaled", "scale", "b"}),
        ("%%timeit -n1 -r1\nscaled(a)", {"scaled", "scale", "a"}),
        ("%%timeit -n 2 -r 3 v = plain(n)\nv + k", {"plain", "n", "k"}),
        ("%time", set()),
        ("%%time\n!echo {k} $n", {"k", "n"}),
        ("%%time\nclass Local(Base):\n    v = n", {"Base", "scale", "n"}),
        ("%timeit [v * scale for v in xs]", {"scale", "xs"}),
        ("%timeit -o -q plain(b)", {"plain", "b"}),
        ("!echo $s; echo ${HOME}", {"s"}),
        ("r = !echo $n {k + c}", {"n", "k", "c"}),
        ("r = %timeit -o -n1 plain(a)", {"plain", "a"}),
        ("for v in xs:\n    !echo {v} {scaled(v)}", {"xs", "scaled", "scale"}),
        ("if flag:\n    %time plain(a)", {"flag", "plain", "a"}),
        ("def local():\n    !echo {k}\nlocal()", {"k"}),
        ("%%capture out\n%time scaled(c)", {"scaled", "scale", "c"}),
        ("%%prun -l 5\nlate()", {"late", "rate"}),
        ("%%remote gpu=H100\nscaled(a)", {"scaled", "scale", "a"}),
        ("%run -i program.py", set()),
        ("%%html\n<b>bold</b>", set()),
        ("scaled??", {"scaled", "scale"}),
        ("df.query('p > @limit and q < @d')", {"limit", "d"}),
        ("df.eval('z = p * @k')", {"k"}),
        ("def local(frame): return frame.query('p == @n')\nlocal(None)", {"n"}),
        ("df.query(f'p > @{s}')", {"s"}),
        ("%time df.query('p > @limit')", {"limit"}),
    ],
)
def test_magics_and_commands(cell: str, wanted: set[str]) -> None:
    found, _ = sent(cell)
    assert wanted <= found, f"not sent: {sorted(wanted - found)}"
    assert len(found - wanted) <= 1, f"needlessly: {sorted(found - wanted)}"


@pytest.mark.parametrize(
    ("cell", "loads"),
    [
        ("df = plain(a)\ndf", {"plain", "a"}),
        ("df = df.head()\ndf", {"df"}),
        ("df, other = plain(a), df\ndf", {"plain", "a", "df"}),
        ("import numpy as np\nnp.pi", set()),
        ("xs = []\nfor v in ys: xs.append(v)", {"ys", "v"}),
        ("def f(): return a\na = 1\nf()", {"a"}),  # it could have been called before
        ("a = 1\ndef f(): return a\nf()", set()),
        ("class C:\n    v = a\na = 1\na", {"a"}),
        ("if flag: a = 1\na", {"flag", "a"}),
        ("for v in xs: a = v\na", {"xs", "a", "v"}),
        ("while flag: a = 1\na", {"flag", "a"}),
        ("try:\n    a = plain(1)\nexcept ValueError: pass\na", {"plain", "a"}),
        ("with m: a = 1\na", {"m", "a"}),
        ("flag and (a := 1)\na", {"flag", "a"}),
        ("a = 1\ndel a\na", set()),
        ("exec(source)\na = 1\na", {"exec", "source", "a"}),
        ("df = plain(1)\nlimit = 2\ndf.query('p > @limit')", {"plain"}),
        ("df.query('p > @limit')\nlimit = 2", {"df", "limit"}),
        ("a = 1\n%time plain(a)", {"plain", "a"}),
        ("a += 1\na", {"a"}),
        ("global a\na = 1\na", set()),
        ("await a\na = 1\na", {"a"}),
    ],
)
def test_a_name_that_the_cell_binds_first_is_not_needed(cell: str, loads: set[str]) -> None:
    """The old frame does not travel to be replaced."""
    found = set(analyze(cell).loads) - set(vars(builtins)) | ({"exec"} if "exec" in cell else set())
    assert found == loads


def test_a_cell_with_a_syntax_error_needs_nothing() -> None:
    assert sent("a +") == (set(), False)
