"""What :mod:`dak_diff.testing` checks with: numbers, moved graphs, difference quotients.

numbers <- precision <- point <- moved <- differences
"""
