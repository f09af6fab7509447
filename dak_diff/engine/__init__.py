"""One partition: algebras of derivative-carrying arrays, and the Awkward backend made of them.

``dual`` and ``tape`` are the algebras; ``buffer`` and ``array_module`` make them look like
arrays; ``awkward_internals`` is the only folder that knows Awkward's private API;
``transform`` offers ``pushforward`` and ``pullback`` to the rest. Dask is unknown here.
"""
