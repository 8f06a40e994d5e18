"""Device functions that compile without a GPU, once each, and that the compiler inlines.

Contract: `device` decorates a function for use inside kernels and other device functions. It is
compiled once per process and argument types, as LLVM's IR with line information, and marked
`alwaysinline`: the PTX has no calls.

Why not numba.cuda.jit(device=True): its dispatcher asks the GPU at hand for its compute capability
before it compiles, although the IR of integer and float operations is the same for all that these
kernels run on. With `inline="always"` instead, Numba copies a function's own IR into every caller
before it infers types: 11 s for the pipelined GEMM, against 1 s here.
"""

from __future__ import annotations

from typing import Any

from numba.cuda.compiler import compile_cuda
from numba.cuda.dispatcher import CUDADispatcher

OLDEST = (8, 0)  # the target of the emulator, and the oldest GPU that has cp.async
_OPTIONS = {"debug": False, "lineinfo": True, "fastmath": False, "forceinline": True}


class _Inlined(CUDADispatcher):  # type: ignore[misc]
    """numba-cuda's dispatcher of device functions, with a fixed target."""

    def compile_device(self, args: Any, return_type: Any = None) -> Any:
        """The function's IR for these argument types."""
        if args not in self.overloads:
            with self._compiling_counter:
                compiled = compile_cuda(
                    self.py_func,
                    return_type,
                    args,
                    **_OPTIONS,
                    inline="never",
                    nvvm_options={"opt": 3, "fastmath": False},
                    cc=OLDEST,
                )
                self.overloads[args] = compiled
                compiled.target_context.insert_user_function(
                    compiled.entry_point, compiled.fndesc, [compiled.library]
                )
        return self.overloads[args]


def device(function: Any) -> Any:
    """Decorates a device function."""
    return _Inlined(function, {**_OPTIONS, "device": True, "opt": True, "inline": "never"})
