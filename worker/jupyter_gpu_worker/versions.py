"""What this worker runs: compared by the client before anything is pickled."""

from __future__ import annotations

import platform
from functools import lru_cache

from jupyter_gpu.wire.messages import Versions


@lru_cache(maxsize=1)
def here() -> Versions:
    import cloudpickle
    import ipykernel

    from jupyter_gpu._version import __version__

    return Versions(
        software=__version__,
        python=platform.python_version(),
        cloudpickle=cloudpickle.__version__,
        ipykernel=ipykernel.__version__,
        platform=f"{platform.system()} {platform.machine()}",
    )
