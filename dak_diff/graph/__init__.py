"""Many partitions: a graph of a value goes in, a graph of its derivative comes out.

The only place that knows HighLevelGraph and dask-awkward's layers. ``wrt`` says what is
differentiated by, ``tasks`` what runs inside a task, ``layers`` how a layer is rebuilt
around such a task, ``forward`` walks the graph, ``probe`` asks beforehand what will happen.
"""
