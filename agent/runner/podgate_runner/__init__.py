"""Podgate's process in a sandbox. `agent/runner/protocol.md` is its contract."""
