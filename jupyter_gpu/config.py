"""What a person can configure, and from where: environment, then ``jupyter_gpu_config.py`` in Jupyter's config path or IPython's own
configuration (``c.JupyterGPU.gateway = ...``), then the defaults here."""

from __future__ import annotations

import os
from typing import Any

from traitlets import Bool, Float, List, TraitError, Unicode
from traitlets.config import Config, Configurable

from .sync.units import parse_bytes
from .wire.errors import BadOptionValue

#: Environment variable -> trait. The environment wins: it is what a person sets for one run.
ENVIRONMENT = {
    "JUPYTER_GPU_GATEWAY": "gateway",
    "JUPYTER_GPU_TOKEN": "token",
    "JUPYTER_GPU_SIMULATE": "simulate",
    "JUPYTER_GPU_DEFAULT": "default_gpu",
    "JUPYTER_GPU_TRUST": "trust",
    "JUPYTER_GPU_KEEP_ABOVE": "keep_above",
}


class JupyterGPU(Configurable):
    """Options of the notebook's side."""

    gateway = Unicode(
        "", help="Address of a gateway: ws://HOST:PORT, wss://HOST or unix:///PATH. Empty: one of your own, started when needed."
    ).tag(config=True)
    token = Unicode("", help="Token of that gateway.").tag(config=True)
    trust = Unicode(
        "",
        help="What workers may send back: code (whatever a pickle says) or data (plain values and arrays; anything else stays remote). "
        "Empty: code for a gateway of your own, data for any other.",
    ).tag(config=True)
    simulate = Unicode("", help="Simulated GPUs of a gateway of your own, as in H100:2,A100.").tag(config=True)
    default_gpu = Unicode("", help="Hardware of %%remote without gpu=.").tag(config=True)
    idle = Float(0.0, min=0.0, help="Seconds without a cell after which a session ends; 0: never.").tag(config=True)
    interpreter = Unicode("", help="The Python that workers of your own gateway run; empty: the notebook's.").tag(config=True)
    exit_when_idle = Float(300.0, min=1.0, help="Seconds after which your own gateway ends when nobody uses it.").tag(config=True)
    preload = List(Unicode(), default_value=None, allow_none=True, help="Modules that workers of your own gateway import beforehand.").tag(
        config=True
    )
    keep_above = Unicode(
        "256MB",
        help="Size beyond which a new result stays on its worker, as a handle: 256MB, 2GiB; 0: every one does; off: none for its size.",
    ).tag(config=True)
    forward_env = List(
        Unicode(), help="Environment variables (patterns, as in HF_*) that whole kernels get beside those that are harmless everywhere."
    ).tag(config=True)
    outlive = Float(
        3600.0, min=0.0, help="Seconds for which a notebook's remote kernel waits when its Jupyter server is gone; 0: for ever."
    ).tag(config=True)
    quiet = Bool(False, help="Show no summary line.").tag(config=True)

    def keep_above_bytes(self) -> int:
        """``keep_above`` in bytes; -1: off. Raises ``BadOptionValue``."""
        if self.keep_above.strip().lower() in ("off", "none", ""):
            return -1
        size = parse_bytes(self.keep_above)
        if size is None:
            raise BadOptionValue(option="keep_above", value=self.keep_above, expected="a size, as in 256MB or 2GiB, 0 or off")
        return size


def load(config: Config | None = None) -> JupyterGPU:
    """The options in force; ``config`` is that of the shell. Raises ``BadOptionValue`` that names where a bad value stands."""
    merged = _from_files()
    if config is not None:
        merged.merge(Config({"JupyterGPU": config.get("JupyterGPU", {})}))
    try:
        options = JupyterGPU(config=merged)
    except TraitError as error:
        raise BadOptionValue(option="jupyter_gpu_config.py", value=str(error), expected="a value of the type that the option has") from None
    if os.environ.get("JUPYTER_GPU_FORWARD_ENV"):
        options.forward_env = [name.strip() for name in os.environ["JUPYTER_GPU_FORWARD_ENV"].split(",")]
    for variable, trait in ENVIRONMENT.items():
        if os.environ.get(variable):
            setattr(options, trait, os.environ[variable])
    return options


def _from_files() -> Config:
    """``jupyter_gpu_config.py`` or ``.json`` of Jupyter's config path; the person's own files win over the system's."""
    from jupyter_core.paths import jupyter_config_path
    from traitlets.config.loader import ConfigFileNotFound, JSONFileConfigLoader, PyFileConfigLoader

    merged = Config()
    for folder in reversed(jupyter_config_path()):
        loaders: tuple[Any, ...] = (JSONFileConfigLoader, PyFileConfigLoader)
        for loader, suffix in zip(loaders, (".json", ".py")):
            name = f"jupyter_gpu_config{suffix}"
            if not os.path.isfile(os.path.join(folder, name)):
                continue
            try:
                merged.merge(loader(name, path=folder).load_config())
            except ConfigFileNotFound:
                continue
            except Exception as error:  # it is the person's code
                where = os.path.join(folder, name)
                raise BadOptionValue(
                    option=where, value=type(error).__name__, expected=f"a configuration file that can be read; it says: {error}"
                ) from error
    return merged
