"""The runner of a sandbox that somebody keeps: several executions side by side in one place, which nobody resets."""

import os
import time
from collections import deque

from podgate_runner import job
from podgate_runner.limits import MAX_CONTEXTS, MAX_SESSION_WORK
from podgate_runner.outbox import Outbox
from podgate_runner.runner import Runner
from podgate_runner.session_command import Command, FileWork, Opening, done
from podgate_runner.session_context import Context, ContextPlace
from podgate_runner.session_keeper_link import KeeperLink
from podgate_runner.session_piece import PythonWork
from podgate_runner.session_place import ProgramPlace
from podgate_runner.session_terminal import Terminal
from podgate_runner.unheard import Unheard

# What the keeper says of a program, and how the program hears it.
_HEARD = {"terminal": "on_terminal", "refused": "on_refused", "started": "on_begun", "failed": "on_failed"}
_HEARD.update({"swept": "on_swept", "exit": "on_exit"})


def keep(runner):
    """From here on the runner is a session's. The same object, with another class: its loop runs, and its poller, attachment and
    outbox hold methods of it, which a new one would have to take from each."""
    runner.__class__ = SessionRunner
    runner.begin_session()


class SessionRunner(Runner):
    def _become_session(self):
        """It is one."""

    def begin_session(self):
        self._kept = None
        self._keeper = None
        self._work = {}
        # They said EXIT, which may not have arrived.
        self._over = deque(maxlen=MAX_SESSION_WORK)
        self._expires = None
        self._broken = None
        # Interpreters by name, all programs by their ids; those of interpreters are below zero.
        self._contexts = {}
        self._programs_of_contexts = {}
        self._last_context = 0
        self.unheard = Unheard(self.poller)
        # The keeper, and who watches over each program.
        self.own_tasks += 1 + MAX_SESSION_WORK + MAX_CONTEXTS
        self._supply.catch_up()
        self.environ = self._supply.environ

    # The loop

    def _timeout(self):
        if any(work.restless for work in self._work.values()):
            return 0
        dues = [work.due for work in self._work.values()] + [self._supply.due, self._attachment.due, self._expires]
        first = min((due for due in dues if due is not None), default=None)
        return -1 if first is None else max(0.0, first - time.monotonic())

    def _pump(self):
        now = time.monotonic()
        for work in list(self._work.values()):
            if work.due is not None and now >= work.due:
                work.tick(now)
        if self._expires is not None and now >= self._expires:
            self._attachment.over = True
        flushed = True
        while flushed:
            for work in list(self._work.values()):
                work.pump()
            flushed = self._attachment.flush()

    # What the agent says

    def on_attach(self, offsets):
        self._send_ready()
        for work in list(self._over) + list(self._work.values()):
            self._resume(work, offsets.get(str(work.outbox.stream_id)))
        for work in self._work.values():
            work.resume_input()
        self._refuse_unheard(offsets)

    def _running(self):
        return sorted(self._work)[:MAX_SESSION_WORK]

    def on_lost(self):
        for work in list(self._over) + list(self._work.values()):
            work.outbox.stream = None

    def on_frame(self, kind, channel, stream_id, sequence, body):
        work = self._work.get(stream_id)
        if work is not None:
            self._on_execution_frame(work, kind, channel, sequence, body)
        else:
            super().on_frame(kind, channel, stream_id, sequence, body)

    def on_input_end(self):
        for work in list(self._work.values()):
            work.advance()

    def _accept(self, stream_id, asked):
        session = asked["session"]
        if session is None or (session["do"] == "open") != (self._kept is None and not self._work):
            self._refuse(stream_id, "busy", "The sandbox is kept by a session.")
        elif self._broken or self._supply.trouble:
            self._refuse(stream_id, "runner_error", self._broken or self._supply.trouble)
        elif len(self._work) >= MAX_SESSION_WORK:
            self._refuse(stream_id, "busy", "The session runs as much as it may at once.")
        elif session["do"] == "extend":
            self._expires = time.monotonic() + session["ttl_seconds"]
            self._answer(stream_id)
        elif session["do"] == "open":
            self._add(Opening(self, stream_id, asked), self._supply.take())
            self._expires = time.monotonic() + session["ttl_seconds"]
        elif session["do"] == "restart":
            self._restart(session["context"])
            self._answer(stream_id)
        elif session["do"] == "python":
            self._accept_python(stream_id, asked, session["context"])
        elif session["do"] == "files":
            self._add(FileWork(self, stream_id, asked), ProgramPlace(self._kept, self._tell_keeper, stream_id))
        elif "bash" not in self._programs:
            self._refuse(stream_id, "no_language", "This sandbox has no bash.")
        else:
            kind = Terminal if session["do"] == "terminal" else Command
            self._add(kind(self, stream_id, asked), ProgramPlace(self._kept, self._tell_keeper, stream_id))

    def _accept_python(self, stream_id, asked, name):
        before = self._contexts.get(name)
        context = before if before is not None and before.alive else None
        if "python" not in self.config["languages"]:
            self._refuse(stream_id, "no_language", "This sandbox has no python.")
        elif context is not None and context.work is not None:
            self._refuse(stream_id, "busy", "The context runs something already.")
        elif context is None and sum(each.alive for each in self._contexts.values()) >= MAX_CONTEXTS:
            self._refuse(stream_id, "busy", "The session has as many contexts as it may have.")
        else:
            context = context or self._new_context(name, asked, before is not None and before.lost)
            self._add(PythonWork(self, stream_id, asked, context), context.place)

    def _new_context(self, name, asked, lost):
        self._last_context -= 1
        program = self._last_context
        context = Context(self, program, ContextPlace(self._kept, self._tell_keeper, program), lost)
        self._contexts[name] = self._programs_of_contexts[program] = context
        try:
            context.begin(job.lowered(dict(asked["limits"], memory_bytes=None), self.config["limits"]))
        except OSError:
            context.close()
        return context

    def _restart(self, name):
        """The next piece of code finds a new one."""
        context = self._contexts.pop(name, None)
        if context is not None:
            context.place.kill()

    def _answer(self, stream_id):
        """Done already."""
        outbox = Outbox(stream_id)
        outbox.stream = self._attachment.stream
        outbox.start()
        outbox.exit({"result": done(0.0), "failure": None})

    def _add(self, work, place):
        work.outbox.stream = self._attachment.stream
        work.place = place
        self._work[work.outbox.stream_id] = work

    def _reset(self):
        self._say_reset(["a session"])

    # What executions ask

    def survivors(self, left):
        pass

    def ended(self, work):
        self._work.pop(work.outbox.stream_id, None)
        self._over.append(work)
        if isinstance(work, Opening) and self._keeper is not None and self._keeper.ready:
            self._kept = work.place
        self._attachment.flush()

    # The keeper

    def begin_keeper(self):
        place = self._kept or next(iter(self._work.values())).place
        self._keeper = KeeperLink(self.poller, self._hear_keeper, self._break)
        self._keeper.begin(place, {"workspace": self.config["workspace"], "nice": self.config["program_nice"]})

    def _tell_keeper(self, message, fds=()):
        if self._keeper is None:
            raise OSError
        self._keeper.send(message, fds)

    def _hear_keeper(self, message, fds):
        kind, program, *rest = message
        if kind == "ready":
            for work in list(self._work.values()):
                if isinstance(work, Opening):
                    work.on_keeper()
            return
        work = self._work.get(program) or self._programs_of_contexts.get(program)
        if kind == "exit":
            self._programs_of_contexts.pop(program, None)
        if work is not None:
            getattr(work, _HEARD[kind])(*fds, *rest)
        else:
            for fd in fds:
                os.close(fd)

    def _break(self, why):
        """Nothing can be started here any more: all that runs is ended."""
        if self._broken:
            return
        self._broken = why
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
        if self._kept is not None:
            self._kept.kill()
        for work in list(self._programs_of_contexts.values()) + list(self._work.values()):
            work.on_keeper_gone()

    # What zygotes say

    def on_supply(self):
        self._send_ready()
        for work in list(self._work.values()):
            if work.place is None and self._supply.trouble:
                work.fail("runner_error", self._supply.trouble, "no")
            elif work.place is None:
                work.place = self._supply.take()
                work.advance()

    def on_message(self, message, sender):
        """Whatever becomes of the keeper, its own wire tells."""

    def on_link_gone(self, link):
        if self._kept is None or self._kept.link is link:
            self._break("The process that starts programs ended.")
        # A zygote that the place outlives is not replaced: nobody will need another.
        return True

    def _on_children(self):
        self.reaper.wake()
        self._supply.heed_children()
