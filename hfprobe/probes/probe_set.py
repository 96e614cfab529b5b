"""All probes of an encoder as one module that is trained by one optimiser, without the probes noticing one
another.

Weights, choice of frames, normalisation and gradient clipping belong to each probe alone, so training nine
layers together gives each the probe it would have become on its own (a test compares them bit for bit).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from hfprobe.audio import MelConfig
from hfprobe.data.halves import attempt, in_halves
from hfprobe.errors import ConfigError, LayerError
from hfprobe.probes.configuration import HighwayProbeConfig, LinearProbeConfig
from hfprobe.probes.losses import PackedFrames, choose_frames, join_frames, masked_l1, mel_targets, pack_frames
from hfprobe.probes.modeling import HighwayProbe, LayerProbe, LinearProbe
from hfprobe.probes.training_config import ProbeTrainingConfig

logger = logging.getLogger(__name__)

WIDE = 512  # values per frame up to which a probe learns at the full rate


def derived_seed(*parts: object) -> int:
    """A seed for one purpose, independent of the seeds for others.

    Because a seed is derived for each (run, layer, process, step), there is no generator whose state would
    have to be saved, and no layer's draw depends on which other layers are trained.

    Example:
        >>> derived_seed(0, "blstm1", "weights") == derived_seed(0, "blstm2", "weights")
        False
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def choose_layers(encoder: Any, layers: Iterable[str] | None, hop: int = 1) -> list[Any]:
    """Specifications of the layers to train, in the encoder's order.

    Args:
        encoder: A `SpeechEncoder`.
        layers: Their names. If None, all whose stride is a whole multiple of the hop: the first convolutions of a
            waveform encoder are finer than a mel frame, and are left out with a note in the log.
        hop: Samples from one mel frame to the next.

    Returns:
        List of `LayerSpec`.

    Raises:
        LayerError: If a name is unknown, or there is none.
    """
    known = [spec.name for spec in encoder.layers]
    wanted = known if layers is None else [layers] if isinstance(layers, str) else list(layers)
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        what = f"no layer {unknown[0]!r}" if unknown else "no layers asked for"
        raise LayerError(f"{what} in encoder {encoder.name!r}; choose from {', '.join(known)}")
    chosen = [spec for spec in encoder.layers if spec.name in wanted]
    if layers is not None:
        return chosen
    fitting = [spec for spec in chosen if spec.stride % hop == 0]
    if len(fitting) < len(chosen):
        left_out = ", ".join(f"{spec.name} ({spec.stride})" for spec in chosen if spec not in fitting)
        logger.warning("no probes for layers whose stride in samples is no multiple of the hop %d: %s", hop, left_out)
    if not fitting:
        raise LayerError(f"no layer of encoder {encoder.name!r} has a stride that is a multiple of the hop {hop}")
    return fitting


class ProbeSet(nn.Module):
    """Freshly initialised probes.

    Args:
        specs: The layers.
        config: Training settings.
        mel_config: Mel settings.
        encoder: Name of the encoder.
        fingerprint: Its fingerprint.
    """

    def __init__(
        self,
        specs: Sequence[Any],
        config: ProbeTrainingConfig,
        mel_config: MelConfig,
        encoder: str,
        fingerprint: str,
    ):
        super().__init__()
        self.probes = nn.ModuleDict()
        self.add(specs, config, mel_config, encoder, fingerprint)

    def add(
        self,
        specs: Sequence[Any],
        config: ProbeTrainingConfig,
        mel_config: MelConfig,
        encoder: str,
        fingerprint: str,
        prefix: str = "",
    ) -> None:
        """Add the probes of an encoder, under the names of its layers with a prefix.

        Weights depend on seed and layer alone, so an encoder and its random twin start from the same probes.

        Args:
            specs: The layers.
            config: Training settings.
            mel_config: Mel settings.
            encoder: Name of the encoder.
            fingerprint: Its fingerprint.
            prefix: Put before the layers' names.
        """
        for spec in specs:
            common = {
                "input_dim": spec.dim,
                "layer": spec.name,
                "stride": spec.stride,
                "mel": mel_config.to_dict(),
                "encoder": encoder,
                "encoder_fingerprint": fingerprint,
            }
            probe: LayerProbe
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derived_seed(config.seed, spec.name, "weights"))
                if config.probe == "linear":
                    probe = LinearProbe(LinearProbeConfig(**common))
                else:
                    probe = HighwayProbe(
                        HighwayProbeConfig(
                            **common,
                            hidden_dim=config.hidden_dim,
                            num_layers=config.num_layers,
                            gate_bias=config.gate_bias,
                        )
                    )
                self.probes[prefix + spec.name] = probe.train()

    @property
    def by_name(self) -> Mapping[str, LayerProbe]:
        """The probes, by the names of their layers with prefix; `probes` holds the same ones as plain modules."""
        return cast("Mapping[str, LayerProbe]", self.probes)

    def forward(
        self, packed: dict[str, PackedFrames], counts: dict[str, torch.Tensor] | None = None
    ) -> dict[str, torch.Tensor]:
        """Loss of each layer on its packed frames; ``counts`` as for `masked_l1`."""
        counts = counts or {}
        return {
            name: masked_l1(self.by_name[name].frames_to_mel(part.frames), part.target, part.mask, counts.get(name))
            for name, part in packed.items()
        }

    def parameter_groups(self, config: ProbeTrainingConfig) -> list[dict[str, Any]]:
        """Groups for the optimiser: no decay of biases, a lower rate for probes of wide layers.

        Adam moves every weight by about the learning rate, so a rate that suits a layer of some hundred values
        overshoots on the thousands of a flattened convolution map. Above `WIDE` values the rate falls with the root of
        the width.

        Args:
            config: Training settings.

        Returns:
            Groups with ``share``, the part of the scheduled rate that they get.
        """
        groups = []
        for probe in self.by_name.values():
            share = min(1.0, (WIDE / probe.config.input_dim) ** 0.5)
            decay = [value for value in probe.parameters() if value.dim() > 1]
            plain = [value for value in probe.parameters() if value.dim() == 1]
            groups.append({"params": decay, "weight_decay": config.weight_decay, "share": share})
            groups.append({"params": plain, "weight_decay": 0.0, "share": share})
        return groups

    def clip_gradients(self, max_norm: float) -> None:
        """Clip each probe's gradient by its own norm."""
        for probe in self.probes.values():
            nn.utils.clip_grad_norm_(probe.parameters(), max_norm, foreach=True)

    def pack(
        self,
        encoder: Any,
        batch: Any,
        mel_config: MelConfig,
        mel_frames: int | None = None,
        seed: Sequence = (),
        accelerator: Any = None,
    ) -> dict[str, PackedFrames]:
        """Encode a batch once and gather every layer's frames.

        A batch that does not fit into memory is encoded in halves, which gives the same frames.

        Args:
            encoder: A `SpeechEncoder` in eval mode, on the probes' device; or several, by the prefix of their probes.
            batch: A `SpeechBatch`; the target is the mel of `batch.waveforms`, of what went in. It may be empty.
            mel_config: Mel settings.
            mel_frames: Mel frames per layer, a random choice; all if None.
            seed: Parts of the seed of the choice; the layer's name is added (without prefix: twins learn from the
                same frames).
            accelerator: Accelerate's, where the batches of all processes are parts of one, from which is chosen.

        Returns:
            Name of the probe to packed frames.
        """
        encoders = encoder if isinstance(encoder, Mapping) else {"": encoder}
        device = next(self.parameters()).device
        waveforms, lengths = batch.waveforms.to(device), batch.lengths.to(device)
        alone = accelerator is None or accelerator.num_processes == 1
        at_once = (mel_frames, seed) if alone else (None, seed)
        done = attempt(lambda: self._pack(encoders, waveforms, lengths, mel_config, *at_once), len(lengths))
        if done and (alone or mel_frames is None):
            return done[0]

        def part(rows: Sequence[int]) -> dict[str, PackedFrames]:
            few = slice(rows[0], rows[-1] + 1)
            longest = int(lengths[few].max())
            return self._pack(encoders, waveforms[few, :longest], lengths[few], mel_config)

        if not done:
            middle = len(lengths) // 2
            done = in_halves(part, range(middle)) + in_halves(part, range(middle, len(lengths)))
        packed = {name: join_frames([one[name] for one in done]) for name in done[0]}
        return packed if mel_frames is None else self._choose(packed, mel_frames, seed, None if alone else accelerator)

    @torch.no_grad()
    def _pack(self, encoders, waveforms, lengths, mel_config, mel_frames=None, seed=()) -> dict[str, PackedFrames]:
        if not len(lengths):
            return self._nothing(mel_config)
        mel, mel_lengths = mel_targets(waveforms, lengths, mel_config)
        packed = {}
        for prefix, each in encoders.items():
            specs = [spec for spec in each.layers if prefix + spec.name in self.probes]
            output = each(waveforms, lengths, layers=[spec.name for spec in specs])
            for index, spec in enumerate(specs):
                packed[prefix + spec.name] = pack_frames(
                    output.hidden_states[index],
                    output.hidden_lengths[index],
                    mel,
                    mel_lengths,
                    self.by_name[prefix + spec.name].config.upsampling,
                    mel_frames,
                    torch.Generator().manual_seed(derived_seed(*seed, spec.name)),
                )
        return packed

    def _nothing(self, mel_config: MelConfig) -> dict[str, PackedFrames]:
        """Packed frames of a batch without utterances."""
        packed = {}
        for name, probe in self.by_name.items():
            frames = torch.zeros(0, probe.config.input_dim, device=probe.device)
            target = frames.new_zeros(0, probe.config.upsampling, mel_config.n_mels)
            packed[name] = PackedFrames(frames, target, target[..., 0].bool())
        return packed

    def _choose(self, packed, mel_frames: int, seed: Sequence, accelerator: Any) -> dict[str, PackedFrames]:
        """A random choice from the frames of one process, or from those of all."""
        here = torch.tensor([len(part.frames) for part in packed.values()])
        before, total = torch.zeros_like(here), here
        if accelerator is not None:
            counts = accelerator.gather(here.to(accelerator.device)).view(-1, len(here)).cpu()
            before, total = counts[: accelerator.process_index].sum(0), counts.sum(0)
        chosen = {}
        for place, (name, part) in enumerate(packed.items()):
            generator = torch.Generator().manual_seed(derived_seed(*seed, self.by_name[name].config.layer))
            chosen[name] = choose_frames(part, mel_frames, generator, int(before[place]), int(total[place]))
        return chosen


def require_finite(losses: dict[str, float], step: int) -> None:
    """Stop a training that has diverged.

    Raises:
        ConfigError: If a loss is NaN or infinite.
    """
    for name, value in losses.items():
        if value != value or value in (float("inf"), float("-inf")):
            raise ConfigError(
                f"expected a finite loss for layer {name!r}, got {value} at step {step}; "
                "lower learning_rate, or check the encoder's hidden states for NaN"
            )
