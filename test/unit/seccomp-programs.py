"""For seccomp.test.ts. `dump`: the programs and tables as JSON. `try`: makes the calls given on stdin as
[[name, [argument, ...]], ...], each in a child with the filter and in one without, and prints what each returned."""

import json
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])

from podgate_runner import confine, seccomp, syscall_table, syscalls  # noqa: E402


def dump(variants):
    table = {
        machine: {name: syscall_table.number(name, machine) for name in syscall_table.CALLS}
        for machine in syscall_table.MACHINES
    }
    programs = [
        seccomp.instructions(each["machine"], each["network"], each["protected"], each["fresh"]) for each in variants
    ]
    newest = syscall_table.NEWEST
    return {"table": table, "arch": syscall_table.AUDIT_ARCH, "newest": newest, "programs": programs}


def attempt(name, arguments, confinement):
    """-errno, or 0 for any success, of one call in a child of its own."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        if confinement:
            confinement.bequeath()
            confinement.apply()
        result = 0
        try:
            syscalls.call(name, *arguments)
        except OSError as error:
            result = -error.errno
        os.write(writing, b"%d" % result)
        os._exit(0)
    os.close(writing)
    answer = os.read(reading, 16)
    os.close(reading)
    os.waitpid(pid, 0)
    return int(answer) if answer else None


def main():
    given = json.load(sys.stdin)
    if sys.argv[2] == "dump":
        answer = dump(given)
    else:
        # The filter alone: with Landlock beside it nobody could tell which of the two refused.
        confine.features()["landlock_abi"] = 0
        cfg = {"network": False, "protected_pids": [1], "writable": [], "fresh": False}
        answer = [
            [attempt(name, arguments, None), attempt(name, arguments, confine.Confinement(cfg))]
            for name, arguments in given["calls"]
        ]
    json.dump(answer, sys.stdout)


main()
