"""Collections on a graphics processor: the same analysis and the same derivatives on CuPy's arrays."""

from __future__ import annotations

from typing import Any

import awkward as ak
import dask_awkward as dak

from dak_diff.engine.awkward_internals import BACKENDS, backend_named, synchronize
from dak_diff.engine.values import on_backend
from dak_diff.graph.tasks import any_typetracer, running_key
from dak_diff.parameter import derive

__all__ = ["to_backend"]


def to_backend(collection: Any, backend: str) -> Any:
    """The same collection with its partitions on a graphics processor, or back on the host.

    Everything that follows ``to_backend(x, "cuda")`` runs on the device, forward and reverse; a gradient by
    ``x`` comes back to where ``x`` is.

    Parameters
    ----------
    collection : dask_awkward.Array or Scalar
        What to move; an array in memory is moved at once.
    backend : {"cuda", "cpu"}
        Where to.

    Returns
    -------
    dask_awkward.Array or Scalar
        ``n * var * float64 -> n * var * float64``: type, dtype, names, units, behaviors are those of
        ``collection``. A number of the host stays one; a number of the device becomes one of NumPy.

    Raises
    ------
    ValueError
        If there is no such backend.
    TypeError
        If it is no collection that can be moved.
    ImportError
        In the task, if the process that runs it has no CuPy: the one that builds the graph needs none.

    Notes
    -----
    Laziness: one layer, ``to-cuda`` or ``to-cpu``; nothing runs. Only columns that something after it reads
    are moved, so put it behind the source. The first use is under a lock, so that threads that come at once
    share one backend. Where partitions come back to the host, errors that kernels of Awkward met on the
    device are raised: until then they are silent.

    Between processes arrays of a device travel through the host, and are on the device again where there is
    one. Let a worker have one thread for each device: what its kernels report is kept for each stream.

    Derivative: the identity. A tangent goes with its primal, a cotangent comes back. No kinks.

    References
    ----------
    .. [1] Okuta et al., *CuPy: a NumPy-compatible library for NVIDIA GPU calculations*, Workshop on
       Machine Learning Systems at NIPS 2017.

    Examples
    --------
    >>> import awkward as ak, dask_awkward as dak, dak_diff
    >>> pt = dak.from_awkward(ak.Array([[50.0, 30.0], [40.0]]), npartitions=1)
    >>> there = dak_diff.to_backend(pt, "cpu")  # "cuda" where there is a device
    >>> total = dak_diff.to_backend(dak.sum(there**2), "cpu")
    >>> dak_diff.grad(total, wrt=pt).compute().to_list()
    [[100.0, 60.0], [80.0]]
    """
    if backend not in BACKENDS:
        raise ValueError(f'no such backend: {backend!r}; there are "cuda" and "cpu"')
    move = _Move(backend)
    if isinstance(collection, dak.Array):
        return dak.map_partitions(
            move, collection, label=f"to-{backend}", meta=collection._meta, output_divisions=1
        )
    if isinstance(collection, dak.Scalar):
        return derive(move, collection)
    if isinstance(collection, (ak.Array, ak.Record)):
        return move(collection)
    raise TypeError(
        "to_backend moves collections of dask-awkward and arrays of Awkward, "
        f"no {type(collection).__name__}. A number or a parameter stays on the host: "
        "it goes with arrays of any backend."
    )


class _Move:
    """One partition to a backend."""

    def __init__(self, backend: str):
        self.backend = backend
        self.__name__ = f"to-{backend}"

    def __call__(self, value: Any) -> Any:
        if any_typetracer((value,)):
            # A typetracer has no backend, and reads nothing.
            return value
        synchronize()
        try:
            return on_backend(value, _found(self.backend))
        except Exception:
            if running_key() is None and isinstance(value, ak.Array) and not len(value):
                # A graph is looked at with empty arrays while it is built, which needs no device.
                return value
            raise


def _found(name: str) -> Any:
    try:
        return backend_named(name)
    except ImportError as error:
        raise ImportError(
            f'to_backend(x, "{name}") runs where CuPy is installed and a device is: '
            'pip install "dak_diff[cuda]" for the workers. Whoever builds the graph needs neither.'
        ) from error
