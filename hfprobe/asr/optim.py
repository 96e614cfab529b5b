"""Learning rates that fit the width of each layer.

Adam moves every weight by about the learning rate, whatever the gradient, so one step moves a unit with many inputs
further than one with few. A rate that suits LSTMs of a few hundred inputs drives the first LSTM after a VGG block
(2560 inputs) into saturation within some hundred steps. Here the rate of a matrix falls with its number of inputs
(Yang et al., "Tensor Programs V", NeurIPS 2021, Table 8: Adam, hidden weights).
"""

from __future__ import annotations

from collections import defaultdict

from torch import nn

BASE_INPUTS = 256  # matrices with at most so many inputs keep the given rate


def by_width(model: nn.Module, lr: float) -> list[dict]:
    """Parameter groups for an Adam optimiser.

    Args:
        model: Any module; parameters without gradient are left out.
        lr: Rate of biases and of matrices with at most `BASE_INPUTS` inputs per unit.

    Returns:
        Groups ``{"params": [...], "lr": ...}``, the given rate first, then falling.

    Example:
        >>> [(len(group["params"]), group["lr"]) for group in by_width(nn.Linear(1024, 4), 0.01)]
        [(1, 0.01), (1, 0.0025)]
    """
    groups = defaultdict(list)
    for parameter in model.parameters():
        if parameter.requires_grad:
            inputs = parameter[0].numel() if parameter.dim() > 1 else 1
            groups[min(1.0, BASE_INPUTS / inputs)].append(parameter)
    return [{"params": groups[share], "lr": lr * share} for share in sorted(groups, reverse=True)]
