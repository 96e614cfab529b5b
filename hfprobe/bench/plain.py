"""Training of one probe at a time as the paper's text reads, without any thought of speed.

Source: Li, Yuan, Lee (arXiv 1911.01102), section 2.2: a linear projection that upsamples, four Highway layers, a linear
output, L1. The recogniser is run by ESPnet's own ``forward``, with a hook where the layer is read; everything is done
on the padded batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hfprobe.errors import ConfigError
from hfprobe.probes.losses import masked_l1, mel_targets

if TYPE_CHECKING:
    from hfprobe.encoders.espnet.adapter import EspnetEncoder
    from hfprobe.encoders.espnet.layers import RecurrentEncoder


class PlainHighway(nn.Module):
    """One Highway layer of two matrices."""

    def __init__(self, dim: int):
        super().__init__()
        self.transform, self.gate = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., width)`` to ``(..., width)``."""
        gate = torch.sigmoid(self.gate(x))
        return gate * torch.relu(self.transform(x)) + (1 - gate) * x


class PlainProbe(nn.Module):
    """A probe on padded frames ``(batch, frames, dim)``, to ``(batch, frames * upsampling, n_mels)``."""

    def __init__(self, dim: int, upsampling: int, hidden: int, layers: int, n_mels: int):
        super().__init__()
        self.upsampling = upsampling
        self.projection = nn.Linear(dim, upsampling * hidden)
        self.body = nn.Sequential(*(PlainHighway(hidden) for _ in range(layers)), nn.Linear(hidden, n_mels))

    def forward(self, states: Tensor) -> Tensor:
        """Hidden frames to mel frames."""
        x = self.projection(states)
        return self.body(x.reshape(len(x), x.shape[1] * self.upsampling, -1))


class StockEspnet:
    """ESPnet's own forward of the encoder inside an `EspnetEncoder`, from waveforms to its last layer.

    Args:
        encoder: The encoder; its modules are copied, its features are used.

    Attributes:
        network: ESPnet's module.
    """

    def __init__(self, encoder: EspnetEncoder):
        self.network: RecurrentEncoder = copy.deepcopy(encoder.encoder).eval()
        self._features = encoder.features
        for module in self.network.enc:
            if hasattr(module, "dropout"):
                module.dropout = 0.0  # ESPnet drops out in eval() too

    def __call__(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Waveforms ``(batch, samples)`` and lengths, in falling order, to ``(batch, frames, dim)``."""
        features, frames = self._features(waveforms, lengths)
        return self.network(features, frames)[0]


def stock_espnet(encoder: EspnetEncoder) -> StockEspnet:
    """ESPnet's own forward of an encoder; see `StockEspnet`."""
    return StockEspnet(encoder)


def _place(network: RecurrentEncoder, layer: str) -> tuple[nn.Module, Callable[[Tensor, int], Tensor]]:
    """The module of ESPnet that a layer is read from, and how its output becomes ``(batch, frames, dim)``."""
    number = int("".join(character for character in layer if character.isdigit()))
    if layer.startswith("cnn"):
        block, second = (number + 1) // 2, number % 2 == 0

        def map_to_frames(values: Tensor, batch: int) -> Tensor:
            values = torch.relu(values)
            if second:
                values = nn.functional.max_pool2d(values, 2, stride=2, ceil_mode=True)
            return values.transpose(1, 2).flatten(2)

        return getattr(network.enc[0], f"conv{block}_{2 if second else 1}"), map_to_frames
    stack = network.enc[-1]
    if not hasattr(stack, f"bt{number - 1}"):
        raise ConfigError(f"expected a recogniser with projections, layer {layer!r} has none; choose another encoder")

    def rows_to_frames(values: Tensor, batch: int) -> Tensor:
        # ESPnet projects all frames of all utterances in one axis.
        values = values.reshape(batch, -1, values.shape[-1])
        return values if number == stack.elayers else torch.tanh(values)

    return getattr(stack, f"bt{number - 1}"), rows_to_frames


def plain_trainings(
    encoder: Any,
    waveforms: Tensor,
    lengths: Tensor,
    hidden_dim: int = 192,
    num_layers: int = 4,
    learning_rate: float = 1e-3,
    **_: Any,
) -> list[Callable[[], float]]:
    """One training step for each layer of a recogniser, each with a pass of its own through ESPnet.

    Args:
        encoder: An `EspnetEncoder`.
        waveforms: ``(batch, samples)``.
        lengths: ``(batch,)`` samples.
        hidden_dim: Width of the Highway layers.
        num_layers: Highway layers.
        learning_rate: Of AdamW.

    Returns:
        Functions that take a step and return the loss.
    """
    from hfprobe.audio import MelConfig

    order = lengths.argsort(descending=True)
    waveforms, lengths, config = waveforms[order], lengths[order], MelConfig()
    return [
        _plain_training(encoder, spec, waveforms, lengths, config, hidden_dim, num_layers, learning_rate)
        for spec in encoder.layers
    ]


def _plain_training(encoder, spec, waveforms, lengths, config, hidden_dim, num_layers, rate) -> Callable[[], float]:
    stock = stock_espnet(encoder)
    module, as_frames = _place(stock.network, spec.name)
    seen: list[Tensor] = []
    module.register_forward_hook(lambda module, arguments, output: seen.append(as_frames(output, len(waveforms))))
    upsampling = spec.stride // config.hop_length
    probe = PlainProbe(spec.dim, upsampling, hidden_dim, num_layers, config.n_mels).to(waveforms.device)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=rate)

    def step() -> float:
        seen.clear()
        with torch.no_grad():
            stock(waveforms, lengths)
            target, frames = mel_targets(waveforms, lengths, config)
        mel = probe(seen.pop())
        shared = min(mel.shape[1], target.shape[1])
        mask = torch.arange(shared, device=mel.device) < frames[:, None]
        loss = masked_l1(mel[:, :shared], target[:, :shared], mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
