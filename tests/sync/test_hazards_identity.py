"""Classes, functions and what compares by identity, with the other end in a process of its own."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.timeout(60)


def test_05_functions_keep_identity_file_and_lines(far: Any) -> None:
    far.local("k = 2\ndef f(v, *, w: int = 1) -> int:\n    'doc'\n    return v * k * w\nheld = [f]; f.calls = 0")
    far.run(
        "f.calls += 1; r = f(3, w=2), f.__code__.co_filename, f.__code__.co_firstlineno, f.__doc__, f.__module__, f.__annotations__['w'] is int"
    )
    assert far.here["r"] == (12, "<here>", 2, "doc", "__main__", True)
    assert far.here["held"][0] is far.here["f"] and far.here["f"].calls == 1


def test_05_a_rebound_global_is_seen_without_sending_the_function_again(far: Any) -> None:
    far.local("k = 2\ndef f(v): return v * k")
    far.run("a = f(1)")
    far.local("k = 5")
    assert list(far.send("f").sent) == ["k"]
    far.run("b = f(1)")
    assert (far.here["a"], far.here["b"]) == (2, 5)


def test_05_globals_written_by_a_remote_function_come_back(far: Any) -> None:
    far.local("n = 0\ndef up():\n    global n\n    n += 1")
    far.run("up(); up()")
    assert far.here["n"] == 2
    far.here["up"]()
    assert far.here["n"] == 3


def test_05_mutable_defaults_and_closures_over_two_cells(far: Any) -> None:
    far.local(
        "def make():\n    n = 0\n    def inc(seen=[]):\n        nonlocal n\n        n += 1; seen.append(n); return n\n    def get(): return n\n    return inc, get\n"
        "inc, get = make(); alias = inc"
    )
    far.run("inc()")
    far.run("inc(); total = get()")
    assert (
        far.here["total"] == 2 == far.here["get"]() and far.here["alias"] is far.here["inc"] and far.here["inc"].__defaults__ == ([1, 2],)
    )


def test_05_functions_made_remotely_work_here(far: Any) -> None:
    far.local("k = 3")
    far.run("def g(v):\n    return v + k\nh = lambda v: g(v) * 2")
    far.local("k = 10")
    assert far.here["h"](1) == 22 and far.here["g"].__globals__ is far.here


def test_06_isinstance_holds_over_many_syncs(far: Any) -> None:
    far.local("class A:\n    def who(self): return type(self).__name__\nclass B(A): pass\na = A(); bs = [B()]")
    A, B = far.here["A"], far.here["B"]
    for _ in range(3):
        far.run("bs.append(B()); ok = all(isinstance(b, A) and type(b) is B for b in bs) and a.who() == 'A'")
        assert far.here["ok"] and far.here["A"] is A and far.here["B"] is B and {type(b) for b in far.here["bs"]} == {B}
    assert isinstance(far.here["a"], A)


def test_06_a_class_made_remotely_is_one_class_here(far: Any) -> None:
    far.run("class R:\n    x = 1\nr = R()")
    R = far.here["R"]
    far.run("r2 = R(); ok = type(r) is type(r2) is R")
    assert far.here["ok"] and type(far.here["r"]) is type(far.here["r2"]) is R is far.here["R"]


def test_06_a_class_defined_anew_is_another_class(far: Any) -> None:
    far.local("class A: v = 1\nold = A()")
    far.run("assert old.v == 1")
    far.local("class A: v = 2\nnew = A()")
    far.run("r = type(old) is A, type(new) is A, old.v, new.v")
    assert far.here["r"] == (False, True, 1, 2)


def test_07_class_attributes_set_mutated_and_deleted_remotely(far: Any) -> None:
    far.local("class A:\n    n = 0\n    log = []\n    gone = 1\n    def up(self): type(self).n += 1\na = A(); log = A.log")
    far.run("a.up(); A.log.append('x'); del A.gone; A.new = 5\nA.shout = lambda self: 'hey'")
    A = far.here["A"]
    assert (A.n, A.new, far.here["a"].shout()) == (1, 5, "hey") and not hasattr(A, "gone") and A.log is far.here["log"] == ["x"]
    far.local("A.n = 10")
    far.run("seen = a.n")
    assert far.here["seen"] == 10


def test_dataclasses_abcs_metaclasses_and_generics(far: Any) -> None:
    far.local(
        "import abc, dataclasses, typing\n@dataclasses.dataclass\nclass D:\n    x: int\n    y: list = dataclasses.field(default_factory=list)\n"
        "class M(type):\n    def __call__(cls, *a): return super().__call__(*a)\nclass C(metaclass=M): pass\n"
        "class Base(abc.ABC):\n    @abc.abstractmethod\n    def f(self): ...\nclass Impl(Base):\n    def f(self): return super().__class__ and 1\n"
        "d = D(1); c = C(); i = Impl()"
    )
    far.run("d.y.append(2); e = D(5); ok = isinstance(i, Base) and i.f() == 1 and type(type(c)) is M and e == D(5)")
    assert far.here["ok"] and far.here["d"] == far.here["D"](1, [2]) and isinstance(far.here["e"], far.here["D"])


def test_32_enum_members_and_singletons(far: Any) -> None:
    far.local("import enum\nclass E(enum.Enum):\n    A = 1\n    B = 2\ne = E.A; n = None; el = ...; ni = NotImplemented")
    for _ in range(2):
        far.run("ok = e is E.A and n is None and el is ... and ni is NotImplemented; f = E.B; d = {E.A: 1}")
        assert far.here["ok"] and far.here["f"] is far.here["E"].B and far.here["d"][far.here["E"].A] == 1


def test_20_user_code_runs_once_in_each_sync(far: Any) -> None:
    far.local(
        "calls = []\nclass C:\n    def __init__(self): self.v = 0\n    def __getstate__(self):\n        COUNT.append(1)\n        return dict(self.__dict__)\nc = C(); pair = [c, c]; d = C()"
    )
    count: list[int] = []
    far.here["COUNT"] = count
    far.client.confirm(far.client.export(["COUNT"]))
    for v in range(3):
        far.here["c"].v = v
        del count[:]
        export = far.client.export(far.client.needed(["c", "pair", "d"]))
        assert len(count) == 2, f"{len(count)} calls for two objects"
        far.ask("take", msgspec_encode(export), export.stream, [bytes(b) for b in export.buffers])
        far.client.confirm(export)
    far.run("ok = pair[0] is c is pair[1] and c.v == 2")
    assert far.here["ok"]


def msgspec_encode(export: Any) -> bytes:
    import msgspec

    return msgspec.msgpack.encode(export.snapshot)


def test_a_setstate_sees_the_new_content_of_what_both_ends_have(far: Any) -> None:
    far.local(
        "class C:\n    def __init__(self, items): self.items = items; self.n = len(items)\n    def __getstate__(self): return self.items\n"
        "    def __setstate__(self, items): self.items = items; self.n = len(items)\nitems = [1]; c = C(items)"
    )
    far.run("assert c.n == 1 and c.items is items")
    far.local("items += [2, 3]")
    far.run("r = c.n, c.items is items")
    assert far.here["r"] == (3, True)


def test_a_key_whose_hash_changed_is_found_again(far: Any) -> None:
    far.local(
        "class K:\n    def __init__(self, k): self.k = k\n    def __hash__(self): return hash(self.k)\n    def __eq__(self, o): return self.k == o.k\na = K(1)"
    )
    far.send("a")
    far.local("a.k = 7; d = {a: 1}; s = {a}")
    far.run("ok = d[a] == 1 and a in s")
    assert far.here["ok"]


def test_stuck_ones_made_remotely_are_listed_and_the_rest_comes(far: Any) -> None:
    far.run("import threading; lock = {'in': [threading.Lock()]}; fine = 1")
    assert far.stuck == ["lock['in'][0]"] and far.here["fine"] == 1 and "lock" not in far.here


def test_attribute_dicts(far: Any) -> None:
    far.local(
        "class AD(dict):\n    def __init__(self, *a, **k):\n        super().__init__(*a, **k); self.__dict__ = self\nd = AD(a=1); e = d"
    )
    far.run("d.b = 2; d['c'] = 3")
    assert far.here["e"] is far.here["d"] == {"a": 1, "b": 2, "c": 3} and far.here["d"].b == 2


def test_objects_that_own_something_are_not_freed_twice(far: Any) -> None:
    far.local(
        "freed = []\nclass Owner:\n    def __init__(self): self.handle = 1\n    def __getstate__(self): return {'n': self.__dict__.get('n', 0)}\n"
        "    def __setstate__(self, s): self.__dict__.update(s); self.handle = object()\n    def __del__(self): FREED.append(self.handle)\no = Owner(); p = o"
    )
    freed: list[Any] = []
    far.here["FREED"] = freed
    far.run("FREED = []; o.n = 1")
    freed = far.here["FREED"]
    assert far.here["o"].n == 1 and far.here["p"] is far.here["o"] and far.here["o"].handle not in freed


def test_06_slots_and_qualified_names_are_kept(far: Any) -> None:
    far.local(
        "class S:\n    __slots__ = ('a', '__b')\n    def __init__(self): self.a, self.__b = 1, [2]\n    def b(self): return self.__b\n"
        "class Out:\n    class In(S):\n        __slots__ = ()\nx = Out.In(); same = x"
    )
    far.run(
        "x.b().append(3)\ntry:\n    x.new = 1\nexcept AttributeError as e: said = str(e)\nname = type(x).__qualname__, hasattr(x, '__dict__')"
    )
    assert far.here["same"].b() == [2, 3] and "new" in far.here["said"] and far.here["name"] == ("Out.In", False)


def test_06_what_a_class_does_to_its_subclasses_is_done_once(far: Any) -> None:
    far.local(
        "made = []\nclass Base:\n    all = {}\n    def __init_subclass__(cls, **k): super().__init_subclass__(**k); Base.all[cls.__name__] = cls; made.append(cls.__name__)\n"
        "class A(Base): pass\nx = A()"
    )
    for _ in range(2):
        far.run("r = type(x) is Base.all['A'], list(made), '__init_subclass__' in vars(Base)")
        assert far.here["r"] == (True, ["A"], True) and far.here["made"] == ["A"]
    far.run("class B(Base): pass\nr = list(made)")
    assert far.here["r"] == far.here["made"] == ["A", "B"] and far.here["Base"].all["B"] is far.here["B"]


def test_a_setstate_may_use_what_arrives_with_it(far: Any) -> None:
    far.local(
        "import decimal as zz\ndef zhelp(v): return v + 1\nclass C:\n    def __init__(self): self.n = 1\n"
        "    def __setstate__(self, s): self.n = zz.Decimal(zhelp(s['n']))\na = C()"
    )
    far.run("r = str(a.n)")
    assert far.here["r"] == "2"


def test_05_cached_and_dispatched_functions_are_the_notebooks(far: Any) -> None:
    far.local(
        "import functools, contextlib\nk = 2\n@functools.lru_cache(maxsize=7)\ndef f(n): return n * k\n@functools.singledispatch\ndef g(a): return 'any'\n"
        "@g.register(int)\ndef _g(a): return k\n@contextlib.contextmanager\ndef h(): yield k\nclass C:\n    @functools.cached_property\n    def p(self): return [k]\nc = C(); fs = [f, g, h]"
    )
    far.run("with h() as v: r = f(3), g(1), g('a'), v, c.p, f.cache_parameters()['maxsize'], [f, g, h] == fs\nh.note = 1")
    assert far.here["r"] == (6, 2, "any", 2, [2], 7, True)
    assert far.here["h"] is far.here["fs"][2] and far.here["h"].note == 1 and far.here["f"] is far.here["fs"][0] and far.here["c"].p == [2]
