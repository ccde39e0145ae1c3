"""Bodies of control frames: what START must hold, and what READY says."""

import os

from podgate_runner.config import LANGUAGES
from podgate_runner.limits import (
    MAX_DETAIL_CHARS,
    MAX_SESSION_SECONDS,
    MAX_SIGNAL,
    MAX_TERMINAL_SIDE,
    MAX_TRACE_CHARS,
    RUNNER_VERSION,
)


FILE_WORK = ("stat", "list", "read", "mkdir", "move", "delete", "pack", "unpack")
SESSION_WORK = ("open", "extend", "bash", "python", "restart", "files", "terminal")


class RequestError(Exception):
    """A missing or mistyped member: a fault of the stream."""


def integer(body, name, nullable=False):
    value = body.get(name)
    if value is None and nullable:
        return None
    if type(value) is not int or value < 0:
        raise RequestError(name)
    return value


def signal_number(body):
    number = integer(body, "signal")
    if not 0 < number <= MAX_SIGNAL:
        raise RequestError("signal")
    return number


def _of(body, name, kind):
    value = body.get(name)
    if not isinstance(value, kind):
        raise RequestError(name)
    return value


def _trace(body, name):
    value = body.get(name)
    if value is not None and not (isinstance(value, str) and len(value) <= MAX_TRACE_CHARS):
        raise RequestError(name)
    return value


def parse(body):
    language = body.get("language")
    if language not in LANGUAGES:
        raise RequestError("language")
    sizes, limits = _of(body, "sizes", dict), _of(body, "limits", dict)
    return {
        "language": language,
        "last_line_interactive": _of(body, "last_line_interactive", bool),
        "traceparent": _trace(body, "traceparent"),
        # For whoever looks at the runner: user code is not told.
        "request_id": _trace(body, "request_id"),
        "sizes": {name: integer(sizes, name, name == "stdin") for name in ("manifest", "code", "stdin", "files")},
        "limits": {
            "timeout_ms": integer(limits, "timeout_ms"),
            "max_output_bytes": integer(limits, "max_output_bytes"),
            "memory_bytes": integer(limits, "memory_bytes", True),
            "cpu_seconds": integer(limits, "cpu_seconds", True),
            "output_limit_bytes": integer(limits, "output_limit_bytes", True),
        },
        "collect": _of(body, "collect", bool),
        "rich": body.get("rich") is True,
        "session": session(body.get("session")),
    }


def session(asked):
    """What a kept sandbox is to do; None for an execution like any other."""
    if asked is None:
        return None
    if not isinstance(asked, dict) or asked.get("do") not in SESSION_WORK:
        raise RequestError("session")
    found = {"do": asked["do"]}
    if found["do"] in ("open", "extend"):
        found["ttl_seconds"] = integer(asked, "ttl_seconds")
        if not 0 < found["ttl_seconds"] <= MAX_SESSION_SECONDS:
            raise RequestError("ttl_seconds")
    if found["do"] in ("python", "restart"):
        found["context"] = _of(asked, "context", str)
    if found["do"] == "python":
        found["rich"] = _of(asked, "rich", bool)
    if found["do"] in ("bash", "python"):
        found["input"] = asked.get("input") is True
    if found["do"] == "terminal":
        found["rows"], found["columns"] = size(asked)
    if found["do"] == "files":
        found["files"] = _files(_of(asked, "files", dict))
    return found


def size(asked):
    """(rows, columns) of a terminal."""
    sides = integer(asked, "rows"), integer(asked, "columns")
    if not all(0 < side <= MAX_TERMINAL_SIDE for side in sides):
        raise RequestError("rows")
    return sides


def _files(asked):
    found = {"op": _of(asked, "op", str), "path": _of(asked, "path", str)}
    if found["op"] not in FILE_WORK:
        raise RequestError("op")
    for name in ("to", "after"):
        found[name] = _of(asked, name, str) if name in asked else ""
    for name in ("first", "last", "limit"):
        found[name] = integer(asked, name, True)
    found["recursive"] = asked.get("recursive") is True
    return found


def ready(config, facts, trouble, programs):
    """READY without what only the runner knows. `ok` only when everything that the template requires holds.

    Without facts there is no zygote, and nobody knows what would hold: that is the trouble, and no filter.
    """
    known = bool(facts)
    facts = facts or {}
    missing = list(facts.get("missing", []))
    lacking = []
    if known and "seccomp" in config["require"] and not facts.get("seccomp"):
        lacking.append("seccomp is required and does not hold.")
    if known and "landlock" in config["require"] and facts.get("landlock_abi", 0) < 2:
        lacking.append("Landlock of ABI 2 or newer is required and does not hold.")
    if trouble:
        lacking.append(trouble)
    languages = {name: version for name, (_, version) in programs.items()}
    if "python" in config["languages"] and facts:
        languages["python"] = facts["python"]
    missing += ["No %s that runs was found." % name for name in config["languages"] if name not in languages]
    return {
        "ok": known and not lacking,
        "version": RUNNER_VERSION,
        "python": facts.get("python", "unknown"),
        "arch": os.uname().machine,
        "features": {
            "seccomp": facts.get("seccomp", False),
            "landlock_abi": facts.get("landlock_abi", 0),
            "namespaces": facts.get("namespaces", False),
        },
        "missing": [sentence[:MAX_DETAIL_CHARS] for sentence in lacking + missing][:64],
        "languages": languages,
        "preloaded": facts.get("preloaded", []),
        "preload_failed": [{"name": name, "error": error} for name, error in facts.get("preload_failed", [])],
    }
