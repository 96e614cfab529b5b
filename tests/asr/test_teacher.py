"""Learning from another recogniser's frames."""

from types import SimpleNamespace

import pytest
import torch
from espnet2.asr.encoder.rnn_encoder import RNNEncoder
from torch import nn

from hfprobe.asr.teacher import posterior_loss, teach
from hfprobe.encoders import AutoSpeechEncoder
from hfprobe.errors import ConfigError


def test_loss_is_the_cross_entropy_at_the_same_time():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 5, 3).log_softmax(-1), torch.randn(2, 3, 3).log_softmax(-1)
    lengths, teacher_lengths = torch.tensor([5, 3]), torch.tensor([2, 2])
    loss = posterior_loss(student, lengths, 640, teacher, teacher_lengths, 1280)
    expected = 0.0
    for row, frames in enumerate(lengths.tolist()):
        for frame in range(frames):
            at = min(frame // 2, int(teacher_lengths[row]) - 1)
            expected -= float((teacher[row, at].exp() * student[row, frame]).sum()) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_padding_has_no_say_and_the_teacher_is_the_best_student():
    torch.manual_seed(1)
    teacher = torch.randn(1, 4, 3).log_softmax(-1)
    length = torch.tensor([3])
    student = teacher.clone().requires_grad_()
    loss = posterior_loss(student, length, 320, teacher, length, 320)
    loss.backward()
    assert not student.grad[:, 3].any()
    entropy = -(teacher.exp() * teacher)[:, :3].sum()
    assert float(loss) == pytest.approx(float(entropy), rel=1e-5)
    other = torch.randn(1, 4, 3).log_softmax(-1)
    assert float(posterior_loss(other, length, 320, teacher, length, 320)) > float(loss)


class Student(nn.Module):
    """What `teach` needs of an ESPnet model."""

    def __init__(self, tokens):
        super().__init__()
        self.token_list = tokens
        self.frontend = SimpleNamespace(output_size=lambda: 240, hop_length=160)
        self.encoder = RNNEncoder(240, num_layers=2, hidden_size=8, output_size=8, subsample=[2, 2], dropout=0.0)
        self.out = nn.Linear(8, len(tokens))
        self.ctc = SimpleNamespace(log_softmax=lambda x: self.out(x).log_softmax(-1))

    def encode(self, speech, speech_lengths):
        frames = 1 + speech_lengths // 160
        features = torch.randn(len(speech), int(frames.max()), 240, generator=torch.Generator().manual_seed(0))
        out, lengths, _ = self.encoder(features, frames)
        return out, lengths

    def forward(self, speech, speech_lengths, text, text_lengths, **kwargs):
        out, _ = self.encode(speech, speech_lengths)
        return out.sum() * 0 + 7.0, {"loss": torch.tensor(7.0)}, torch.tensor(len(speech))


@pytest.fixture(scope="module")
def teacher():
    return AutoSpeechEncoder.from_pretrained("blstm-baseline")


def test_the_lesson_is_part_of_the_loss_in_training_only(teacher):
    torch.manual_seed(0)
    student = Student(list(teacher.text.tokens))
    names = set(student.state_dict())
    teach(student, "blstm-baseline", 0.25)
    assert set(student.state_dict()) == names
    speech, lengths = 0.1 * torch.randn(2, 16000), torch.tensor([16000, 12000])
    loss, stats, _ = student(speech, lengths, None, None)
    out, frames = student.encode(speech, lengths)
    with torch.no_grad():
        told = teacher(speech, lengths)
    hop = teacher.layers[-1].stride
    lesson = posterior_loss(
        student.ctc.log_softmax(out), frames, 640, told.logits.log_softmax(-1), told.hidden_lengths[-1], hop
    )
    assert float(stats["loss_teacher"]) == pytest.approx(float(lesson), rel=1e-4)
    assert float(loss) == pytest.approx(0.75 * 7 + 0.25 * float(lesson), rel=1e-4)
    loss.backward()
    assert student.out.weight.grad.abs().sum() > 0
    student.eval()
    assert float(student(speech, lengths, None, None)[0]) == pytest.approx(7.0)


@pytest.mark.parametrize("weight", [0, 1.5, -1])
def test_a_weight_out_of_range_is_refused(teacher, weight):
    with pytest.raises(ConfigError, match="hf_teacher_weight must be above 0"):
        teach(Student(list(teacher.text.tokens)), "blstm-baseline", weight)


def test_other_tokens_are_refused():
    with pytest.raises(ConfigError, match="must have the model's 2 CTC tokens"):
        teach(Student(["<blank>", "A"]), "blstm-baseline", 0.5)
