"""What the mounts may hold in which a sandbox has its files. A tmpfs holds them in memory."""

import os

from podgate_runner.limits import MIN_TMPFS_FILES, TMPFS_FILE_BYTES


def inodes(path):
    """How many there are, with those that have no name any more."""
    size = os.statvfs(path)
    return size.f_files - size.f_ffree


def unbounded(config):
    """(path, bytes of memory a byte, bytes of memory a file): places whose own mount is larger than its budget, or may have
    more files than pages. There a full disk is a full memory."""
    found = []
    budgets = [(path, config["tmp_bytes"]) for path in config["scratch"]]
    for path, budget in [(config["workspace"], config["workspace_bytes"])] + budgets:
        try:
            size = os.statvfs(path)
            tmpfs = is_tmpfs(config["proc_root"], path)
        except OSError:
            continue
        byte_cost = 1 if size.f_blocks * size.f_frsize > budget else 0
        file_cost = TMPFS_FILE_BYTES if size.f_files > max(size.f_blocks, MIN_TMPFS_FILES) else 0
        if tmpfs and (byte_cost or file_cost):
            found.append((path, byte_cost, file_cost))
    return found


def used_bytes(watched):
    """Memory in mounts that `unbounded` found."""
    total = 0
    for path, byte_cost, file_cost in watched:
        size = os.statvfs(path)
        total += (size.f_blocks - size.f_bfree) * size.f_frsize * byte_cost
        total += (size.f_files - size.f_ffree) * file_cost
    return total


def is_tmpfs(proc_root, path):
    try:
        with open(proc_root + "/self/mounts", "rb") as file:
            mounts = [line.split() for line in file]
    except OSError:
        return False
    return any(len(parts) > 2 and parts[1] == os.fsencode(path) and parts[2] == b"tmpfs" for parts in mounts)
