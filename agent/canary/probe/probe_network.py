"""Targets that a sandbox must not reach.

A target is reached when it takes a connection or answers a datagram. Its host is an address, or `nameserver`, `node`,
`apiserver`: what this very sandbox is told of its cluster. A sandbox with the filter is told nothing: it is asked for the
addresses that a peer was told.
"""

import errno
import os
import select
import socket
import time

from probe_words import BROKEN, HOLDS, UNKNOWN

REACHED, REFUSED, NOT_REACHED, NO_SOCKET = "reached", "refused", "not reached", "no socket"
NO_SOCKETS = "No socket can be made."
# A descriptor each; a template may allow sixteen in all.
MAX_TOGETHER = 6
# Of each word; the agent takes no more.
MAX_WHEREABOUTS = 4
WORDS = ("nameserver", "apiserver", "node")
KINDS = ("dns", "api", "metadata", "node", "internet")
# A query for the address of `kubernetes.default.svc.cluster.local`: any answer, also that there is no such name, is one.
DNS_QUERY = (
    b"\x70\x67\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
    b"\x0akubernetes\x07default\x03svc\x07cluster\x05local\x00\x00\x01\x00\x01"
)


def network(group, asked):
    targets = {kind: resolve(asked["targets"].get(kind, [])) for kind in KINDS}
    peer = asked["peer"]
    if peer is not None:
        targets["sandbox"] = [(address, peer["port"]) for address in peer["addresses"]]
    wait = asked["wait_ms"] / 1000
    findings = []
    for kind, places in targets.items():
        if places:
            state, detail = reach(kind, places, wait)
            if group == "policy" and detail == NO_SOCKETS:
                state, detail = UNKNOWN, "The sandbox has the filter without which it was to be tried."
            findings.append(("%s.%s" % (group, kind), state, detail))
    return findings


def resolve(texts):
    """(host, port) of each; words stand for what the sandbox knows, and for nothing where it does not."""
    found = []
    for text in texts:
        host, _, port = text.rpartition(":")
        for address in known(host):
            found.append((address.strip("[]"), int(port or 443)))
    return found


def known(host):
    if host == "nameserver":
        return nameservers()
    if host in ("node", "apiserver"):
        value = os.environ.get("CANARY_" + host.upper(), "")
        return [value] if value else []
    return [host]


def whereabouts():
    """What the words stand for here, for a sandbox that is not told."""
    return {word: [address for address in known(word) if is_address(address)][:MAX_WHEREABOUTS] for word in WORDS}


def is_address(text):
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
            return True
        except OSError:
            pass
    return False


def nameservers():
    try:
        with open("/etc/resolv.conf") as file:
            lines = [line.split() for line in file]
    except OSError:
        return []
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver" and not words[1].startswith("127.")]


def reach(kind, targets, wait):
    tries = []
    for host, port in targets:
        tries.append((host, port, socket.SOCK_STREAM))
        if kind == "dns":
            tries.append((host, port, socket.SOCK_DGRAM))
    results = []
    for first in range(0, len(tries), MAX_TOGETHER):
        results += connect_all(tries[first : first + MAX_TOGETHER], wait)
    for wanted in (REACHED, REFUSED):
        places = sorted({"%s:%d" % (host, port) for (host, port, _), result in results if result == wanted})
        if places and wanted == REACHED:
            return BROKEN, "%s was reached." % ", ".join(places)
        if places and kind != "sandbox":
            # Where something listens somebody on the way said no; where nothing listens packets went through.
            return UNKNOWN, "%s refused the connection." % ", ".join(places)
    if all(result == NO_SOCKET for _, result in results):
        return HOLDS, NO_SOCKETS
    return HOLDS, "None of %d was reached." % len(targets)


def connect_all(tries, wait):
    """[(try, result)], all at once, within so many seconds."""
    results, pending = [], {}
    for host, port, kind in tries:
        result, opened = begin(host, port, kind)
        if opened is None:
            results.append(((host, port, kind), result))
        else:
            pending[opened.fileno()] = (opened, (host, port, kind))
    poll = select.poll()
    for fd, (_, (_, _, kind)) in pending.items():
        poll.register(fd, select.POLLOUT if kind == socket.SOCK_STREAM else select.POLLIN)
    end = time.monotonic() + wait
    while pending:
        left = end - time.monotonic()
        ready = poll.poll(max(0, left * 1000)) if left > 0 else []
        if not ready:
            break
        for fd, _ in ready:
            opened, name = pending.pop(fd)
            poll.unregister(fd)
            results.append((name, outcome(opened)))
            opened.close()
    for opened, name in pending.values():
        results.append((name, NOT_REACHED))
        opened.close()
    return results


def begin(host, port, kind):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        opened = socket.socket(family, kind)
    except OSError:
        return NO_SOCKET, None
    opened.setblocking(False)
    code = opened.connect_ex((host, port))
    if code in (0, errno.EINPROGRESS):
        if kind == socket.SOCK_DGRAM:
            try:
                opened.send(DNS_QUERY)
            except OSError:
                opened.close()
                return NOT_REACHED, None
        return None, opened
    opened.close()
    return REFUSED if code == errno.ECONNREFUSED else NOT_REACHED, None


def outcome(opened):
    code = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code == 0 and opened.type & socket.SOCK_DGRAM:
        try:
            opened.recv(512)
        except OSError as error:
            code = error.errno
    if code == 0:
        return REACHED
    return REFUSED if code in (errno.ECONNREFUSED, errno.ECONNRESET) else NOT_REACHED


def sockets():
    made = []
    for family in range(2, 48):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
            try:
                socket.socket(family, kind).close()
                made.append(family)
                break
            except OSError:
                pass
    if made:
        return BROKEN, "Sockets of the families %s can be made." % ", ".join(map(str, made))
    return HOLDS, "No socket but AF_UNIX can be made."
