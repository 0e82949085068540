"""Figures and images."""

from kind import Kind

_M = "import matplotlib; matplotlib.use('agg'); import matplotlib.pyplot as plt, numpy as np, hashlib; plt.close('all'); "
_PNG = "(lambda c: (c.draw(), hashlib.sha256(bytes(c.buffer_rgba())).hexdigest())[1])(__import__('matplotlib.backends.backend_agg').backends.backend_agg.FigureCanvasAgg(%s))"
_FIGURE = _PNG % "x"


def figure(name: str, make: str, change: str, look: str = _FIGURE, stays: bool = True) -> Kind:
    return Kind("matplotlib: " + name, _M + make, change, look, "matplotlib", stays)


KINDS = [
    figure(
        "figure",
        "x, a = plt.subplots(figsize=(2, 2)); a.plot([1, 2, 3], label='l'); a.legend()",
        "x.axes[0].plot([3, 1]); x.axes[0].set_title('t')",
    ),
    figure(
        "figure without pyplot",
        "from matplotlib.figure import Figure; x = Figure(figsize=(2, 2)); x.add_subplot().bar([1, 2], [3, 4])",
        "x.suptitle('s')",
    ),
    figure(
        "many axes, shared",
        "x, a = plt.subplots(2, 2, sharex=True, figsize=(2, 2)); a[0, 0].imshow(np.eye(4)); a[1, 1].scatter([1, 2], [2, 1])",
        "x.axes[0].set_xlim(0, 2)",
    ),
    figure(
        "colour bar and 3d",
        "x = plt.figure(figsize=(2, 2)); a = x.add_subplot(projection='3d'); a.plot([1, 2], [1, 2], [1, 2])",
        "x.axes[0].view_init(10, 20)",
    ),
    figure(
        "axes and line",
        "f, a = plt.subplots(figsize=(2, 2)); x = [f, a, a.plot([1, 2])[0]]",
        "x[2].set_ydata([5, 6])",
        "(x[1].figure is x[0], x[2].axes is x[1], list(map(float, x[2].get_ydata())), " + _PNG % "x[0]" + ")",
    ),
    figure(
        "colour map and norm",
        "x = [plt.get_cmap('viridis'), matplotlib.colors.LogNorm(1, 10)]",
        "x[1].vmax = 100",
        "[str(x[0](.5)), float(x[1](5))]",
    ),
    Kind(
        "plotly: Figure",
        "import plotly.graph_objects as go; x = go.Figure(go.Scatter(y=[1, 3, 2]))",
        "x.add_bar(y=[1]); x.update_layout(title='t')",
        "(lambda j: j.dumps(j.loads(x.to_json()), sort_keys=True))(__import__('json'))",
        "plotly",
    ),
    Kind(
        "plotly: express",
        "import plotly.express as px; x = px.scatter(x=[1, 2], y=[3, 4], color=['a', 'b'])",
        "x.update_traces(marker_size=12)",
        "(lambda j: j.dumps(j.loads(x.to_json()), sort_keys=True))(__import__('json'))",
        "plotly",
    ),
    Kind(
        "PIL: image",
        "from PIL import Image; x = Image.new('RGB', (60, 50), (1, 2, 3)); x.info['k'] = 'v'",
        "x.putpixel((1, 1), (9, 9, 9))",
        "(x.mode, x.size, x.tobytes(), x.info)",
        "PIL",
    ),
    Kind(
        "PIL: palette and alpha",
        "from PIL import Image; x = [Image.new('P', (3, 3)), Image.new('RGBA', (3, 3), (1, 2, 3, 4)), Image.new('1', (9, 3)), Image.new('F', (2, 2), 1.5)]; x[0].putpalette([1, 2, 3] * 256)",
        "x[1].putpixel((0, 0), (9, 9, 9, 9)); x.append(1)",
        "[(i.mode, i.size, i.tobytes(), i.getpalette()) if hasattr(i, 'mode') else i for i in x]",
        "PIL",
    ),
    Kind(
        "PIL: opened from a file",
        "import io; from PIL import Image; b = io.BytesIO(); Image.new('RGB', (4, 4), (5, 6, 7)).save(b, 'PNG'); x = Image.open(b)",
        "x.putpixel((0, 0), (1, 1, 1))",
        "(type(x).__name__, x.format, x.size, x.tobytes())",
        "PIL",
    ),
]
