"""The only folder that knows Awkward's private API (tested with awkward 2.14).

``backend``: for each base (NumPy, CuPy) one more Awkward backend, whose buffers are
:class:`~dak_diff.engine.buffer.Buffer`. It carries the *name* of its base, so that code
which asks ``ak.backend(x)`` takes the path that it takes without derivatives.
``layouts``: walks over what an array is made of. ``patches``: the backends at first use, and the
functions of Awkward that are replaced then, because Awkward has no hook for them.
"""

from dak_diff.engine.awkward_internals.backend import (
    BACKENDS,
    DiffNplike,
    base_backend,
    maybe_materialize,
)
from dak_diff.engine.awkward_internals.layouts import (
    indexes,
    indexes_elements,
    is_absent,
    is_virtual,
    leaf_data,
    leaves,
    map_layout,
    materialized,
    pack,
    positions,
    refuse_categorical_numbers,
)
from dak_diff.engine.awkward_internals.patches import (
    backend_named,
    buffer_type_of,
    diff_backend,
    on_base,
    recorded_backend,
    recording,
    refuse_in_arrays,
    synchronize,
    transferred,
)

__all__ = [
    "BACKENDS",
    "DiffNplike",
    "backend_named",
    "base_backend",
    "buffer_type_of",
    "diff_backend",
    "indexes",
    "indexes_elements",
    "is_absent",
    "is_virtual",
    "leaf_data",
    "leaves",
    "map_layout",
    "materialized",
    "maybe_materialize",
    "on_base",
    "pack",
    "positions",
    "recorded_backend",
    "recording",
    "refuse_categorical_numbers",
    "refuse_in_arrays",
    "synchronize",
    "transferred",
]
