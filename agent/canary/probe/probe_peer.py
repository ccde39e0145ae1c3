"""Another sandbox: one leaves its mark and listens, the other looks for it."""

import ctypes
import json
import os
import select
import socket
import sys
import time

import probe_network
from probe_words import BROKEN, HOLDS, UNKNOWN

MAX_PEER_SECONDS = 120
PR_SET_NAME = 15


def be_met(mark, places):
    """Leaves its mark wherever another sandbox could find it, and listens."""
    listening, port = listeners()
    unix = socket.socket(socket.AF_UNIX)
    unix.bind("\0" + mark)
    unix.listen(4)
    for place in places:
        leave(os.path.join(place, mark))
    # Landlock keeps /proc from being written to.
    ctypes.CDLL(None).prctl(PR_SET_NAME, mark[:15].encode(), 0, 0, 0)
    at = addresses() if listening else []
    told = {"mark": mark, "addresses": at, "port": port, "whereabouts": probe_network.whereabouts()}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    poll = select.poll()
    by_fd = {each.fileno(): each for each in listening + [unix]}
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    end = time.monotonic() + MAX_PEER_SECONDS
    while time.monotonic() < end:
        for fd, _ in poll.poll(1000):
            try:
                by_fd[fd].accept()[0].close()
            except OSError:
                pass


def listeners():
    made, port = [], 0
    for family, host in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
        try:
            one = socket.socket(family)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((host, port))
            one.listen(4)
        except OSError:
            continue
        port = one.getsockname()[1]
        made.append(one)
    return made, port


def leave(path):
    try:
        with open(path, "w") as file:
            file.write("canary")
    except OSError:
        pass


def addresses():
    """This sandbox's own, but for its loopback's."""
    found = []
    try:
        with open("/proc/net/fib_trie") as file:
            lines = file.read().split("\n")
        for line, below in zip(lines, lines[1:]):
            if "host LOCAL" in below:
                found.append(line.split()[-1])
    except OSError:
        pass
    try:
        with open("/proc/net/if_inet6") as file:
            for words in (line.split() for line in file):
                # Scope 0 is global.
                if words[3] == "00":
                    found.append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(words[0])))
    except OSError:
        pass
    return sorted({address for address in found if not address.startswith("127.")})[:8]


def shared(peer, places):
    if peer is None:
        return UNKNOWN, "There was no other sandbox to look for."
    mark = peer["mark"]
    met = [place for place in places if os.path.lexists(os.path.join(place, mark))]
    for name in os.listdir("/proc"):
        if name.isdigit() and comm(name) == mark[:15]:
            met.append("its process %s" % name)
    try:
        socket.socket(socket.AF_UNIX).connect("\0" + mark)
        met.append("its socket")
    except OSError:
        pass
    if met:
        return BROKEN, "Another sandbox was met: %s." % ", ".join(met)
    return HOLDS, "Nothing of another sandbox is to be seen."


def comm(pid):
    try:
        with open("/proc/%s/comm" % pid) as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""
