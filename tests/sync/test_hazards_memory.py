"""Arrays, frames and tensors: who shares memory with whom, and who must not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.timeout(60)


def test_03_views_stay_views_of_their_base(pair: Any) -> None:
    pair.local("import numpy as np\na = np.zeros((4, 3)); v = a[1:3, ::2]; t = a.T; both = [a, a[0]]")
    pair.run("v[:] = 5; t[0, 0] = 7; both[1][1] = 9; r = a.tolist()")
    expected = [[7, 9, 0], [5, 0, 5], [5, 0, 5], [0, 0, 0]]
    here = pair.here
    assert here["r"] == expected == here["a"].tolist() == here["both"][0].tolist() and here["both"][0] is here["a"]
    here["a"][1, 0] = 11
    assert here["v"][0, 0] == here["t"][0, 1] == 11


def test_03_a_base_that_was_not_sent_sees_the_change(pair: Any) -> None:
    pair.local("import numpy as np\na = np.zeros(6); v = a[2:4]")
    pair.run("v[:] = 5")
    assert pair.here["a"].tolist() == [0, 0, 5, 5, 0, 0] and pair.here["v"].base is pair.here["a"]


def test_03_a_small_view_does_not_bring_its_large_base(pair: Any) -> None:
    pair.local("import numpy as np\nbig = np.zeros(1 << 20); v = big[:3]; w = big[1:4]")
    assert sum(pair.send("v", "w").sent.values()) < 10_000


def test_03_fortran_order_and_views_of_views(pair: Any) -> None:
    pair.local(
        "import numpy as np\nf = np.asfortranarray(np.arange(12.).reshape(3, 4)); v = f[1:][:, 2]; rec = np.zeros(3, dtype=[('a', 'i4'), ('b', 'f8')]); b = rec['b']"
    )
    pair.run("v[:] = -1; b[:] = 2.5")
    assert pair.here["f"][1:, 2].tolist() == [-1, -1] and pair.here["f"].flags.f_contiguous and pair.here["rec"]["b"].tolist() == [2.5] * 3


def test_frames_that_share_memory_until_somebody_writes_stay_apart(pair: Any) -> None:
    pair.local(
        "import pandas as pd\ndf = pd.DataFrame({'a': [1, 2, 3], 's': ['x', 'y', 'z'], 'n': pd.array([1, 2, None], dtype='Int64'), 'c': pd.Categorical(['p', 'q', 'p'])})\n"
        "df2 = df.rename(columns={'a': 'b'}); ser = df['a']; held = [df.copy(deep=False), df]"
    )
    pair.run(
        "df2.loc[0, 'b'] = 99; df2.loc[0, 's'] = 'W'; df2.loc[0, 'n'] = 50; df2.loc[0, 'c'] = 'q'; ser.iloc[1] = 77; held[0].loc[2, 'a'] = 55\nr = df.iloc[0].tolist(), df['a'].tolist()"
    )
    here = pair.here
    assert (
        here["r"] == ([1, "x", 1, "p"], [1, 2, 3])
        and here["df"].iloc[0].tolist() == [1, "x", 1, "p"]
        and here["df"]["a"].tolist() == [1, 2, 3]
    )
    assert here["df2"].iloc[0].tolist() == [99, "W", 50, "q"] and here["ser"].tolist() == [1, 77, 3]
    assert here["held"][0].loc[2, "a"] == 55 and here["held"][1] is here["df"]


def test_a_frame_keeps_its_flags(pair: Any) -> None:
    pair.local("import pandas as pd\ndf = pd.DataFrame({'a': [1]}); same = df")
    pair.run("df['b'] = 2")
    pair.here["df"].flags.allows_duplicate_labels = False
    pair.run("ok = df.flags.allows_duplicate_labels; df['c'] = 3")
    assert pair.here["ok"] is False and pair.here["same"] is pair.here["df"] and pair.here["df"].flags.allows_duplicate_labels is False


def test_16_17_small_and_large_arrays_are_writable_everywhere(pair: Any) -> None:
    for n in (3, 5000):
        pair.here["a"] = np.zeros(n)
        pair.run("a += 1; made = a * 2; view = made[::2]")
        assert all(pair.here[k].flags.writeable for k in ("a", "made", "view")) and pair.here["a"].sum() == n
        pair.here["made"] += 1


def test_17_zero_stride_read_only_and_empty(pair: Any) -> None:
    pair.local(
        "import numpy as np\nz = np.broadcast_to(np.arange(3.), (2, 3)); e = np.empty((0, 4)); d0 = np.array('2020', dtype='M8[D]'); ro = np.arange(4000.); ro.flags.writeable = False"
    )
    pair.run("r = z.sum(), e.shape, str(d0), ro.sum()")
    assert pair.here["r"] == (6, (0, 4), "2020-01-01", ro_sum := 7998000.0) and ro_sum


def test_a_large_array_is_not_copied_by_an_export(pair: Any) -> None:
    big = np.zeros(100 << 17)
    pair.here["big"] = big
    export = pair.client.export(["big"])
    (buffer,) = export.buffers
    assert np.shares_memory(np.frombuffer(buffer), big) and len(export.stream) < 1000


def test_generators_of_random_numbers_go_on(pair: Any) -> None:
    pair.local(
        "import random, numpy as np\nr = random.Random(1); g = np.random.default_rng(1); also = g, r; first = random.Random(1).random()"
    )
    pair.run("a = r.random(); b = g.random()")
    here = pair.here
    assert here["also"][0] is here["g"] and here["also"][1] is here["r"] and here["a"] == here["first"] != here["r"].random()
    assert here["g"].random() == np.random.default_rng(1).random(2)[1]


def test_04_tensors_views_tied_weights_and_optimizers(pair: Any) -> None:
    torch = pytest.importorskip("torch")
    pair.local(
        "import torch\nm = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)); m[1].weight = m[0].weight\n"
        "opt = torch.optim.SGD(m.parameters(), lr=.1, momentum=.9); t = torch.zeros(6); u = t[2:4]; weight = m[0].weight; base = torch.zeros(3); base.note = 'n'"
    )
    for _ in range(2):
        pair.run(
            "u += 1; opt.zero_grad(); loss = m(torch.ones(1, 2)).sum(); loss.backward(); opt.step(); base[0] = 5\n"
            "r = m[0].weight is m[1].weight is opt.param_groups[0]['params'][0], float(t.sum()), base.note; w = m[0].weight.detach().clone(); del loss"
        )
        here = pair.here
        assert here["r"][0] and here["r"][1] == float(here["t"].sum()) and here["r"][2] == "n"
        assert here["weight"] is here["m"][0].weight is here["m"][1].weight is here["opt"].param_groups[0]["params"][0]
        assert (
            torch.equal(here["weight"], here["w"]) and here["weight"].grad is not None and here["u"].data_ptr() == here["t"].data_ptr() + 8
        )
    assert here["opt"].state[here["weight"]]["momentum_buffer"] is not None


def test_15_dtypes_without_a_numpy_twin(pair: Any) -> None:
    torch = pytest.importorskip("torch")
    pair.local(
        "import torch\nb = torch.arange(4, dtype=torch.bfloat16); s = torch.eye(2).to_sparse(); c = torch.tensor([1j]).conj(); e = torch.empty(0, 3); q = torch.tensor(2.5)"
    )
    pair.run("b += 1; r = float(b.sum()), float(s.to_dense().sum()), complex(c[0]), tuple(e.shape), float(q)")
    assert pair.here["r"] == (10.0, 2.0, -1j, (0, 3), 2.5) and pair.here["b"].dtype is torch.bfloat16


def test_a_tensor_whose_shape_changed_keeps_its_identity(pair: Any) -> None:
    pytest.importorskip("torch")
    pair.local("import torch\nt = torch.zeros(2); same = t")
    pair.run("t.data = torch.ones(3, 2)")
    assert pair.here["same"] is pair.here["t"] and tuple(pair.here["t"].shape) == (3, 2)


def test_forests_and_pipelines_are_trained_twice(pair: Any) -> None:
    pair.local(
        "from sklearn.ensemble import RandomForestClassifier as R\nfrom sklearn.pipeline import make_pipeline\nfrom sklearn.preprocessing import StandardScaler\nimport numpy as np\n"
        "X = np.random.default_rng(0).random((40, 3)); y = (X[:, 0] > .5) * 1; m = make_pipeline(StandardScaler(), R(5, random_state=0)); same = m"
    )
    pair.run("m.fit(X, y)")
    pair.run("m.fit(X, 1 - y); z = m.predict(X)")
    assert pair.here["same"] is pair.here["m"] and (pair.here["m"].predict(pair.here["X"]) == pair.here["z"]).all()


def test_many_strings_go_and_come_as_they_are(pair: Any) -> None:
    pair.local(
        "import pandas as pd, numpy as np\nwords = [f'w{i}' for i in range(3000)]; same = words\ndf = pd.DataFrame({'s': words, 'o': pd.Series(words, dtype=object), 'm': [None, 'x', 'y'] * 1000})\n"
        "ob = np.array(words + [None, 1.5], dtype=object).reshape(2, -1); fo = np.asfortranarray(ob); mixed = {w: i for i, w in enumerate(words)}; tied = [df, ob, mixed]"
    )
    dtypes = pair.here["df"].dtypes.tolist()
    pair.run(
        "words.append('end'); df.loc[0, 's'] = 'first'; ob[0, 0] = 'zero'; mixed['w0'] = [1]; r = fo.flags.f_contiguous, int(df['m'].isna().sum()), fo[1, -1]"
    )
    here = pair.here
    assert (
        here["r"] == (True, 1000, 1.5)
        and here["same"] is here["words"]
        and here["words"][-1] == "end"
        and here["df"].loc[0, "s"] == "first"
    )
    assert here["tied"][0] is here["df"] and here["tied"][1] is here["ob"] and here["ob"][0, 0] == "zero" and here["tied"][2]["w0"] == [1]
    assert here["df"].dtypes.tolist() == dtypes, "which they are depends on the release of pandas"
