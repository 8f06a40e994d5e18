"""NumPy arrays to torch tensors and back, bf16 included, without copies where there is a way."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import torch

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def tensor(array: np.ndarray) -> torch.Tensor:
    """The same values as a CPU tensor."""
    array = np.ascontiguousarray(array)
    if array.dtype == BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def array(values: torch.Tensor) -> np.ndarray:
    """The same values as a NumPy array."""
    values = values.detach().contiguous()
    if values.dtype == torch.bfloat16:
        return values.view(torch.int16).numpy().view(BFLOAT16)
    return values.numpy()
