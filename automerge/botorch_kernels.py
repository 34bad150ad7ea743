"""BoTorch as plain Python: the compiled kernel of its hypervolume acquisitions is switched off.

BoTorch 0.18 compiles it at the first such acquisition, for the processor at hand, into a folder of the user's home:
half a minute and a compiler at best, and a crash where machines with other processors share that home. The Python
form gives the same values.
"""

from __future__ import annotations


def disable_compilation() -> None:
    """Has BoTorch take its Python form in this process; call it before a hypervolume acquisition is built."""
    from botorch.acquisition.multi_objective import logei  # noqa: PLC0415 (slow to import)

    logei._load_attempted = True
