"""Makes a sandbox without a container engine: namespaces, an empty root, and the runner as PID 1 of it.

Two processes. The keeper stays outside: it ends when the agent ends, however that happens, and takes PID 1 along, with
which the kernel ends everything else. PID 1 builds the root, gives up its capabilities and becomes the runner.
"""

import json
import os
import signal
import sys
import _socket

from podgate_runner import cell, config, confine, namespaces, priority, sandbox_root, syscalls
from podgate_runner.namespaces import NamespaceError

EXIT_REFUSED = 78  # EX_CONFIG: the machine does not allow what was asked
_IDS_NAMESPACE = 65532


def launch(text):
    """`text`: {"runner": protocol.md 2.1, "parent": pid of the agent, "uid", "gid": used by root only, "stream_fd":
    descriptor that is the stream both ways (null: 0 and 1), "namespaces": false only where the operator gave up
    isolation, "probe": true to find out and answer in one line of JSON, "memory_group": control group of this sandbox, in
    which it is once a byte has come on the stream}."""
    asked = json.loads(text)
    try:
        _launch(asked, config.parse(json.dumps(asked["runner"])))
    except (NamespaceError, OSError, config.ConfigError) as error:
        _refuse(error)


def _refuse(error):
    os.write(2, ("podgate: %s\n" % error).encode("utf-8", "replace"))
    os._exit(EXIT_REFUSED)


def _launch(asked, runner_config):
    if not syscalls.SUPPORTED:
        raise NamespaceError("the local backend knows x86_64 and aarch64 Linux, not %s" % syscalls.MACHINE)
    _become(asked.get("uid"), asked.get("gid"))
    if asked.get("memory_group"):
        _await_group(asked["stream_fd"])
    if asked.get("stream_fd") is not None:
        os.dup2(asked["stream_fd"], 0)
        os.dup2(asked["stream_fd"], 1)
    syscalls.close_all_but((0, 1, 2))
    if asked.get("memory_group"):
        # The new root shows no control group; what is open stays so, for the runner alone.
        group_fd = os.open(asked["memory_group"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        asked["runner"]["cgroup_given"] = "/proc/self/fd/%d" % group_fd
    os.umask(0o022)
    _die_with(asked["parent"])
    if not asked.get("namespaces", True):
        _enter(asked, runner_config)
        return
    # Until it is the runner, PID 1 must not turn an interrupt into a traceback; the kernel keeps defaults from it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    namespaces.unshare(namespaces.ISOLATED | syscalls.CLONE_NEWUTS, _IDS_NAMESPACE, _IDS_NAMESPACE)
    # A change of credentials forgets it.
    _die_with(asked["parent"])
    alive, held = os.pipe()
    # PID 1's pivot_root turns the keeper's root along: from then on there is no /dev until PID 1 has made one.
    nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    pid = os.fork()
    if pid:
        os.close(alive)
        _keep(pid, nothing)
    os.close(held)
    os.close(nothing)
    _first(asked, runner_config, alive)


def _await_group(stream_fd):
    blocking = os.get_blocking(stream_fd)
    os.set_blocking(stream_fd, True)
    if os.read(stream_fd, 1) == b"":
        os._exit(EXIT_REFUSED)
    os.set_blocking(stream_fd, blocking)


def _become(uid, gid):
    """Root drops to the sandbox's UID before anything else: namespaces made by root would still read root's files."""
    if os.geteuid() != 0 and os.getuid() != 0:
        return
    if not uid or not gid:
        raise NamespaceError("root names the UID and the GID that the sandbox is to have")
    priority.allow()
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    # Dropping closed /proc/self to this UID, and with it the maps of a new user namespace.
    syscalls.set_dumpable(True)


def _die_with(parent):
    syscalls.set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before the kernel was asked
        os._exit(EXIT_REFUSED)


def _keep(pid, nothing):
    """The keeper's life: ends as PID 1 ends, and ends PID 1 when told to. Never returns."""

    def end(*_):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:  # it was waited for just now
            pass

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    # The stream ends with PID 1, not with who watches it.
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    confine.drop_capabilities()
    _, status = os.waitpid(pid, 0)
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def _first(asked, runner_config, alive):
    """PID 1 of the new namespaces."""
    try:
        syscalls.set_parent_death_signal(signal.SIGKILL)
        os.set_blocking(alive, False)
        try:
            if os.read(alive, 1) == b"":  # the keeper was gone before; getppid says 0 either way
                os._exit(EXIT_REFUSED)
        except BlockingIOError:
            os.close(alive)
        os.setsid()
        sandbox_root.build(runner_config, _IDS_NAMESPACE, _IDS_NAMESPACE)
        _socket.sethostname("sandbox")
        if runner_config["place"] == "shared":
            namespaces.forbid_more()
        confine.drop_capabilities()
        _enter(asked, runner_config)
    except (NamespaceError, OSError) as error:
        _refuse(error)


def _enter(asked, runner_config):
    if asked.get("probe"):
        _probe(runner_config)
    from podgate_runner import main

    main.main(json.dumps(asked["runner"]))


def _probe(runner_config):
    """One line on stdout: what a sandbox on this machine has."""
    if not os.path.exists(sys.executable):
        os.write(2, b"it lies below a folder that each sandbox has for itself, like /tmp: put it elsewhere\n")
        os._exit(1)
    version = "%d.%d.%d" % sys.version_info[:3]
    found = dict(confine.features(), python=version, executable=sys.executable, namespaces=os.getpid() == 1)
    if runner_config["place"] == "fresh":
        made, reason = cell.available()
        if not made:
            raise NamespaceError("inside a sandbox, " + reason)
    os.write(1, (json.dumps(found) + "\n").encode())
    os._exit(0)
