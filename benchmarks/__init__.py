"""Benchmarks and the demo; each is a module to run from the top of the checkout."""
