"""Flatten, or ak.cartesian, of no lists. Should: give no lists. Does: AssertionError, but for backend "cpu".

The offsets are made without a backend. Seen with awkward 2.14.0: typetracer of known length, "jax".
"""

import warnings

import awkward as ak

warnings.simplefilter("ignore", DeprecationWarning)
none = ak.Array([[1.0, 2.0], [3.0]])[:0]
want = ak.cartesian([none, none]).type


def on(backend):
    if backend == "typetracer":
        return ak.Array(none.layout.to_typetracer(forget_length=False))
    if backend == "jax":
        ak.jax.register_and_check()
    return ak.to_backend(none, backend)


def is_mended(backend):
    try:
        array = on(backend)
    except (ImportError, RuntimeError):
        print(f"{backend}: not here")
        return False
    try:
        gave = ak.cartesian([array, array]).type
    except AssertionError as error:
        print(f"{backend}: gave {error!r}, should give {want}")
        return False
    print(f"{backend}: gave {gave}")
    return True


mended = [backend for backend in ("typetracer", "jax", "cuda") if is_mended(backend)]
if mended:
    raise SystemExit(f"mended: {mended}")
