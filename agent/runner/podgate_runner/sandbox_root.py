"""The file system of a local sandbox: an empty root with read-only views of what programs need and nothing else.

Runs as PID 1 of new user, PID and mount namespaces. Sources are resolved before the root changes and read below
/.old afterwards, so that a link never leads from one root into the other.
"""

import os
import stat
import sys

from podgate_runner import cell, namespaces, syscalls
from podgate_runner.namespaces import NamespaceError

_OLD = "/.old"
_NEW = "/tmp"  # only a place to mount the new root on; the old /tmp shows again below /.old
_ROOT_BYTES = 8 << 20

_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_DEVICE_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
# What a program that opens terminals without end may take of the machine's.
_MAX_TERMINALS = 64
_EMPTY = ("home", "mnt", "opt", "run", "srv", "sys", "var")

# What interpreters and libraries read; nothing here may hold a secret (pip.conf, gitconfig and npmrc may).
_ETC_FILES = (
    "ld.so.cache", "localtime", "timezone", "os-release", "debian_version", "alpine-release", "mime.types", "magic",
    "services", "protocols", "host.conf", "gai.conf", "inputrc", "locale.alias", "matplotlibrc", "ssl/openssl.cnf",
    "pki/tls/openssl.cnf",
)  # fmt: skip
_ETC_TREES = (
    "alternatives", "fonts", "ssl/certs", "pki/tls/certs", "pki/ca-trust/extracted", "terminfo", "perl", "crypto-policies",
)  # fmt: skip
_ETC_PREFIXES = ("python", "java", "R")
_NETWORK_FILES = ("resolv.conf", "hosts")

_PASSWD = "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\nsandbox:x:{uid}:{gid}:sandbox:/tmp:/bin/sh\n"
_GROUP = "root:x:0:\nsandbox:x:{gid}:\n"
_HOSTS = "127.0.0.1 localhost sandbox\n::1 localhost\n"
_NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"


def build(runner_config, uid, gid):
    """Leaves this mount namespace with the sandbox's root and nothing of the old one. Raises NamespaceError."""
    network = runner_config["network"]
    prefixes = interpreter_prefixes()
    trees = _trees(prefixes)
    files = _etc_files(network)
    _pivot()
    _directories(prefixes)
    for source, target in trees:
        _show(source, target)
    for name, content in files.items():
        _write("/etc/" + name, content)
    _write("/etc/passwd", _PASSWD.format(uid=uid, gid=gid).encode())
    _write("/etc/group", _GROUP.format(gid=gid).encode())
    _write("/etc/nsswitch.conf", _NSSWITCH.encode())
    if "hosts" not in files:
        _write("/etc/hosts", _HOSTS.encode())
    _devices()
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    namespaces.mount("proc", "/proc", "proc", flags | syscalls.MS_NOEXEC)
    _writable(runner_config, uid, gid, flags)
    syscalls.umount2(_OLD, syscalls.MNT_DETACH)
    os.rmdir(_OLD)
    syscalls.mount(None, "/", None, syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY | flags)
    os.chdir("/")


def interpreter_prefixes():
    """Directories outside /usr that this interpreter cannot live without."""
    executable = os.path.abspath(sys.executable)
    found = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    # The -S that the runner starts with hides a virtual environment; the zygote's interpreter finds it again.
    for path in (executable, os.path.realpath(executable)):
        found.add(os.path.dirname(os.path.dirname(path)))
    kept = []
    for path in sorted(found | {os.path.realpath(path) for path in found}):
        below = any(path == known or path.startswith(known + "/") for known in ["/usr", *kept])
        if path != "/" and not below:
            if path.count("/") < 2:
                raise NamespaceError("the interpreter's prefix %s is too wide to show in a sandbox" % path)
            kept.append(path)
    return kept


def _trees(prefixes):
    """(source, target) of everything shown read-only, sources without links."""
    shown = [("/usr", "/usr")]
    for name in _SYSTEM:
        if os.path.isdir("/" + name) and not os.path.islink("/" + name):
            shown.append(("/" + name, "/" + name))
    shown += [(os.path.realpath(path), path) for path in prefixes]
    names = list(_ETC_TREES)
    names += sorted(name for name in os.listdir("/etc") if name.startswith(_ETC_PREFIXES))
    for name in names:
        if os.path.isdir("/etc/" + name) and os.access("/etc/" + name, os.R_OK | os.X_OK):
            shown.append((os.path.realpath("/etc/" + name), "/etc/" + name))
    return shown


def _etc_files(network):
    files = {}
    for name in _ETC_FILES + (_NETWORK_FILES if network else ()):
        try:
            with open("/etc/" + name, "rb") as file:
                files[name] = file.read(_ROOT_BYTES // 8)
        except OSError:  # absent here, or not for this UID
            pass
    return files


def _pivot():
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    links = {name: os.readlink("/" + name) for name in _SYSTEM if os.path.islink("/" + name)}
    namespaces.mount("root", _NEW, "tmpfs", 0, "size=%d,mode=755" % _ROOT_BYTES)
    os.mkdir(_NEW + _OLD)
    try:
        syscalls.pivot_root(_NEW, _NEW + _OLD)
    except OSError as error:
        raise NamespaceError(
            "pivot_root is refused (%s); it needs a root that is a mounted file system, not an initramfs" % error.strerror
        ) from error
    os.chdir("/")
    for name, target in links.items():
        os.symlink(target, "/" + name)


def _directories(prefixes):
    for name in _EMPTY + ("dev", "etc", "proc", "tmp", "usr"):
        os.mkdir("/" + name, 0o755)
    os.symlink("/tmp", "/var/tmp")
    for path in prefixes:
        os.makedirs(path, exist_ok=True)


def _show(source, target):
    """Shows a tree of the old root, read-only, with whatever is mounted below it."""
    os.makedirs(target, exist_ok=True)
    namespaces.mount(_OLD + source, target, None, syscalls.MS_BIND | syscalls.MS_REC)
    attributes = syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
    try:
        syscalls.set_mount_attributes(target, attributes, True)
    except OSError as error:
        raise NamespaceError(
            "%s cannot be made read-only (%s); Linux 5.12 or newer is needed" % (target, error.strerror)
        ) from error


def _write(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)


def _devices():
    for name in _DEVICES:
        source = _OLD + "/dev/" + name
        if not stat.S_ISCHR(os.stat(source).st_mode):
            raise NamespaceError("/dev/%s is not a device on this machine" % name)
        _write("/dev/" + name, b"")
        namespaces.mount(source, "/dev/" + name, None, syscalls.MS_BIND)
    for name, target in _DEVICE_LINKS.items():
        os.symlink(target, "/dev/" + name)
    os.mkdir("/dev/shm", 0o755)
    _terminals()


def _terminals():
    """Terminals of the sandbox's own. Where the machine gives none, sessions say so when one is asked for."""
    os.mkdir("/dev/pts", 0o755)
    try:
        options = "newinstance,ptmxmode=0666,mode=0620,max=%d" % _MAX_TERMINALS
        syscalls.mount("devpts", "/dev/pts", "devpts", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, options)
    except OSError:
        return
    os.symlink("pts/ptmx", "/dev/ptmx")
    _write("/dev/tty", b"")
    namespaces.mount(_OLD + "/dev/tty", "/dev/tty", None, syscalls.MS_BIND)


def _writable(runner_config, uid, gid, flags):
    places = [(runner_config["workspace"], "0700", runner_config["workspace_bytes"])]
    places += [(path, "1777", runner_config["tmp_bytes"]) for path in runner_config["scratch"]]
    for path, mode, size in places:
        os.makedirs(path, exist_ok=True)
        namespaces.mount("sandbox", path, "tmpfs", flags, cell.tmpfs_options(size, mode, uid, gid))
