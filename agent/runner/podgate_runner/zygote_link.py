"""The runner's end of a zygote: starting one, and talking to it or to a cell."""

import marshal
import os
import signal
import sys
import _socket

import podgate_runner
from podgate_runner import courier
from podgate_runner.limits import ZYGOTE_SEND_SECONDS

_FD = 3
_SPARE_FD = 63
# -s: user code can write below HOME, and a zygote may be started again. -B: no __pycache__ among the user's files.
_FLAGS = ["-u", "-B", "-s"]
# The linker finds each function once, here: a child would find again those that an interpreter calls after a fork alone.
_EAGER = {"LD_BIND_NOW": "1"}
# Modules that come as text, for an interpreter that has none of them. What a program makes of the built-in names is not
# theirs: they see to its end.
FINDER = """
import sys
class Modules:
    def __init__(self, sources): self.sources, self.names = sources, dict(vars(sys.modules["builtins"]))
    def find_spec(self, name, path=None, target=None):
        if name in self.sources: return type(sys.__spec__)(name, self, origin="<" + name + ">", is_package="." not in name)
    def create_module(self, spec): return None
    def exec_module(self, module):
        name, module.__builtins__ = module.__spec__.name, self.names
        exec(compile(self.sources[name], "<" + name + ">", "exec", 0, True), module.__dict__)
"""
# A new interpreter, not a fork: it has the image's site-packages and PYTHON* settings, which `-I -S` hid from the runner.
_BOOTSTRAP = FINDER + """
import marshal, os
def take(count):
    taken = b""
    while len(taken) < count:
        piece = os.read(3, count - len(taken))
        if not piece: os._exit(1)
        taken += piece
    return taken
sources, config = marshal.loads(take(int.from_bytes(take(8), "big")))
sys.path[:] = [entry for entry in sys.path if entry]
sys.meta_path.insert(0, Modules(sources))
from podgate_runner.zygote import serve
run = serve(config)
run()
"""


class Link:
    """`sock` answers with messages of zygote.py; `pid` is as this PID namespace counts."""

    def __init__(self, sock, pid):
        sock.setsockopt(_socket.SOL_SOCKET, courier.SO_PASSCRED, 1)
        sock.settimeout(ZYGOTE_SEND_SECONDS)
        self.sock = sock
        self.pid = pid
        self._receiver = courier.Receiver(sock)

    def fileno(self):
        return self.sock.fileno()

    def send(self, message, fds=()):
        courier.send(self.sock, message, fds)

    def read(self):
        """Messages as (message, fds); None when the other end is gone."""
        try:
            return self._receiver.read()
        except OSError:
            return None

    @property
    def sender(self):
        return self._receiver.sender

    def close(self):
        self.sock.close()


def pair():
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)


def spawn(config, environ, noise_fd):
    """Starts the zygote; what it prints goes to `noise_fd`."""
    ours, theirs = pair()
    nothing, write_fd = os.pipe()
    os.close(write_fd)
    # By way of a number that none of the others has.
    order = ((theirs.fileno(), _SPARE_FD), (nothing, 0), (noise_fd, 1), (noise_fd, 2), (_SPARE_FD, _FD))
    moves = [(os.POSIX_SPAWN_DUP2, fd, to) for fd, to in order] + [(os.POSIX_SPAWN_CLOSE, _SPARE_FD)]
    eager = {name: value for name, value in _EAGER.items() if name not in environ}
    executable = sys.executable or os.readlink("/proc/self/exe")
    pid = os.posix_spawn(
        executable,
        [executable] + _FLAGS + ["-c", _BOOTSTRAP],
        dict(environ, **eager),
        file_actions=moves,
        setsigmask=[],
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGINT, signal.SIGTERM],
    )
    theirs.close()
    os.close(nothing)
    blob = marshal.dumps((sources(), dict(config, forget=list(eager))))
    link = Link(ours, pid)
    try:
        ours.sendall(len(blob).to_bytes(8, "big") + blob)
    except OSError:
        pass
    return link


def sources():
    """Module name → source, from wherever the loader of this package has them."""
    held = getattr(podgate_runner.__spec__.loader, "sources", None)
    if held is not None:
        return dict(held)
    found = {}
    (folder,) = podgate_runner.__path__
    for name in os.listdir(folder):
        if name.endswith(".py"):
            stem = name[:-3]
            module = "podgate_runner" if stem == "__init__" else "podgate_runner." + stem
            with open(folder + "/" + name, encoding="utf-8") as file:
                found[module] = file.read()
    return found
