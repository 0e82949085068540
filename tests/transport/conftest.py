"""So that the tests of this folder find ``misbehaving_relay``: with importmode=importlib nothing else puts it on the path."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
