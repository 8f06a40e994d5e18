"""Where the #includes of a user's CUDA C++ are found on a machine without a CUDA toolkit.

Contract: `folders()` are the include folders of the installed packages (cuda_fp16.h, cuda_bf16.h,
cuda_fp8.h, mma.h, CUB and libcu++), and a toolkit's come last. `STANDARD` holds
what device code uses of the C and C++ standard headers, which the compiler (NVRTC) has none of, and
assert.h without its assert: NDEBUG's.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_INTEGERS = """#pragma once
typedef signed char int8_t; typedef unsigned char uint8_t;
typedef short int16_t; typedef unsigned short uint16_t;
typedef int int32_t; typedef unsigned int uint32_t;
typedef long long int64_t; typedef unsigned long long uint64_t;
typedef long long intptr_t; typedef unsigned long long uintptr_t;
#ifndef INT8_MIN
#define INT8_MIN (-128)
#define INT8_MAX 127
#define UINT8_MAX 255
#define INT16_MIN (-32768)
#define INT16_MAX 32767
#define UINT16_MAX 65535
#define INT32_MIN (-2147483647 - 1)
#define INT32_MAX 2147483647
#define UINT32_MAX 4294967295U
#define INT64_MAX 9223372036854775807LL
#define INT64_MIN (-INT64_MAX - 1)
#define UINT64_MAX 18446744073709551615ULL
#endif
"""
_IN_STD = """namespace std {
using ::int8_t; using ::uint8_t; using ::int16_t; using ::uint16_t;
using ::int32_t; using ::uint32_t; using ::int64_t; using ::uint64_t;
using ::intptr_t; using ::uintptr_t;
}
"""
_LIMITS = """#pragma once
#ifndef CHAR_BIT
#define CHAR_BIT 8
#define SCHAR_MIN (-128)
#define SCHAR_MAX 127
#define UCHAR_MAX 255
#define SHRT_MIN (-32768)
#define SHRT_MAX 32767
#define USHRT_MAX 65535
#define INT_MIN (-2147483647 - 1)
#define INT_MAX 2147483647
#define UINT_MAX 4294967295U
#define LLONG_MAX 9223372036854775807LL
#define LLONG_MIN (-LLONG_MAX - 1)
#define ULLONG_MAX 18446744073709551615ULL
#endif
"""
_FLOATS = """#pragma once
#ifndef FLT_MAX
#define FLT_MAX 3.402823466e+38F
#define FLT_MIN 1.175494351e-38F
#define FLT_EPSILON 1.192092896e-07F
#define DBL_MAX 1.7976931348623158e+308
#define DBL_MIN 2.2250738585072014e-308
#define DBL_EPSILON 2.2204460492503131e-016
#endif
"""
_MATH = """#pragma once
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
#ifndef NAN
#define NAN __int_as_float(0x7fffffff)
#endif
"""
_EMPTY = "#pragma once\n"
_STD_MATH = """namespace std {
using ::abs; using ::fabs; using ::fmax; using ::fmin; using ::sqrt; using ::exp; using ::log;
using ::pow; using ::round; using ::rint; using ::trunc; using ::floor; using ::ceil;
using ::isnan; using ::isinf; using ::copysign; using ::min; using ::max;
}
"""
_STD_LIMITS = "#include <cuda/std/limits>\nnamespace std { using cuda::std::numeric_limits; }\n"
_OF_LIBCUXX = """#pragma once
#include <cuda/std/{0}>
namespace std {{ using namespace cuda::std; }}
"""
_CUB = """#pragma once
#include <cub/block/block_load.cuh>
#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>
#include <cub/block/block_store.cuh>
#include <cub/warp/warp_reduce.cuh>
#include <cub/warp/warp_scan.cuh>
"""

STANDARD: tuple[tuple[str, str], ...] = (
    ("stdint.h", _INTEGERS),
    ("cstdint", "#include <stdint.h>\n" + "#pragma once\n" + _IN_STD),
    ("limits.h", _LIMITS),
    ("climits", "#include <limits.h>\n"),
    ("float.h", _FLOATS),
    ("cfloat", "#include <float.h>\n"),
    ("math.h", _MATH),
    ("cmath", "#pragma once\n#include <math.h>\n" + _STD_MATH),
    ("stddef.h", _EMPTY),
    ("cstddef", "#pragma once\nnamespace std { using ::size_t; }\n"),
    ("assert.h", "#pragma once\n#ifndef assert\n#define assert(x) ((void)0)\n#endif\n"),
    ("cassert", "#include <assert.h>\n"),
    ("limits", "#pragma once\n" + _STD_LIMITS),
    *((name, _OF_LIBCUXX.format(name)) for name in ("type_traits", "utility", "array", "tuple")),
    ("cub/cub.cuh", _CUB),  # the whole of it holds host code
)


@cache
def folders() -> tuple[str, ...]:
    """The include folders there are, in the order in which they are searched."""
    return tuple(str(folder) for folder in _candidates() if folder.is_dir())


def _candidates() -> Iterator[Path]:
    yield from sorted(
        path
        for root in _package("nvidia")
        for path in root.glob("*/include")
        if (path / "cuda_fp16.h").is_file()
    )
    for root in _package("numba_cuda"):
        yield root / "numba" / "cuda" / "include" / _major()
    for root in _package("cupy"):
        libraries = root / "_core" / "include" / "cupy" / "_cccl"
        yield from (libraries / name for name in ("libcudacxx", "cub", "thrust"))
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            yield Path(os.environ[name]) / "include"
    yield Path("/usr/local/cuda/include")


def _package(name: str) -> list[Path]:
    """Folders of a package, without importing it."""
    spec = importlib.util.find_spec(name)
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []


def _major() -> str:
    from kernels_cupy.compile import nvrtc_version

    return nvrtc_version().split(".")[0]
