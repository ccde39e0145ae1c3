"""The environment that user code sees, protocol.md 5.2."""

_FIXED = {
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONUNBUFFERED": "1",
    "MPLBACKEND": "Agg",
}
# Each library would otherwise start a thread for every processor of the machine, whatever the sandbox may use.
_THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)


def of_image(environ, threads):
    """The image's own, without what Kubernetes and the agent put there. `threads`: for libraries that the image does
    not tell itself."""
    kept = dict.fromkeys(_THREADS, str(threads))
    kept.update((name, value) for name, value in environ.items() if not _is_foreign(name))
    kept.update(_FIXED)
    return kept


def _is_foreign(name):
    return name.startswith(("KUBERNETES_", "PODGATE_")) or "_SERVICE_" in name


def without_places(paths, environ):
    """PYTHONPATH for the zygote: nothing that user code could write, for a zygote may be started after user code ran."""
    entries = environ.get("PYTHONPATH", "").split(":")
    own = [entry for entry in entries if entry.startswith("/") and not _below(entry, paths)]
    kept = {name: value for name, value in environ.items() if name != "PYTHONPATH"}
    if own:
        kept["PYTHONPATH"] = ":".join(own)
    return kept


def _below(entry, paths):
    return any((entry.rstrip("/") + "/").startswith(path.rstrip("/") + "/") for path in paths)
