"""Per-token INT8 quantization in NumPy."""

import numpy as np


def quantize(x):
    wide = x.astype(np.float32)
    scales = np.abs(wide).max(axis=1) / np.float32(127)
    codes = np.clip(np.rint(wide / scales[:, None]), -127, 127)
    codes = np.where(np.isnan(codes) | (scales[:, None] == 0), 0, codes)
    return codes.astype(np.int8), scales
