"""How exactly a GPU multiplies matrices: float32, TensorFloat-32 or bfloat16 (`matmul_precision`)."""

from __future__ import annotations

import torch


def use_precision(name: str, device: torch.device) -> None:
    """Set the precision of matrix products on ``device`` for this process; the CPU's is float32 always.

    | name | factors of a product | mantissa |
    |---|---|---|
    | float32 | as they are | 23 bits |
    | tf32 | rounded inside the product | 10 bits |
    | bf16 | rounded before it, and its result too: networks' outputs have 3 digits | 7 bits |

    Sums, losses, parameters and their optimisers stay in float32.

    Args:
        name: the value of `matmul_precision`.
        device: where networks are.
    """
    if device.type != "cuda":
        return
    torch.set_float32_matmul_precision("highest" if name == "float32" else "high")
    torch.backends.cudnn.allow_tf32 = name != "float32"
    torch.set_autocast_enabled("cuda", name == "bf16")
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    # parameters change between two uses
    torch.set_autocast_cache_enabled(False)
