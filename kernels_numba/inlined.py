"""Device functions that compile without a GPU, once each, and that the compiler inlines.

Contract: `device` decorates a function for use inside kernels and other device functions. It is
compiled once per process and argument types, as LLVM's IR with line information, and marked
`alwaysinline`: the PTX has no calls. What Numba says of variables, besides lines, is taken out: of
inlined functions NVVM sometimes makes symbols of it that PTX does not allow, and fails.

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


class _Inlined(CUDADispatcher):
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
                _forget_variables(compiled.library)
                self.overloads[args] = compiled
                compiled.target_context.insert_user_function(
                    compiled.entry_point, compiled.fndesc, [compiled.library]
                )
        return self.overloads[args]


def _forget_variables(library: Any) -> None:
    """Removes llvm.dbg.value and llvm.dbg.declare from a library's modules."""
    for module in library.modules:
        for function in module.functions:
            for block in function.blocks:
                block.instructions[:] = [
                    one for one in block.instructions if not _tells_of_variable(one)
                ]


def _tells_of_variable(instruction: Any) -> bool:
    callee = getattr(instruction, "callee", None)
    return getattr(callee, "name", "").startswith("llvm.dbg.")


def device(function: Any) -> Any:
    """Decorates a device function."""
    return _Inlined(function, {**_OPTIONS, "device": True, "opt": True, "inline": "never"})
