"""Awkward's JAX backend, a mask that is still being computed. Should: wait. Does: kernels read what is there.

Seen with awkward 2.14.0, jax 0.10.2 on the CPU, within ten tries.
"""

import warnings

import awkward as ak

try:
    import jax
    import jax.numpy as jnp
except ImportError as error:
    print(error)
    raise SystemExit(77) from None

warnings.simplefilter("ignore", DeprecationWarning)
ak.jax.register_and_check()
ones = jnp.ones((300, 300))


@jax.jit
def slow_mask(x):
    threshold = jax.lax.fori_loop(0, 100, lambda _, y: y @ ones / 300, ones)[0, 0]
    return (x > threshold).astype(jnp.int8)


x = jnp.arange(6.0)
slow_mask(x).block_until_ready()
for attempt in range(1, 201):
    mask = ak.index.Index8(slow_mask(x))
    chosen = ak.drop_none(ak.Array(ak.contents.ByteMaskedArray(mask, ak.contents.NumpyArray(x), True)))
    if chosen.to_list() != [2.0, 3.0, 4.0, 5.0]:
        print(f"try {attempt} gave {chosen.to_list()}, should give [2.0, 3.0, 4.0, 5.0]")
        break
else:
    raise SystemExit("mended: 200 tries were right")
