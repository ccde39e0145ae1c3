"""What the zygote is told to run, and under which limits."""

import resource

from podgate_runner.limits import CPU_GRACE_SECONDS, MAX_LARGE_STACKS_BYTES


def lowered(asked, ours):
    """A request's limits, none above the template's."""
    limits = dict(asked)
    for name in ("memory_bytes", "cpu_seconds"):
        limits[name] = ours[name] if asked[name] is None else min(asked[name], ours[name])
    return limits


def describe(request, limits, staging, host):
    name, program = host.program(request["language"])
    env = dict(staging.env)
    if request["traceparent"]:
        env.setdefault("TRACEPARENT", request["traceparent"])
    return {
        "program": program,
        "name": name,
        "path": host.config["workspace"].rstrip("/") + "/" + staging.main_name,
        "args": staging.args,
        "env": env,
        "interactive": request["last_line_interactive"],
        "rlimits": rlimits(limits, host, program),
        "nice": host.config["program_nice"],
    }


CPU = resource.RLIMIT_CPU


def rlimits(limits, host, program):
    ours = host.config["limits"]
    # What the zygote holds is not the program's: the limits are what it may add.
    data = limits["memory_bytes"] + (0 if program else host.zygote_data_bytes)
    # stacks.py goes beyond `data`.
    most = data + (0 if program else MAX_LARGE_STACKS_BYTES)
    processes = ours["processes"] + host.own_tasks
    # Only a backstop: the runner watches the tree, and what it reads is finer than this limit's ticks.
    cpu = limits["cpu_seconds"] + CPU_GRACE_SECONDS
    return [
        (resource.RLIMIT_DATA, data, most),
        (resource.RLIMIT_CPU, cpu, cpu + CPU_GRACE_SECONDS),
        (resource.RLIMIT_NPROC, processes, processes),
        (resource.RLIMIT_FSIZE, ours["file_bytes"], ours["file_bytes"]),
        (resource.RLIMIT_NOFILE, ours["open_files"], ours["open_files"]),
    ]
