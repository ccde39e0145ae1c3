"""As pyrun, for a program whose results are wanted. It is loaded with its job, in the process that becomes the program."""

import sys

# Of a code object that awaits, as inspect.CO_COROUTINE.
_COROUTINE = 128


def run(job, fd, pyrun, session_results, representations, notebook_calls):
    """Never returns. `fd` is a memory file for the results."""
    results = session_results.Results(True, fd, representations)
    notebook_calls.install(lambda: results)
    box = [execute(job, results, pyrun, notebook_calls), {}]
    results.save()
    pyrun.pyexit.leave(box, pyrun._known_modules)


def execute(job, results, pyrun, notebook_calls):
    """The exception that ended the program, or None."""
    error = None
    try:
        main, value = None, None
        codes = pyrun.begin(job["path"], job["args"], job["interactive"], "eval")
        main = sys.modules["__main__"].__dict__
        sys.modules["builtins"].display = results.display
        if any(code.co_flags & _COROUTINE for code in codes):
            value = __import__("asyncio").run(awaited(codes, main))
        else:
            for code in codes:
                value = pyrun.outermost.call(eval, code, main)
        results.value(value)
    except BaseException as raised:
        if main is None and isinstance(raised, SyntaxError):
            notebook_calls.explain(raised)
        # Without the names that are ours: what fails before there is a program has nothing else.
        error = BaseException.with_traceback(raised, results.outside(sys.exc_info()[2]) if main else None)
    try:
        results.figures()
    except BaseException as raised:
        error = error or BaseException.with_traceback(raised, results.outside(sys.exc_info()[2]))
    if error is not None:
        results.failed(error)
    return error


async def awaited(codes, main):
    for code in codes:
        value = eval(code, main)
        if code.co_flags & _COROUTINE:
            value = await value
    return value
