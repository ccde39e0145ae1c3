"""The sandbox's own control group, where it can be seen. One that holds anything else is not used."""

import os

_UNLIMITED_BYTES = 1 << 60
_READ_BYTES = 65536

_V2 = {"max": "memory.max", "used": "memory.current", "peak": "memory.peak", "events": ("memory.events", b"oom_kill")}
_V1 = {"max": "memory.limit_in_bytes", "used": "memory.usage_in_bytes", "peak": "memory.max_usage_in_bytes", "events": ("memory.oom_control", b"oom_kill")}


class Cgroup:
    """Its files are opened once: what they say is read before and after every program."""

    def __init__(self, kind, path, names):
        self.kind = kind
        self._event = names["events"][1] + b" "
        self._fds = {what: _open(path, names[what]) for what in ("used", "peak")}
        self._fds["events"] = _open(path, names["events"][0])

    def peak(self):
        """Highest use since the sandbox began, 0 where the kernel does not say."""
        return self._number("peak")

    def used(self):
        return self._number("used")

    def _number(self, what):
        try:
            return int(os.pread(self._fds[what], _READ_BYTES, 0))
        except (OSError, ValueError):
            return 0

    def oom_kills(self):
        try:
            for line in os.pread(self._fds["events"], _READ_BYTES, 0).split(b"\n"):
                if line.startswith(self._event):
                    return int(line.split()[1])
        except (OSError, ValueError):
            pass
        return 0


def given(path):
    """The group that the sandbox's maker says is its own; None where there is no path, or nothing at it."""
    for kind, names in (("v2", _V2), ("v1", _V1)) if path else ():
        if os.access(path + "/" + names["used"], os.R_OK):
            return Cgroup(kind, path, names)
    return None


def find(root, proc_root):
    """The group that holds this sandbox and nothing else, or None."""
    try:
        with open(proc_root + "/self/cgroup", "rb") as file:
            lines = file.read().decode("utf-8", "surrogateescape").split("\n")
    except OSError:
        return None
    for line in lines:
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        if parts[0] == "0" and not parts[1]:
            kind, base, names = "v2", root, _V2
        elif "memory" in parts[1].split(","):
            kind, base, names = "v1", root + "/memory", _V1
        else:
            continue
        for path in (base + parts[2].rstrip("/"), base):
            if os.access(path + "/" + names["used"], os.R_OK) and _is_own(path, names["max"]):
                return Cgroup(kind, path, names)
    return None


def _is_own(path, max_name):
    """Members outside this PID namespace show as 0 in version 2 and not at all in version 1, so a limit must be there
    too: whoever makes a group for a sandbox gives it one. A runner that is not PID 1 shares its group with strangers."""
    if os.getpid() != 1:
        return False
    try:
        members = _read(path, "cgroup.procs").split()
        limit = _read(path, max_name).strip()
    except OSError:
        return False
    return b"1" in members and b"0" not in members and limit.isdigit() and int(limit) < _UNLIMITED_BYTES


def _open(path, name):
    """-1, of which nothing can be read, for a file that is not there."""
    try:
        return os.open(path + "/" + name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _read(path, name):
    with open(path + "/" + name, "rb", buffering=0) as file:
        return file.read(_READ_BYTES)
