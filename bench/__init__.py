"""Workloads and benchmarks: the real model, real text, layer shapes, timing suites."""
