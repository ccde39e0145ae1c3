"""The words in which everything is reported."""

HOLDS, BROKEN, UNKNOWN = "holds", "broken", "unknown"
