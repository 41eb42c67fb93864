"""Benchmarks: every figure is a ratio within one run, contestants alternating, medians quoted."""
