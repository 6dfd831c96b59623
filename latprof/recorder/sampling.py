"""Which frames are sampled: whole runs of 64 ids of a source, the same ones in every process.

Numbers that need consecutive frames stay meaningful inside a run, and the processes of one
pipeline pick the same frames without talking to each other. The hash is stated, so that others
can follow it: ``splitmix64(run ^ fnv1a(source))``, 64 bits, with run = id // 64, the source's name
in UTF-8, and no source as the empty name; a run is taken if its hash < rate * 2**64.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["RUN_BITS", "fnv1a", "run_hash", "run_hashes", "threshold"]

RUN_BITS = 6
"""A run is 2**6 = 64 ids."""

_MASK = 2**64 - 1


def threshold(rate: float) -> int:
    """Return the limit that hashes are compared with: `rate` of 2**64."""
    return int(rate * 2.0**64)


def fnv1a(name: str | None) -> int:
    """Return the 64-bit FNV-1a hash of a source's name.

    Examples
    --------
    >>> hex(fnv1a("a")), fnv1a(None) == fnv1a("")
    ('0xaf63dc4c8601ec8c', True)
    """
    value = 0xCBF29CE484222325
    for byte in (name or "").encode("utf-8", "backslashreplace"):
        value = (value ^ byte) * 0x100000001B3 & _MASK
    return value


def run_hash(run: int, source_hash: int) -> int:
    """Return the hash of one run of a source, 0 to 2**64 - 1."""
    z = ((run ^ source_hash) + 0x9E3779B97F4A7C15) & _MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
    return z ^ z >> 31


def run_hashes(
    runs: npt.NDArray[np.uint64], source_hashes: npt.NDArray[np.uint64] | np.uint64
) -> npt.NDArray[np.uint64]:
    """Return the hashes of (n,) runs: `run_hash`, vectorized."""
    z = (runs ^ source_hashes) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ z >> np.uint64(31))
