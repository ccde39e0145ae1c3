"""The last step before user code: no capability, no way to gain one, no system call that reaches past the sandbox.

cfg = {"network": bool, "protected_pids": [pid, ...], "writable": [path, ...], "fresh": bool, "require": ["seccomp"]}
PIDs and paths are those that user code itself would see. `require` defaults to seccomp.
"""

import ctypes
import errno
import os

from podgate_runner import landlock, seccomp, syscall_table, syscalls


class ConfineError(Exception):
    """User code must not start. The text is a sentence for the operator."""


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


class _Filter:
    """A program in the form that the kernel takes, with the memory it lies in."""

    def __init__(self, program):
        self._buffer = ctypes.create_string_buffer(seccomp.assemble(program))
        self._program = _Program(len(program), ctypes.addressof(self._buffer))
        self.address = ctypes.addressof(self._program)


_filters = {}
_features = None


def _filter(network, protected, fresh):
    key = (network, protected, fresh)
    if key not in _filters:
        _filters[key] = _Filter(seccomp.instructions(syscalls.MACHINE, network, protected, fresh))
    return _filters[key]


def features():
    """{"seccomp": bool, "landlock_abi": int, "missing": [sentence, ...]}, found out once."""
    global _features
    if _features is None:
        missing = []
        has_seccomp = _has_seccomp(missing)
        abi = landlock.abi()
        if abi < landlock.MIN_ABI:
            found = "has Landlock ABI %d" % abi if abi else "has no Landlock or does not enable it"
            missing.append("landlock: this kernel %s; ABI %d is needed" % (found, landlock.MIN_ABI))
        _features = {"seccomp": has_seccomp, "landlock_abi": abi, "missing": missing}
    return _features


def _has_seccomp(missing):
    if not syscalls.SUPPORTED:
        known = " and ".join(syscall_table.MACHINES)
        missing.append("seccomp: no filter for %s; there are filters for %s" % (syscalls.MACHINE, known))
        return False
    try:
        syscalls.set_seccomp(0)  # a filter at no address: EFAULT where filters are taken at all
    except OSError as error:
        if error.errno == errno.EFAULT:
            return True
        missing.append("seccomp: this kernel takes no filters (%s)" % error.strerror)
    return False


class Confinement:
    """`bequeath` confines whoever forks, for all it forks; `apply` is the little that each child does for itself.

    With Landlock it holds a descriptor (`fds`): whoever closes descriptors keeps it. It binds to the paths as they are
    when it is made, so in fresh namespaces it is made after the mounts.
    """

    def __init__(self, cfg):
        self._found = features()
        for name in cfg.get("require", ["seccomp"]):
            held = self._found["seccomp"] if name == "seccomp" else self._landlocked
            if not held:
                raise ConfineError("; ".join(self._found["missing"]) or "%s is required and absent" % name)
        network = bool(cfg["network"])
        self._filter = None
        self._ruleset = None
        try:
            if self._found["seccomp"]:
                protected = tuple(sorted(set(cfg["protected_pids"])))
                self._filter = _filter(network, protected, bool(cfg["fresh"]))
            if self._landlocked:
                self._ruleset = landlock.ruleset(self._found["landlock_abi"], cfg["writable"], network)
        except OSError as error:
            raise ConfineError("the confinement cannot be made: %s" % error) from error
        except ValueError as error:
            raise ConfineError("the confinement cannot be made: %s" % error) from error

    @property
    def _landlocked(self):
        return self._found["landlock_abi"] >= landlock.MIN_ABI

    @property
    def fds(self):
        return () if self._ruleset is None else (self._ruleset,)

    def bequeath(self):
        """Confines this process for good but for Landlock: a child's own domain keeps it from its parent's. The kernel
        translates the filter once here, and not for every child. Raises ConfineError."""
        step = "capabilities"
        try:
            drop_capabilities()
            step = "no_new_privs"
            syscalls.set_no_new_privs()
            if self._filter is not None:
                step = "seccomp"
                syscalls.set_seccomp(self._filter.address)
        except OSError as error:
            raise ConfineError("%s could not be applied: %s" % (step, error)) from error

    def apply(self):
        """The rest, in a child of who bequeathed. Raises ConfineError: then it must end without running anything."""
        if self._ruleset is None:
            return
        try:
            landlock.restrict(self._ruleset)
            os.close(self._ruleset)
        except OSError as error:
            raise ConfineError("landlock could not be applied: %s" % error) from error

    def close(self):
        """Gives the descriptor back where `apply` was for another process."""
        if self._ruleset is not None:
            os.close(self._ruleset)
            self._ruleset = None


def foresee(network, protected, fresh):
    """Makes for children that will want it what they would each make again: the filter, and the devices' rules."""
    found = features()
    if found["seccomp"]:
        _filter(bool(network), tuple(protected), bool(fresh))
    if found["landlock_abi"] >= landlock.MIN_ABI:
        landlock.foresee(found["landlock_abi"])


def drop_capabilities():
    """Gives up all capabilities, and what could bring them back where this process may take that away."""
    if not syscalls.SUPPORTED:
        return
    if syscalls.permitted_capabilities() & (1 << syscalls.CAP_SETPCAP):
        syscalls.drop_bounding_set()
        syscalls.set_securebits(syscalls.SECUREBITS_LOCKED)
    syscalls.clear_capabilities()
