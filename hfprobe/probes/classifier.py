"""A probe that names something (phone, speaker, ...) from a layer: linear, or with one hidden layer.

Sources: Belinkov and Glass, "Analyzing hidden representations in end-to-end automatic speech recognition systems"
(NeurIPS 2017) for frame-level phones and one hidden layer of 500 units; Alain and Bengio, "Understanding intermediate
layers using linear classifier probes" (2016) for the linear one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoConfig, AutoModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from hfprobe.errors import ConfigError
from hfprobe.probes.classifier_config import ClassifierProbeConfig
from hfprobe.probes.strict_probe import StrictProbe


@dataclass
class ClassifierProbeOutput(ModelOutput):
    """What a classifier returns.

    Attributes:
        loss: Mean cross-entropy in nats over the items with a label, a scalar; None without labels.
        logits: ``(batch, frames, classes)`` of a frame classifier, ``(batch, classes)`` of an utterance classifier.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None


class ClassifierProbe(StrictProbe):
    """Classifier of one layer's frames, or of the mean of an utterance's frames.

    The buffers ``input_mean`` and ``input_std`` ``(dim,)`` are the training part's statistics, saved with the weights.

    Example:
        >>> probe = ClassifierProbe(ClassifierProbeConfig(input_dim=8, labels=["f", "m"], target="gender"))
        >>> tuple(probe(torch.zeros(3, 5, 8)).logits.shape)
        (3, 2)
    """

    config_class = ClassifierProbeConfig
    config: ClassifierProbeConfig
    base_model_prefix = "classifier"
    _noun = "a classifier"
    main_input_name = "hidden_states"

    def __init__(self, config: ClassifierProbeConfig):
        super().__init__(config)
        # Persistent: transformers builds models on the meta device, where an unsaved buffer becomes garbage.
        self.register_buffer("input_mean", torch.zeros(config.input_dim))
        self.register_buffer("input_std", torch.ones(config.input_dim))
        width = config.hidden_dim or config.input_dim
        self.hidden = nn.Linear(config.input_dim, config.hidden_dim) if config.hidden_dim else None
        self.output = nn.Linear(width, config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        # transformers.initialization skips tensors that came from a checkpoint; plain torch functions would not.
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)
        if module is self:
            init.zeros_(self.input_mean)
            init.ones_(self.input_std)

    def classify(self, items: torch.Tensor) -> torch.Tensor:
        """Classify frames or pooled utterances, each on its own.

        Args:
            items: Hidden frames, or pooled utterances, ``(..., dim)``.

        Returns:
            Logits ``(..., classes)``.
        """
        x = (items.float() - self.input_mean) / self.input_std
        if self.hidden is not None:
            x = torch.relu(self.hidden(x))
        return self.output(x)

    def forward(
        self,
        hidden_states: torch.Tensor,
        lengths: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        return_dict: bool | None = None,
    ) -> ClassifierProbeOutput | tuple:
        """Classify a batch.

        Args:
            hidden_states: Frames of the layer ``(batch, frames, dim)``.
            lengths: Valid frames ``(batch,)``; all where None.
            labels: Class indices ``(batch, frames)`` for a frame classifier, ``(batch,)`` for an utterance classifier;
                negative ones and those behind an utterance's end do not count.
            return_dict: Return a plain tuple if False.

        Returns:
            Logits, and the loss where there are labels.

        Raises:
            ConfigError: The width is not that of this probe, or the labels have another shape.
        """
        dim = self.config.input_dim
        if hidden_states.dim() != 3 or hidden_states.shape[-1] != dim:
            raise ConfigError(
                f"expected hidden_states of shape (batch, frames, {dim}) for layer {self.config.layer!r}, got "
                f"{tuple(hidden_states.shape)}; pass the states of the layer that the probe was made for"
            )
        if lengths is None:
            lengths = torch.full((len(hidden_states),), hidden_states.shape[1], device=hidden_states.device)
        inside = torch.arange(hidden_states.shape[1], device=hidden_states.device) < lengths[:, None]
        pooled = self.config.pooling == "utterance"
        logits = self.classify(mean_frames(hidden_states, lengths) if pooled else hidden_states)
        loss = None
        if labels is not None:
            if labels.shape != logits.shape[:-1]:
                raise ConfigError(f"expected labels of shape {tuple(logits.shape[:-1])}, got {tuple(labels.shape)}")
            counted = labels >= 0 if pooled else (labels >= 0) & inside
            loss = nn.functional.cross_entropy(logits[counted], labels[counted])
        output = ClassifierProbeOutput(loss=loss, logits=logits)
        return output.to_tuple() if return_dict is False else output


def mean_frames(states: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Mean of each utterance's valid frames: ``(batch, frames, dim)`` to ``(batch, dim)``, float32.

    Example:
        >>> mean_frames(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([2])).tolist()
        [[2.0]]
    """
    inside = torch.arange(states.shape[1], device=states.device) < lengths.to(states.device)[:, None]
    # `where`, not a product: padding may hold anything.
    total = torch.where(inside[..., None], states.float(), 0.0).sum(dim=1)
    return total / lengths.to(states.device).clamp(min=1)[:, None]


AutoConfig.register(ClassifierProbeConfig.model_type, ClassifierProbeConfig)
AutoModel.register(ClassifierProbeConfig, ClassifierProbe)
