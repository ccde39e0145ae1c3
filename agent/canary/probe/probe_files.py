"""Where a sandbox can write, and what of its cluster it can read."""

import os
import time

from probe_words import BROKEN, HOLDS, UNKNOWN

MAX_FOLDERS = 20000
MAX_WALK_SECONDS = 2.0
TOKENS = (
    "/var/run/secrets/kubernetes.io/serviceaccount", "/run/secrets/kubernetes.io/serviceaccount",
    "/var/run/secrets/eks.amazonaws.com/serviceaccount", "/var/run/secrets/azure/tokens", "/root/.kube/config",
    "/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock",
    "/run/crio/crio.sock", "/run/podman/podman.sock", "/var/lib/kubelet",
)  # fmt: skip
# Where images and engines leave a door open: tried before whole file systems are walked.
LIKELY_FOLDERS = (
    "/", "/dev", "/dev/mqueue", "/etc", "/home", "/mnt", "/opt", "/run", "/run/lock", "/srv", "/sys/fs/cgroup", "/usr/local",
    "/var/lib", "/var/log", "/var/tmp",
)  # fmt: skip
# Opened for writing, never written to.
DELICATE_FILES = (
    "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches", "/sys/kernel/uevent_helper",
    "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory/cgroup.procs", "/dev/termination-log", "/dev/kmsg", "/dev/mem",
    "/etc/passwd", "/etc/hosts", "/etc/resolv.conf", "/proc/1/oom_score_adj", "/proc/1/mem",
)  # fmt: skip
KERNEL_TYPES = ("proc", "sysfs", "cgroup", "cgroup2", "devpts")


def writable(places):
    found, whole = [], True
    for point, kind in mounts():
        if inside(point, places) or kind in KERNEL_TYPES:
            continue
        more, ended = walk(point, places)
        found += more
        whole = whole and ended
    found += [path for path in LIKELY_FOLDERS if not inside(os.path.realpath(path), places) and takes_files(path)]
    found += [path for path in DELICATE_FILES if not inside(path, places) and opens(path)]
    if found:
        return BROKEN, "Can be written to: %s." % ", ".join(sorted(set(found))[:8])
    if not whole:
        return UNKNOWN, "There is more on writable file systems than could be looked at."
    return HOLDS, "Only its own %s." % ", ".join(places)


def inside(path, places):
    return any(path == place or path.startswith(place.rstrip("/") + "/") for place in places)


def mounts():
    """(mount point, type) of every mount that is not read-only."""
    found = []
    with open("/proc/self/mountinfo") as file:
        for words in (line.split() for line in file):
            at = words.index("-")
            if "ro" not in words[5].split(",") and "ro" not in words[at + 3].split(","):
                found.append((words[4].encode().decode("unicode_escape"), words[at + 1]))
    return found


def walk(point, places):
    """Paths that can be written to on one file system, and whether all of it was looked at."""
    if not os.path.isdir(point):
        return ([point] if opens(point) and not is_device(point) else []), True
    found, seen, end = [], 0, time.monotonic() + MAX_WALK_SECONDS
    device = os.stat(point).st_dev
    for folder, folders, _ in os.walk(point):
        folders[:] = [name for name in folders if same_device(os.path.join(folder, name), device)]
        if inside(folder, places):
            folders.clear()
            continue
        seen += 1
        if seen > MAX_FOLDERS or time.monotonic() > end:
            return found, False
        if takes_files(folder):
            found.append(folder)
            folders.clear()
    return found, True


def takes_files(folder):
    path = os.path.join(folder, ".podgate-canary")
    if not os.access(folder, os.W_OK):
        return False
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError:
        return False
    os.unlink(path)
    return True


def same_device(path, device):
    try:
        return os.lstat(path).st_dev == device
    except OSError:
        return False


def is_device(path):
    return os.path.exists(path) and not os.path.isfile(path)


def opens(path):
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))
        return True
    except OSError:
        return False


def tokens():
    found = [path for path in TOKENS if os.path.lexists(path) and os.access(path, os.R_OK) and not is_empty(path)]
    if found:
        return BROKEN, "Can be read: %s." % ", ".join(found)
    return HOLDS, "No credential of the cluster or of its nodes is there."


def is_empty(path):
    try:
        return os.path.isdir(path) and not os.listdir(path)
    except OSError:
        return True


def environment():
    found = [name for name in os.environ if name.startswith(("KUBERNETES_", "PODGATE_")) or "_SERVICE_" in name]
    if found:
        return BROKEN, "Names of the cluster are set: %s." % ", ".join(sorted(found)[:8])
    return HOLDS, "It names nothing of the cluster."
