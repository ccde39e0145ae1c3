"""What a canary tries from inside a sandbox: an ordinary program that has what any caller's has and nothing else.

stdin: {"mode": "sandbox" | "network" | "peer" | "limits", "targets": {kind: ["host:port", ...]}, "peer": null or what a peer printed,
"mark": text, "wait_ms": n}
stdout: one line of JSON. `sandbox` and `network`: {"findings": [[name, state, detail], ...]}; `peer`: where it can be met,
and then it stays until it is ended; `limits`: {"threads": n, "refused": null | "pids" | "else"}.
"""

import json
import os
import sys

import probe_files
import probe_limits
import probe_network
import probe_peer
import probe_privilege
from probe_words import UNKNOWN

MAX_DETAIL = 240
MAX_THREADS = 1024


def main():
    asked = json.loads(sys.stdin.read())
    # All that a sandbox may write to.
    places = [os.getcwd(), "/tmp", "/dev/shm"]
    if asked["mode"] == "peer":
        probe_peer.be_met(asked["mark"], places)
        return
    if asked["mode"] == "limits":
        made, refused = probe_limits.threads(MAX_THREADS)
        sys.stdout.write(json.dumps({"threads": made, "refused": refused}) + "\n")
        return
    if asked["mode"] == "network":
        findings = probe_network.network("policy", asked)
    else:
        findings = sandbox(asked, places) + probe_network.network("network", asked)
    report = {"findings": [[name, state, detail[:MAX_DETAIL]] for name, state, detail in findings]}
    sys.stdout.write(json.dumps(report) + "\n")


def sandbox(asked, places):
    probes = [
        ("network.sockets", probe_network.sockets),
        ("sandbox.shared", lambda: probe_peer.shared(asked["peer"], places)),
        ("files.write", lambda: probe_files.writable(places)),
        ("files.token", probe_files.tokens),
        ("environment", probe_files.environment),
        ("privilege.user", probe_privilege.user),
        ("privilege.capabilities", probe_privilege.capabilities),
        ("privilege.setuid", probe_privilege.become_root),
        ("privilege.no_new_privs", probe_privilege.no_new_privs),
        ("privilege.seccomp", probe_privilege.seccomp),
    ]
    return [(name,) + attempt(probe) for name, probe in probes]


def attempt(probe):
    try:
        return probe()
    except Exception as error:
        return UNKNOWN, "It could not be tried: %s: %s" % (type(error).__name__, error)


main()
