"""What of the gateway's environment, and of a client's, workers do not get. Imports nothing: it is needed before all else."""

from __future__ import annotations

import os
from collections.abc import Mapping

#: The folder that sessions share, and its size in bytes: the operator's word alone, which no environment can be.
SHARED_CACHE, SHARED_CACHE_SIZE = "JUPYTER_GPU_SHARED_CACHE", "JUPYTER_GPU_SHARED_CACHE_SIZE"
#: The token is the gateway's, and no business of cells.
_PRIVATE = frozenset({"JUPYTER_GPU_TOKEN", SHARED_CACHE, SHARED_CACHE_SIZE})


def without_private(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    return {k: v for k, v in environment.items() if k not in _PRIVATE}
