"""One epoll, and who is called for which descriptor."""

import select



class Poller:
    def __init__(self):
        self._epoll = select.epoll()
        self._handlers = {}

    def read(self, fd, handler):
        self._set(fd, select.EPOLLIN, handler)

    def write(self, fd, handler):
        self._set(fd, select.EPOLLOUT, handler)

    def _set(self, fd, events, handler):
        if fd in self._handlers:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def forget(self, fd):
        """Before the descriptor is closed, or to hold it back: an ended peer would wake a paused descriptor for ever."""
        if self._handlers.pop(fd, None) is not None:
            try:
                self._epoll.unregister(fd)
            except OSError:
                pass

    def has(self, fd):
        return fd in self._handlers

    def poll(self, timeout):
        ready = [(fd, self._handlers.get(fd)) for fd, _ in self._epoll.poll(timeout)]
        for fd, handler in ready:
            # A handler before this one may have closed the descriptor, and its number may be another's by now.
            if handler is not None and self._handlers.get(fd) is handler:
                handler()
