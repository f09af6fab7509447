"""A Hessian that is given, where it is not positive. Should: be used as it is. Does: call g2, which is None.

Seen with iminuit 2.33.0.
"""

import math

try:
    from iminuit import Minuit
except ImportError as error:
    print(error)
    raise SystemExit(77) from None

try:
    minuit = Minuit(math.cos, 0.5, grad=lambda x: [-math.sin(x)], hessian=lambda x: [[-math.cos(x)]])
except RuntimeError as error:
    print("a newer iminuit takes a Hessian:", error)
    raise SystemExit(77) from None
minuit.errordef = Minuit.LIKELIHOOD
try:
    minuit.migrad()
except TypeError as error:
    print(f"gave {error!r}, should give the minimum, 3.14159")
else:
    raise SystemExit(f"mended: {minuit.values[0]}")
