"""scikit-learn's estimators, and other libraries that fit something."""

from kind import Kind

_DATA = "import numpy as np; r = np.random.default_rng(0); X = r.random((24, 4)); Y = (X[:, 0] > .5) * 1; Z = X @ [1., 2., 3., 4.]; "

#: (module, call, what it is fitted to, how it answers)
_ESTIMATORS = [
    ("linear_model", "LinearRegression()", "Z", "predict"),
    ("linear_model", "Ridge()", "Z", "predict"),
    ("linear_model", "Lasso(.01)", "Z", "predict"),
    ("linear_model", "LogisticRegression()", "Y", "predict_proba"),
    ("linear_model", "SGDClassifier(loss='log_loss', random_state=0)", "Y", "predict"),
    ("linear_model", "Perceptron(random_state=0)", "Y", "predict"),
    ("linear_model", "BayesianRidge()", "Z", "predict"),
    ("tree", "DecisionTreeClassifier(random_state=0)", "Y", "predict"),
    ("tree", "DecisionTreeRegressor(random_state=0)", "Z", "predict"),
    ("ensemble", "RandomForestClassifier(3, random_state=0)", "Y", "predict_proba"),
    ("ensemble", "ExtraTreesRegressor(3, random_state=0)", "Z", "predict"),
    ("ensemble", "GradientBoostingClassifier(n_estimators=3, random_state=0)", "Y", "predict_proba"),
    ("ensemble", "HistGradientBoostingRegressor(max_iter=3, random_state=0)", "Z", "predict"),
    ("ensemble", "AdaBoostClassifier(n_estimators=3, random_state=0)", "Y", "predict"),
    ("ensemble", "IsolationForest(n_estimators=3, random_state=0)", "Y", "predict"),
    ("svm", "SVC(probability=False)", "Y", "decision_function"),
    ("svm", "SVR()", "Z", "predict"),
    ("svm", "LinearSVC(random_state=0)", "Y", "predict"),
    ("neighbors", "KNeighborsClassifier(3)", "Y", "predict_proba"),
    ("neighbors", "KNeighborsRegressor(3, algorithm='kd_tree')", "Z", "predict"),
    ("naive_bayes", "GaussianNB()", "Y", "predict_proba"),
    ("discriminant_analysis", "LinearDiscriminantAnalysis()", "Y", "predict_proba"),
    ("gaussian_process", "GaussianProcessRegressor()", "Z", "predict"),
    ("neural_network", "MLPClassifier((4,), max_iter=5, random_state=0)", "Y", "predict_proba"),
    ("cluster", "KMeans(2, n_init=1, random_state=0)", "Y", "predict"),
    ("cluster", "MiniBatchKMeans(2, n_init=1, random_state=0)", "Y", "predict"),
    ("mixture", "GaussianMixture(2, random_state=0)", "Y", "predict_proba"),
    ("decomposition", "PCA(2)", "Y", "transform"),
    ("decomposition", "NMF(2, random_state=0, max_iter=50)", "Y", "transform"),
    ("preprocessing", "StandardScaler()", "Y", "transform"),
    ("preprocessing", "PolynomialFeatures(2)", "Y", "transform"),
    ("isotonic", "IsotonicRegression(out_of_bounds='clip')", "Z", "predict"),
]

_SIMPLE = "IsotonicRegression"

LEARN = [
    Kind(
        f"sklearn: {call.partition('(')[0]}",
        f"import warnings; warnings.simplefilter('ignore'); {_DATA}from sklearn import {module}; "
        + (f"X = X[:, 0]; x = {module}.{call}.fit(X, {target})" if _SIMPLE in call else f"x = {module}.{call}.fit(X, {target})"),
        f"x.fit(X[::-1][:20], {target}[:20])",
        f"(type(x).__name__, look(np.round(x.{how}(X[:5]), 6)), repr(x.get_params()))",
        "sklearn",
    )
    for module, call, target, how in _ESTIMATORS
]
LEARN += [
    Kind(
        "sklearn: Pipeline with a search",
        _DATA
        + "from sklearn.pipeline import make_pipeline; from sklearn.preprocessing import StandardScaler; from sklearn.linear_model import Ridge; from sklearn.model_selection import GridSearchCV; x = GridSearchCV(make_pipeline(StandardScaler(), Ridge()), {'ridge__alpha': [.1, 1.]}, cv=2).fit(X, Z)",
        "x.fit(X, -Z)",
        "(x.best_params_, look(np.round(x.predict(X[:5]), 6)))",
        "sklearn",
    ),
    Kind(
        "sklearn: ColumnTransformer",
        "import pandas as pd; from sklearn.compose import ColumnTransformer; from sklearn.preprocessing import OneHotEncoder, StandardScaler; d = pd.DataFrame({'a': ['x', 'y', 'x'], 'b': [1., 2., 3.]}); x = ColumnTransformer([('o', OneHotEncoder(sparse_output=False), ['a']), ('s', StandardScaler(), ['b'])]).fit(d)",
        "x.fit(d[:2])",
        "look(x.transform(d[:2]))",
        "sklearn",
    ),
    Kind(
        "sklearn: CountVectorizer",
        "from sklearn.feature_extraction.text import TfidfVectorizer; x = TfidfVectorizer().fit(['a bb cc', 'bb dd'])",
        "x.fit(['zz yy bb'])",
        "(x.get_feature_names_out().tolist(), x.transform(['bb zz']).toarray().tolist())",
        "sklearn",
    ),
    Kind(
        "sklearn: estimator of the notebook",
        _DATA
        + "from sklearn.base import BaseEstimator, ClassifierMixin\nclass Mean(ClassifierMixin, BaseEstimator):\n    def __init__(self, k=1): self.k = k\n    def fit(self, X, y): self.m_ = X.mean() * self.k; return self\n    def predict(self, X): return (X.mean(1) > self.m_) * 1\nx = Mean(1.).fit(X, Y)",
        "x.set_params(k=.5).fit(X, Y)",
        "(x.predict(X).tolist(), x.k, x.m_)",
        "sklearn",
    ),
]

OTHERS = [
    Kind(
        "statsmodels: OLS results",
        _DATA + "import statsmodels.api as sm; x = sm.OLS(Z, sm.add_constant(X)).fit()",
        "x = sm.OLS(Y, X).fit()",
        "np.round(x.params, 6).tolist(), round(float(x.rsquared), 6)",
        "statsmodels",
        stays=False,
    ),
    Kind(
        "statsmodels: formula",
        _DATA
        + "import pandas as pd, statsmodels.formula.api as smf; d = pd.DataFrame({'z': Z, 'a': X[:, 0]}); x = smf.ols('z ~ a', d).fit()",
        "x = smf.ols('z ~ a + I(a ** 2)', d).fit()",
        "np.round(x.params, 6).to_dict()",
        "statsmodels",
        stays=False,
    ),
    Kind(
        "xgboost: Booster",
        _DATA + "import xgboost as xgb; x = xgb.train({'max_depth': 2, 'nthread': 1}, xgb.DMatrix(X, Z), 3)",
        "x.set_attr(note='n'); x.update(xgb.DMatrix(X, -Z), 3)",
        "(np.round(x.predict(xgb.DMatrix(X)), 4).tolist(), x.attr('note'))",
        "xgboost",
    ),
    Kind(
        "xgboost: XGBClassifier",
        _DATA + "import xgboost as xgb; x = xgb.XGBClassifier(n_estimators=3, max_depth=2, n_jobs=1).fit(X, Y)",
        "x.fit(X, 1 - Y)",
        "np.round(x.predict_proba(X), 4).tolist()",
        "xgboost",
    ),
    Kind(
        "lightgbm: LGBMRegressor",
        _DATA + "import lightgbm as lgb; x = lgb.LGBMRegressor(n_estimators=3, min_child_samples=2, n_jobs=1, verbose=-1).fit(X, Z)",
        "x.fit(X, -Z)",
        "np.round(x.predict(X), 4).tolist()",
        "lightgbm",
    ),
    Kind(
        "lightgbm: Booster",
        _DATA + "import lightgbm as lgb; x = lgb.train({'verbose': -1, 'min_data_in_leaf': 2, 'num_threads': 1}, lgb.Dataset(X, Z), 3)",
        "x = lgb.train({'verbose': -1, 'num_threads': 1}, lgb.Dataset(X, Y), 2)",
        "np.round(x.predict(X), 4).tolist()",
        "lightgbm",
        stays=False,
    ),
    Kind(
        "scipy: distributions, splines and results",
        _DATA
        + "import scipy.stats as st, scipy.interpolate as ip, scipy.optimize as op; x = [st.norm(1, 2), ip.CubicSpline([0, 1, 2], [0, 1, 4]), op.minimize(lambda v: (v ** 2).sum(), [1., 2.])]",
        "x.append(st.gamma(2.))",
        "[float(x[0].pdf(1)), float(x[1](.5)), [round(float(v), 4) for v in x[2].x], len(x)]",
        "scipy",
    ),
    Kind(
        "scipy: KDTree and rotation",
        _DATA
        + "from scipy.spatial import cKDTree; from scipy.spatial.transform import Rotation; x = [cKDTree(X), Rotation.from_euler('z', .5)]",
        "x.append(1)",
        "[int(x[0].query(X[1])[1]), np.round(x[1].as_quat(), 6).tolist(), len(x)]",
        "scipy",
    ),
    Kind(
        "networkx: Graph",
        "import networkx as nx; x = nx.path_graph(4); x.nodes[0]['k'] = [1]",
        "x.add_edge(0, 3, w=2.5); x.nodes[0]['k'].append(2)",
        "(sorted(map(str, x.edges(data=True))), dict(x.nodes(data=True)))",
        "networkx",
    ),
    Kind(
        "networkx: MultiDiGraph",
        "import networkx as nx; x = nx.MultiDiGraph([(1, 2), (1, 2), (2, 1)]); x.graph['n'] = 'g'",
        "x.add_edge(2, 3)",
        "(sorted(map(str, x.edges(keys=True))), x.graph, x.out_degree(1))",
        "networkx",
    ),
    Kind(
        "sympy: expressions",
        "import sympy as s; a, b = s.symbols('a b', positive=True); x = s.integrate(a ** 2 * s.sin(b * a), a)",
        "x = s.diff(x, a)",
        "(str(x), x.free_symbols == {a, b})",
        "sympy",
        stays=False,
    ),
    Kind(
        "sympy: Matrix and functions",
        "import sympy as s; t = s.Symbol('t'); x = s.Matrix([[t, 1], [0, s.Function('f')(t)]])",
        "x[0, 0] = 5",
        "str(x)",
        "sympy",
    ),
    Kind(
        "astropy: Quantity",
        "import numpy as np; from astropy import units as u; x = np.arange(3.) * u.km / u.s",
        "x[0] = 5 * u.km / u.s",
        "(x.value.tolist(), str(x.unit))",
        "astropy",
    ),
    Kind(
        "astropy: Table",
        "from astropy.table import Table; x = Table({'a': [1, 2], 's': ['x', 'y']}, meta={'k': 1})",
        "x['b'] = [1.5, 2.5]; x['a'][0] = 9",
        "(x.colnames, [list(map(str, r)) for r in x], dict(x.meta))",
        "astropy",
    ),
    Kind(
        "astropy: SkyCoord and Time",
        "from astropy.coordinates import SkyCoord; from astropy.time import Time; from astropy import units as u; x = [SkyCoord(10 * u.deg, 20 * u.deg), Time('2020-01-01')]",
        "x.append(x[1] + 1 * u.day)",
        "[str(v) for v in x]",
        "astropy",
    ),
    Kind(
        "astropy: model and header",
        "from astropy.modeling.models import Gaussian1D; from astropy.io.fits import Header; x = [Gaussian1D(1, 2, 3), Header([('A', 1, 'note')])]",
        "x[0].mean = 9; x[1]['B'] = 2",
        "[float(x[0](2.5)), str(x[1])]",
        "astropy",
    ),
    Kind(
        "skimage: transforms and regions",
        "import numpy as np; from skimage import transform, measure; x = [transform.SimilarityTransform(scale=2, rotation=.5), measure.regionprops(np.eye(4, dtype=int))]",
        "x.append(1)",
        "[np.round(x[0].params, 6).tolist(), float(x[1][0].area), len(x)]",
        "skimage",
    ),
]

KINDS = [*LEARN, *OTHERS]
