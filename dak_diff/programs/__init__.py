"""Recorded programs: what a function does to flat arrays, as a straight line that can run again.

No Awkward, no Dask: arrays, lengths and the functions called on them.
"""
