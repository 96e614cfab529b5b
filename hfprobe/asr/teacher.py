"""A trained recogniser shows an untrained one what each frame says.

CTC alone must find characters and their places at once; at 40 ms a frame a small network on two CPU cores can stay on
the all-blank plateau for thousands of steps. Here the frame posteriors of a recogniser that is already off it are
learnt first (Hinton et al., "Distilling the knowledge in a neural network", 2015, with temperature 1): a plain
frame-wise classification, which has no plateau. Later phases train on CTC alone.
"""

from __future__ import annotations

import types
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hfprobe.encoders.espnet.layers import layer_specs
from hfprobe.errors import ConfigError

if TYPE_CHECKING:
    from espnet2.asr.espnet_model import ESPnetASRModel


def posterior_loss(
    student: Tensor, lengths: Tensor, student_hop: int, teacher: Tensor, teacher_lengths: Tensor, teacher_hop: int
) -> Tensor:
    """Cross-entropy of the student's frames against the teacher's posteriors at the same time.

    Args:
        student: ``(batch, frames, tokens)`` log-probabilities.
        lengths: ``(batch,)`` valid frames of the student.
        student_hop: Samples per frame of the student.
        teacher: ``(batch, teacher_frames, tokens)`` log-probabilities, without gradient.
        teacher_lengths: ``(batch,)`` valid frames of the teacher.
        teacher_hop: Samples per frame of the teacher.

    Returns:
        Scalar, summed over frames, averaged over the batch (as ESPnet's CTC loss is).

    Example:
        >>> uniform = torch.full((1, 4, 2), 0.5).log()
        >>> loss = posterior_loss(uniform, torch.tensor([4]), 640, uniform[:, :2], torch.tensor([2]), 1280)
        >>> round(float(loss), 3)  # 4 frames of log 2
        2.773
    """
    frame = torch.arange(student.shape[1], device=student.device)
    at = (frame * student_hop // teacher_hop)[None].minimum(teacher_lengths.to(student.device)[:, None] - 1)
    target = teacher.gather(1, at[..., None].expand(-1, -1, teacher.shape[2])).exp()
    valid = frame < lengths.to(student.device)[:, None]
    return -(target * student).sum(-1).masked_fill(~valid, 0.0).sum() / len(student)


def teach(model: ESPnetASRModel, teacher_name: str | Path, weight: float) -> None:
    """Add a teacher's frame posteriors to the loss of an ESPnet CTC model, in place.

    The teacher is not among the model's parameters or weights.

    Args:
        model: ``ESPnetASRModel`` with a CTC head.
        teacher_name: Shipped name or ESPnet folder of a recogniser with the same tokens.
        weight: Share of the teacher in the loss, above 0 and at most 1; CTC has the rest.

    Raises:
        ConfigError: The weight is out of range, or the teacher's tokens are others.
    """
    from hfprobe.encoders import AutoSpeechEncoder

    if not 0 < weight <= 1:
        raise ConfigError(f"hf_teacher_weight must be above 0 and at most 1, got {weight}")
    teacher = AutoSpeechEncoder.from_pretrained(str(teacher_name)).eval()
    tokens = getattr(getattr(teacher, "text", None), "tokens", None)
    if tokens is None or list(tokens) != list(model.token_list):
        raise ConfigError(f"the teacher {str(teacher_name)!r} must have the model's {len(model.token_list)} CTC tokens")
    plain_encode, plain_forward, heard = model.encode, model.forward, {}
    hop = layer_specs(model.encoder, model.frontend.output_size(), model.frontend.hop_length)[-1].stride

    def encode(self, speech: Tensor, speech_lengths: Tensor):
        heard["out"], heard["lengths"] = plain_encode(speech, speech_lengths)
        return heard["out"], heard["lengths"]

    def forward(self, speech, speech_lengths, text, text_lengths, **kwargs):
        loss, stats, count = plain_forward(speech, speech_lengths, text, text_lengths, **kwargs)
        if self.training:
            teacher.to(speech.device)
            with torch.no_grad():
                told = teacher(speech, speech_lengths, output_hidden_states=False)
            told_lengths = told.hidden_lengths[-1]
            lesson = posterior_loss(
                self.ctc.log_softmax(heard["out"]),
                heard["lengths"],
                hop,
                told.logits.log_softmax(-1),
                told_lengths,
                teacher.layers[-1].stride,
            )
            loss = (1 - weight) * loss + weight * lesson
            stats = {**stats, "loss_teacher": lesson.detach(), "loss": loss.detach()}
        return loss, stats, count

    model.encode = types.MethodType(encode, model)
    model.forward = types.MethodType(forward, model)
