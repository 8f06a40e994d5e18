"""Why a kernel is wrong, in words: the mistake that reproduces its bits.

variants.py computes every op with each choice as a knob (model_*.py by family; knobs.py, sums.py);
hypotheses.py turns the knobs that people turn by mistake (words.py: a dialect's fields; slips_*.py:
known slips); diagnose.py names the one that gives the kernel's own bits on all the evidence, or
falls back to where the mismatches lie (patterns.py).
"""
