"""Per-token INT8 quantization in torch: float32 arithmetic whatever x is."""

import torch


def quantize(x):
    wide = x.float()
    scales = wide.abs().amax(dim=1) / 127
    codes = (wide / scales[:, None]).round().clamp(-127, 127).nan_to_num(0)
    codes = torch.where(scales[:, None] == 0, 0, codes)
    return codes.to(torch.int8), scales
