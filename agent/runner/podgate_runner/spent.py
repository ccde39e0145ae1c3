"""Processor time of processes whose ends nobody hears of: a parent that ignores SIGCHLD has no part of its children's."""


class Spent:
    """What each process that was ever seen had used when it was seen last, counted once."""

    def __init__(self):
        # Process → its time before the first look, and its time.
        self._alive = {}
        # Not there in the last look. Whose parent ends while the tree is read is missed once.
        self._missing = {}
        self._gone = 0.0
        # When the youngest of the first look was born.
        self._newest = None

    def look(self, tree):
        """Seconds since the first look, with all that those used that were born after it."""
        if self._newest is None:
            self._newest = max((process.born for process in tree), default=0)
        alive = {}
        for process in tree:
            key = (process.pid, process.born)
            known = self._alive.get(key) or self._missing.get(key)
            before = known[0] if known else process.cpu if process.born <= self._newest else 0.0
            alive[key] = (before, process.cpu)
        self._gone += _sum(self._missing, alive)
        self._missing = {key: times for key, times in self._alive.items() if key not in alive}
        self._alive = alive
        return self._gone + _sum(self._missing) + _sum(alive)


def _sum(times, but=()):
    return sum(used - before for key, (before, used) in times.items() if key not in but)
