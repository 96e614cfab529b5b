"""bfloat16 arithmetic of the encoder while it is trained on a CPU.

CPUs with instructions for bfloat16 (AMX, AVX-512 BF16) multiply in it several times faster than in float32. Weights,
their updates, features and the CTC loss stay float32, and ``eval()`` is not touched: what is shipped and measured runs
in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hfprobe.errors import ConfigError

CHOICES = ("true", "false", "auto")
INSTRUCTIONS = ("amx_bf16", "avx512_bf16")


def wants_bfloat16(choice: str) -> bool:
    """Whether to multiply in bfloat16: ``true``, ``false``, or ``auto`` for where the CPU has instructions.

    Raises:
        ConfigError: It is something else.

    Example:
        >>> wants_bfloat16("true"), wants_bfloat16("false")
        (True, False)
    """
    if choice not in CHOICES:
        raise ConfigError(f"--hf_bfloat16 must be one of {', '.join(CHOICES)}, got {choice!r}")
    if choice == "auto":
        return any(torch.cpu.get_capabilities().get(name) for name in INSTRUCTIONS)
    return choice == "true"


def train_in_bfloat16(encoder: nn.Module) -> None:
    """Let an ESPnet encoder multiply in bfloat16 in ``train()`` mode, and give back float32.

    Args:
        encoder: Module whose forward returns ``(states, lengths, other)``; changed in place, parameters untouched.

    Example:
        >>> class Encoder(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.linear = nn.Linear(2, 1)
        ...     def forward(self, states, lengths):
        ...         return self.linear(states), lengths, None
        >>> encoder = Encoder().train()
        >>> train_in_bfloat16(encoder)
        >>> states, _, _ = encoder(torch.ones(1, 3, 2), torch.tensor([3]))
        >>> states.dtype, encoder.linear.weight.dtype
        (torch.float32, torch.float32)
    """
    exact = encoder.forward

    def forward(*args: Any, **options: Any) -> Any:
        if not encoder.training:
            return exact(*args, **options)
        device = next(encoder.parameters()).device.type
        with torch.autocast(device, torch.bfloat16):
            states, *rest = exact(*args, **options)
        return states.float(), *rest

    encoder.forward = forward
