"""What a sandbox could do with its own rights."""

import os

from probe_words import BROKEN, HOLDS, UNKNOWN


def status():
    with open("/proc/self/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def status_is(name, wanted, otherwise):
    value = status().get(name)
    if value is None:
        return UNKNOWN, "The kernel does not say."
    return (HOLDS, "") if value == wanted else (BROKEN, "%s is %s: %s." % (name, value, otherwise))


def user():
    found = status()
    ids = set(found["Uid"].split() + found["Gid"].split() + found["Groups"].split())
    if "0" in ids:
        return BROKEN, "It runs as root, or in root's group."
    return HOLDS, "UID %s." % found["Uid"].split()[0]


def capabilities():
    found = {name: value for name, value in status().items() if name.startswith("Cap") and value.strip("0")}
    if found:
        return BROKEN, "It has %s." % ", ".join("%s %s" % pair for pair in sorted(found.items()))
    return HOLDS, ""


def become_root():
    for change, value in ((os.setuid, 0), (os.setgid, 0), (os.setgroups, [0])):
        try:
            change(value)
            return BROKEN, "%s to 0 went through." % change.__name__
        except OSError:
            pass
    return HOLDS, ""


def no_new_privs():
    return status_is("NoNewPrivs", "1", "new privileges can be gained")


def seccomp():
    return status_is("Seccomp", "2", "no filter of system calls")
