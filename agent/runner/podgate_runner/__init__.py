"""Podgate's process in a sandbox. `agent/runner/protocol.md` is its contract."""

import sys

# Where this is a zygote: what every interpreter has imported at its start.
AT_START = frozenset(sys.modules)
