"""The device run: what a machine with a GPU adds to the proof, in stages ordered by value.

`python -m quantassay.gpu build` (here, no GPU): compiles and audits every CUBIN that a launch
can ask for and writes them with their hashes to out/cubins. `python -m quantassay.gpu` (there):
loads those very CUBINs, runs the stages that have no result yet, and writes each result at once.
Nothing is installed there; missing pure packages (nvtx) are carried as wheels.
"""
