"""Mutation testing of our own kernels: how many small changes of their sources the suite notices.

    python -m quantassay.mutation --file kernels_cupy/int8_gemm.cu --sample 70

operators_cuda.py and operators_python.py make mutants of a source text; plan.py gathers the suite's
inputs; build.py serves a mutated source to the wings; judge.py says what became of a mutant, in a
process of its own; campaign.py runs them; table.py writes docs/mutation.md. All of it needs the
checkout: the kernels' sources and tests/reach.
"""
