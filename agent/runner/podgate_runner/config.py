"""The configuration of a sandbox, protocol.md 2.1. A value out of place stops the runner before it answers anything."""

import json
import os

LANGUAGES = ("python", "bash", "node")
_TMPFS_BYTES = 67108864
_DEFAULTS = {
    "languages": ["python"],
    "preload": [],
    "workspace": "/workspace",
    "scratch": ["/tmp", "/dev/shm"],
    "place": "shared",
    "network": False,
    "threads": 1,
    "workspace_bytes": _TMPFS_BYTES,
    "tmp_bytes": _TMPFS_BYTES,
    "limits": {},
    "files_max": 1000,
    "files_max_bytes": 268435456,
    "attach": "stdio",
    "idle_exit_seconds": 0,
    "program_nice": 0,
    "require": ["seccomp"],
    "foreign_env": [],
    "cgroup_root": "/sys/fs/cgroup",
    "cgroup_given": "",
    "proc_root": "/proc",
}
_LIMITS = {
    "memory_bytes": 268435456,
    "cpu_seconds": 5,
    "processes": 128,
    "open_files": 256,
    "file_bytes": 104857600,
}
_CHOICES = {"place": ("shared", "fresh"), "attach": ("stdio", "socket")}


class ConfigError(ValueError):
    pass


def parse(text):
    given = json.loads(text)
    if not isinstance(given, dict):
        raise ConfigError("the configuration is not an object")
    config = dict(_DEFAULTS)
    config.update((name, value) for name, value in given.items() if name in _DEFAULTS and value is not None)
    for name, default in _DEFAULTS.items():
        _check(name, config[name], default)
    for name, allowed in _CHOICES.items():
        if config[name] not in allowed:
            raise ConfigError("%s is not one of %s" % (name, ", ".join(allowed)))
    limits = dict(_LIMITS)
    limits.update((name, value) for name, value in config["limits"].items() if name in _LIMITS and value is not None)
    for name, default in _LIMITS.items():
        _check(name, limits[name], default)
    config["limits"] = limits
    for path in [config["workspace"]] + config["scratch"]:
        if not os.path.isabs(path):
            raise ConfigError("%s is not an absolute path" % path)
    return config


def _check(name, value, default):
    wanted = type(default)
    if wanted is not bool and isinstance(value, bool) or not isinstance(value, wanted):
        raise ConfigError("%s is not of type %s" % (name, wanted.__name__))
    if wanted is int and value < 0:
        raise ConfigError("%s is negative" % name)
    if wanted is list and not all(isinstance(item, str) for item in value):
        raise ConfigError("%s holds something that is not a string" % name)


