"""Two functions of somebody's project."""

import numpy as np


def quantize(x):
    """Per-token INT8."""
    wide = x.astype(np.float32)
    scales = np.abs(wide).max(axis=1) / np.float32(127)
    codes = np.clip(np.rint(wide / scales[:, None]), -127, 127)
    codes = np.where(np.isnan(codes) | (scales[:, None] == 0), 0, codes)
    return codes.astype(np.int8), scales


def dequantize(codes, scales):
    """One scale for each row, or one for all."""
    return codes.astype(np.float32) / (1 / scales[:, None])
