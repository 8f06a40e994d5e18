"""The same formula without `.float()`: every step is rounded to x's own dtype."""

import torch


def quantize(x):
    scales = x.abs().amax(dim=1) / 127
    codes = (x / scales[:, None]).round().clamp(-127, 127).nan_to_num(0)
    codes = torch.where(scales[:, None] == 0, 0, codes)
    return codes.to(torch.int8), scales.float()
