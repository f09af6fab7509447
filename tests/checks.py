"""The generic checks that every case goes through, and what they need.

Numbers are read from `ak.to_list` and perturbed with `ak.transform`, so that nothing here depends on the
code under test.
"""

import warnings

import awkward as ak
import numpy as np
from cases import Case

from dak_diff import eager


def map_floats(value, fn):
    """The value, packed, with `fn(buffer)` in place of each floating-point buffer."""

    def on_layout(layout, **_):
        if layout.is_numpy and layout.dtype.kind in "fc":
            return ak.contents.NumpyArray(fn(layout.data), parameters=layout.parameters)
        return None

    if isinstance(value, (tuple, list)):
        return type(value)(map_floats(v, fn) for v in value)
    if isinstance(value, dict):
        return {key: map_floats(v, fn) for key, v in value.items()}
    if isinstance(value, ak.Record):
        layout = value.layout
        one = ak.Array(layout.array[layout.at : layout.at + 1], behavior=value.behavior)
        return map_floats(one, fn)[0]
    if isinstance(value, ak.Array):
        return ak.transform(on_layout, ak.to_packed(value), behavior=value.behavior)
    return fn(np.asarray(value))[()] if np.asarray(value).dtype.kind in "fc" else value


def random_like(value, rng):
    """A value of the same type whose floats are short binary fractions, so that sums of them are exact."""

    def draw(buffer):
        numbers = rng.integers(-16, 17, buffer.shape) / 16
        if buffer.dtype.kind == "c":
            numbers = numbers + 1j * rng.integers(-16, 17, buffer.shape) / 16
        return numbers.astype(buffer.dtype)

    return map_floats(value, draw)


def shifted(value, step, direction):
    """`value + step * direction`."""
    moves = []
    map_floats(direction, lambda buffer: moves.append(buffer) or buffer)
    next_move = iter(moves)
    return map_floats(value, lambda buffer: buffer + step * next(next_move))


def single_precision(value):
    return map_floats(value, lambda buffer: buffer.astype("c8" if buffer.dtype.kind == "c" else "f4"))


def numbers(value):
    """All numbers of a value, depth first; None and text are left out."""
    if isinstance(value, (ak.Array, ak.Record)):
        value = ak.to_list(value)
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [x for v in value for x in numbers(v)]
    if value is None or isinstance(value, (str, bytes)):
        return []
    return [np.asarray(value)[()]] if np.ndim(value) == 0 else list(np.ravel(value))


def skeleton(value):
    """Nesting, names, None and text of a value, without its numbers."""
    if isinstance(value, (ak.Array, ak.Record)):
        value = ak.to_list(value)
    if isinstance(value, dict):
        return {key: skeleton(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [skeleton(v) for v in value]
    return value if value is None or isinstance(value, (str, bytes)) else 0


def type_of(value):
    """Type and dtype of a value, as text; a Python number is a number of NumPy."""
    if isinstance(value, (tuple, list)):
        return [type_of(v) for v in value]
    if isinstance(value, dict):
        return {key: type_of(v) for key, v in value.items()}
    if isinstance(value, (ak.Array, ak.Record)):
        return str(ak.type(value))
    return str(np.asarray(value).dtype)


def inner(a, b):
    """Real inner product of the numbers of two values."""
    return float(np.real(np.vdot(np.array(numbers(a)), np.array(numbers(b))))) if numbers(a) else 0.0


def norm(value):
    return np.linalg.norm(np.array(numbers(value), dtype=complex))


def assert_close(got, expected, tolerance, what, terms=()):
    """Numbers agree to `tolerance` of the largest expected one; NaN and infinity only with themselves.

    `terms` are numbers of the size of what cancels in the result, if that is larger.
    """
    a, b = np.array(numbers(got), dtype=complex), np.array(numbers(expected), dtype=complex)
    assert a.shape == b.shape, f"{what}: {a.size} numbers, expected {b.size}"
    sizes = np.abs(np.concatenate([b, numbers(list(terms))]))
    scale = np.max(sizes[np.isfinite(sizes)], initial=0.0)
    close = np.isclose(a, b, rtol=0, atol=tolerance * scale, equal_nan=True)
    assert close.all(), f"{what}: {got} instead of {expected}"


def difference_quotient(case, tangents):
    """Five points of the plain function; two for a linear one, which is exact for short binary fractions."""

    def at(step):
        moved = shifted(case.inputs, step, tangents)
        return np.array(numbers(case.fn(*moved)), dtype=complex)

    h = 2.0**-10
    if case.exact:
        return list((at(h) - at(0)) / h)
    return list((8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h))


def check_primal(case, method):
    expected = case.fn(*case.inputs)
    forward, _ = eager.jvp(case.fn, case.inputs, method=method)
    reverse, _ = eager.vjp(case.fn, case.inputs, method=method)
    for got in (forward, reverse):
        assert type_of(got) == type_of(expected)
        assert skeleton(got) == skeleton(expected)
        bits, expected_bits = (np.array(numbers(v)).tobytes() for v in (got, expected))
        assert bits == expected_bits, f"value changed: {got} instead of {expected}"


def check_jvp(case, method, rng):
    tangents = random_like(case.inputs, rng)
    _, tangent = eager.jvp(case.fn, case.inputs, tangents, method=method)
    tolerance = 0.0 if case.exact else 1e-8
    assert_close(tangent, difference_quotient(case, tangents), tolerance, "jvp against differences")


def check_methods_agree(case, rng):
    tangents = random_like(case.inputs, rng)
    cotangent = random_like(case.fn(*case.inputs), rng)
    expected_tangent = eager.jvp(case.fn, case.inputs, tangents, method="dual")[1]
    expected = eager.vjp(case.fn, case.inputs, method="dual")[1](cotangent)
    for method in ("auto", "complex-step"):
        tangent = eager.jvp(case.fn, case.inputs, tangents, method=method)[1]
        assert_close(tangent, expected_tangent, 1e-12, f"jvp by {method} against dual")
        got = eager.vjp(case.fn, case.inputs, method=method)[1](cotangent)
        assert_close(got, expected, 1e-12, f"vjp by {method} against dual")


def check_linear_in_seed(case, method, rng):
    u, v = random_like(case.inputs, rng), random_like(case.inputs, rng)
    _, tangent_u = eager.jvp(case.fn, case.inputs, u, method=method)
    _, tangent_v = eager.jvp(case.fn, case.inputs, v, method=method)
    _, both = eager.jvp(case.fn, case.inputs, shifted(u, -0.375, v), method=method)
    expected = np.array(numbers(tangent_u)) - 0.375 * np.array(numbers(tangent_v))
    assert_close(both, list(expected), 1e-12, "linearity in the seed")


def check_dot(case, method, rng, inputs=None):
    inputs = case.inputs if inputs is None else inputs
    v = random_like(inputs, rng)
    _, tangent = eager.jvp(case.fn, inputs, v, method=method)
    value, pull = eager.vjp(case.fn, inputs, method=method)
    w = random_like(value, rng)
    cotangents = pull(w)
    gap = abs(inner(w, tangent) - inner(cotangents, v))
    scale = max(norm(w) * norm(tangent), norm(cotangents) * norm(v))
    assert gap <= 1e-12 * scale, f"<w, Jv> and <J^T w, v> differ by {gap}, of {scale}"


def check_second_order(case, rng):
    """Forward over reverse against differences of the cotangents; reverse over forward against that."""
    v, w = random_like(case.inputs, rng), random_like(case.fn(*case.inputs), rng)

    def pulled(*inputs):
        return eager.vjp(case.fn, inputs)[1](w)

    def pushed(*inputs):
        return eager.jvp(case.fn, inputs, v)[1]

    terms, got = eager.jvp(pulled, case.inputs, v)
    expected = difference_quotient(Case(case.name, pulled, case.inputs, case.exact), v)
    tolerance = 0.0 if case.exact else 1e-8
    assert_close(got, expected, tolerance, "forward over reverse against differences", terms)
    _, pull = eager.vjp(pushed, case.inputs)
    assert_close(pull(w), got, 1e-12, "reverse over forward against forward over reverse", terms)


def check_structure(case, method, rng, inputs=None):
    inputs = case.inputs if inputs is None else inputs
    expected = case.fn(*inputs)
    _, tangent = eager.jvp(case.fn, inputs, method=method)
    assert type_of(tangent) == type_of(expected)
    assert skeleton(tangent) == skeleton(expected)
    value, pull = eager.vjp(case.fn, inputs, method=method)
    cotangents = pull(random_like(value, rng))
    assert type_of(cotangents) == type_of(inputs)
    assert skeleton(cotangents) == skeleton(inputs)


def check_short(case, length, method, rng):
    """Inputs cut to a length: errors and warnings are those of the plain function, too."""
    inputs = tuple(x[:length] if isinstance(x, ak.Array) else x for x in case.inputs)
    expected, expected_warnings = outcome(lambda: case.fn(*inputs))
    got, got_warnings = outcome(lambda: eager.jvp(case.fn, inputs, method=method)[0])
    if isinstance(expected, Exception):
        assert type(got) is type(expected), f"{got!r} instead of {expected!r}"
        return
    if isinstance(got, Exception):
        raise got
    assert got_warnings <= expected_warnings
    assert type_of(got) == type_of(expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        check_structure(case, method, rng, inputs)
        if np.isfinite(np.array(numbers(expected), dtype=complex)).all():
            check_dot(case, method, rng, inputs)


def outcome(call):
    """What a call returns or raises, and its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = call()
        except Exception as error:
            result = error
    return result, {(w.category, str(w.message)) for w in caught}
