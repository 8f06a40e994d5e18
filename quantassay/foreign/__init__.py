"""Any engineer's own CUDA C++ or PTX as a kernel of an op, from a few words of a command line.

    kernel = load(Request(Path("mine.cu"), ptx=False, op="int8.quantize_per_token", ...))

kernel.py has the contract, request.py what is asked, grammar.py the argument list.
"""

from quantassay.foreign.kernel import load
from quantassay.foreign.request import Request

__all__ = ["Request", "load"]
