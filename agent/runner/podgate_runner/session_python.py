"""A Python that remembers: an interpreter of a session, which runs one piece of code after the other.

It is user code's own process. The runner hands it each piece over a socket: one line of JSON with descriptors for stdin,
stdout and stderr, the code, and where the results go. It answers with a line of JSON. Whoever lives here may write to that
socket too: the runner believes nothing of it but how its own execution ended.
"""

import _ast
import array
import ast
import builtins
import inspect
import io
import json
import os
import signal
import sys
import _socket
from select import select

from podgate_runner import notebook_calls, outermost, pycompile, pyexit, representations, session_results
from podgate_runner.session_reserve import Reserve

# Of code, in the way the interpreter itself has at its prompt.
_FLAGS = getattr(_ast, "PyCF_ALLOW_TOP_LEVEL_AWAIT", 0x2000)
_MAX_LINE_BYTES = 4096
_SOCKET_FD = 3
_FDS = 5


def serve(told):
    """Never returns. `told` is called when it is ready for the first piece."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, _SOCKET_FD)
    os.set_inheritable(_SOCKET_FD, False)
    early = EarlyInterrupt(sock)
    early.wait()
    reserve = Reserve(_FDS)
    interpreter = Interpreter(early, reserve)
    outermost.warm()
    told()
    while True:
        early.until_readable()
        reserve.release()
        line, fds = receive(sock)
        if line is None:
            os._exit(0)
        asked = json.loads(line)
        if asked:
            code = interpreter.take(asked, fds)
        else:
            # What came until here was for the piece that is over.
            code = 0
            early.wait()
            reserve.take()
        sock.sendall(json.dumps({"code": code}).encode() + b"\n")


def receive(sock):
    data, fds = b"", array.array("i")
    while not data.endswith(b"\n"):
        piece, ancillary, _, _ = sock.recvmsg(_MAX_LINE_BYTES, _socket.CMSG_SPACE(4 * _FDS), _socket.MSG_CMSG_CLOEXEC)
        if not piece:
            return None, ()
        data += piece
        for level, kind, value in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                fds.frombytes(value[: len(value) - len(value) % 4])
    return data, list(fds)


class EarlyInterrupt:
    """One that comes while no code runs. The runner says of a piece that it runs once it is on its way to here: an interrupt
    behind it is for that piece. One before it is for the piece that is over, and nobody's."""

    def __init__(self, sock):
        self._sock = sock
        self._came = False
        self.struck = False

    def wait(self):
        self._came = self.struck = False
        signal.signal(signal.SIGINT, self._strike)

    def until_readable(self):
        select([self._sock], [], [])
        self._came = True

    def _strike(self, *_):
        self.struck = self._came or bool(select([self._sock], [], [], 0)[0])


class Interpreter:
    def __init__(self, early, reserve):
        self._early = early
        self._reserve = reserve
        self._count = 0
        self._pid = os.getpid()
        self._loop = None
        self._flags = _FLAGS
        self._results = None
        main = type(sys)("__main__")
        main.__builtins__ = builtins
        sys.modules["__main__"] = main
        sys.argv = [""]
        sys.path.insert(0, "")
        self._names = main.__dict__
        notebook_calls.install(lambda: self._results)

    def take(self, asked, fds):
        """Runs one piece; its exit code."""
        for number in range(3):
            os.dup2(fds[number], number)
            os.close(fds[number])
        with os.fdopen(fds[3], "rb") as file:
            source = file.read()
        self._reserve.take()
        sys.stdin = io.open(0, "r", encoding="utf-8", errors="replace", closefd=False)
        self._results = results = session_results.Results(asked["rich"], fds[4], representations)
        builtins.display = results.display
        code = self._run(source, asked["interactive"], results)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        pyexit.flush()
        if os.getpid() != self._pid:
            # A fork of the program's that came to the end of the code: there is one interpreter to a context.
            os._exit(code)
        results.save()
        os.closerange(fds[4], fds[4] + 1)
        nothing = os.open("/dev/null", os.O_RDWR)
        for number in range(3):
            os.dup2(nothing, number)
        os.close(nothing)
        self._early.wait()
        return code

    def _run(self, source, interactive, results):
        self._count += 1
        name = "<execution %d>" % self._count
        error = None
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if self._early.struck:
                raise KeyboardInterrupt
            self._execute(name, source, interactive, results)
        except BaseException as raised:
            error = raised
        if error is None:
            return 0
        # The class may be the program's, with methods of its own.
        BaseException.with_traceback(error, results.outside(pyexit.trace_of(error)))
        try:
            results.failed(error)
            code = report(error) & 0xFF
        except BaseException:
            code = 1
        self._leave_no_figures(results, issubclass(type(error), KeyboardInterrupt))
        return code

    def _leave_no_figures(self, results, interrupted):
        """They belong to the piece that failed; of one that was interrupted there is no time to draw them."""
        for leave in [results.no_figures] if interrupted else [results.figures, results.no_figures]:
            try:
                leave()
            except BaseException:
                pass

    def _execute(self, name, source, interactive, results):
        lines = remember(name, source)
        try:
            codes, last = compiled(name, source, interactive, results.rich, self._flags)
        except SyntaxError as error:
            # What the compiler finds behind the parser it would show from the file.
            if error.text is None and error.lineno:
                error.text = lines[error.lineno - 1]
            notebook_calls.explain(error)
            raise
        for code in codes:
            # What one piece imports from __future__ holds for all that follow, as at a prompt.
            self._flags |= code.co_flags & pycompile.FUTURE_FLAGS
        if any(code.co_flags & inspect.CO_COROUTINE for code in codes):
            value = self._await(codes)
        else:
            for code in codes:
                value = outermost.call(eval, code, self._names)
        if last and not results.value(value):
            sys.displayhook(value)
        results.figures()

    def _await(self, codes):
        """All of it in one loop, which stays: what begins a task without waiting for it finds the loop running."""
        asyncio = __import__("asyncio")
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)

        async def run():
            value = None
            for code in codes:
                value = eval(code, self._names)
                if code.co_flags & inspect.CO_COROUTINE:
                    value = await value
            return value

        task = self._loop.create_task(run())
        try:
            return self._loop.run_until_complete(task)
        except BaseException:
            if not task.done():
                task.cancel()
                try:
                    self._loop.run_until_complete(task)
                except BaseException:
                    pass
            raise


def compiled(name, source, interactive, rich, flags):
    """Code objects to run one after the other, and whether the last of them is an expression that is to be shown."""
    tree = compile(source, name, "exec", _ast.PyCF_ONLY_AST | flags, True)
    last = []
    shown = interactive and tree.body and isinstance(tree.body[-1], _ast.Expr)
    if shown and not (rich and pycompile.is_silenced(source, tree.body[-1])):
        last.append(compile(ast.Expression(tree.body.pop().value), name, "eval", flags, True))
    return [compile(tree, name, "exec", flags, True)] + last, bool(last)


def report(error):
    """As pyexit, but that of code which is in no file the lines are shown."""
    kind, trace = type(error), pyexit.trace_of(error)
    if issubclass(kind, SystemExit) or sys.excepthook is not pyexit.show:
        return pyexit.report(error)
    sys.last_type, sys.last_value, sys.last_traceback = kind, error, trace
    try:
        __import__("traceback").print_exception(kind, error, trace)
    except Exception:
        # It asks attributes that a class may have of its own.
        pyexit.show(kind, error, trace)
    return 1


def remember(name, source):
    """Lines of code that is in no file, for tracebacks."""
    linecache = __import__("linecache")
    lines = pycompile.lines_of(source)
    linecache.cache[name] = (len(source), None, lines, name)
    return lines
