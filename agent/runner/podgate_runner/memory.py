"""Peak memory and the kernel's kills, from the sandbox's control group where it has one of its own."""


class Memory:
    def __init__(self, cgroup):
        self._cgroup = cgroup
        # What a program that ended before the first look has at least used: the pages of its zygote.
        self.floor = 0

    def begin(self):
        return _Span(self._cgroup, self.floor)


class _Span:
    """One execution."""

    def __init__(self, cgroup, floor):
        self._cgroup = cgroup
        self._floor = floor
        if cgroup:
            self._peak = cgroup.peak()
            self._used = cgroup.used()
            self._kills = cgroup.oom_kills()

    def look(self):
        """While it runs: what was used when this began may have been the program's before, and is being freed."""
        if self._cgroup is not None:
            self._used = min(self._used, self._cgroup.used())

    def oom_killed(self):
        return self._cgroup is not None and self._cgroup.oom_kills() > self._kills

    def peak(self, observed):
        """The group's own peak counts only when it rose: it is that of the sandbox's whole life."""
        peak = max(observed, self._floor)
        if self._cgroup is not None:
            highest = self._cgroup.peak()
            if highest > self._peak:
                peak = max(peak, highest - self._used)
        return peak
