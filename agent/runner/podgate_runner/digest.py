"""SHA-256 without loading OpenSSL for small files: its import costs more than they do."""

from podgate_runner.limits import LARGE_DIGEST_BYTES

try:
    from _sha2 import sha256 as _small
except ImportError:
    try:
        from _sha256 import sha256 as _small
    except ImportError:
        from hashlib import sha256 as _small


def sha256(size):
    """A hash object for about `size` bytes."""
    if size < LARGE_DIGEST_BYTES:
        return _small()
    from hashlib import sha256 as large

    return large()
