"""ThinResNet-34 with GhostVLAD: who speaks, as 512 numbers.

Source: Xie, Nagrani, Chung and Zisserman, "Utterance-level aggregation for speaker recognition in the wild" (ICASSP
2019, arXiv 1902.10107); network and preprocessing as in WeidiXie/VGG-Speaker-Recognition (Keras, CC BY 4.0). GhostVLAD:
Zhong, Arandjelovic and Zisserman (2018, arXiv 1810.09951). A test compares every stage with the original's outputs.

Shape letters: B clips, S samples, T frames of 10 ms, N frames after the trunk (T / 16), C channels.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from hfprobe.speakers.whole import WholeClipEncoder

N_FFT = 512
WINDOW = 400  # samples: 25 ms
HOP = 160  # samples: 10 ms
WIDTH = 512
CLUSTERS = 8
GHOSTS = 2  # clusters that take up what is not speech, and are thrown away
NORM_EPSILON = 1e-3  # Keras' BatchNormalization
# Blocks of each stage: name, widths of the three convolutions, stride of the first block.
STAGES = (
    (("conv2_a", "conv2_b"), (48, 48, 96), 1),
    (("conv3_a", "conv3_b", "conv3_c"), (96, 96, 128), 2),
    (("conv4_a", "conv4_b", "conv4_c"), (128, 128, 256), 2),
    (("conv5_a", "conv5_b", "conv5_c"), (256, 256, 512), 2),
)


def spectrogram(waveforms: torch.Tensor) -> torch.Tensor:
    """The network's input: linear magnitudes of the clip followed by itself backwards, each frame normalised.

    Args:
        waveforms: Clips `(B, S)` at 16,000 Hz, at least 129 samples long.

    Returns:
        Magnitudes `(B, 257, T)` with `T = 1 + 2 S // 160`; every frame has mean 0 and standard deviation 1 over
        frequency (the original's comment says "time-wise", its code does this).

    Example:
        >>> spectrogram(torch.rand(1, 16000)).shape
        torch.Size([1, 257, 201])
    """
    extended = torch.cat([waveforms, waveforms.flip(1)], dim=1)
    window = torch.hann_window(WINDOW, device=waveforms.device, dtype=waveforms.dtype)
    spectrum = torch.stft(
        extended, N_FFT, HOP, WINDOW, window, center=True, pad_mode="reflect", return_complex=True
    )  # fmt: skip
    magnitude = spectrum.abs()
    mean = magnitude.mean(dim=1, keepdim=True)
    deviation = magnitude.std(dim=1, keepdim=True, correction=0)
    return (magnitude - mean) / (deviation + 1e-5)


class _Convolution(nn.Module):
    """Convolution without bias, padded to keep its size, and batch normalisation."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(n_out, eps=NORM_EPSILON)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))


class _Block(nn.Module):
    """Residual bottleneck; the stride is in its first convolution of width 1."""

    def __init__(self, n_in: int, widths: tuple[int, int, int], stride: int, project: bool):
        super().__init__()
        self.reduce = _Convolution(n_in, widths[0], 1, stride)
        self.middle = _Convolution(widths[0], widths[1], 3)
        self.increase = _Convolution(widths[1], widths[2], 1)
        self.project = _Convolution(n_in, widths[2], 1, stride) if project else nn.Identity()
        self.relu1, self.relu2, self.relu3 = (nn.ReLU(inplace=True) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.increase(self.relu2(self.middle(self.relu1(self.reduce(x)))))
        return self.relu3(inner.add_(self.project(x)))


class GhostVLAD(nn.Module):
    """Soft assignment of frames to clusters, and the sum of their distances from each cluster's centre."""

    def __init__(self):
        super().__init__()
        self.centers = nn.Parameter(torch.empty(CLUSTERS + GHOSTS, WIDTH))
        nn.init.orthogonal_(self.centers)

    def forward(self, features: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Pool over time.

        Args:
            features: `(B, 512, N)`.
            scores: Logits of the clusters, ghosts last `(B, 10, N)`.

        Returns:
            `(B, 8 * 512)`: each cluster's part has length 1.
        """
        shares = scores.softmax(dim=1)
        # Sum over frames of share * (feature - centre), without the array (B, 10, N, 512).
        sums = shares @ features.transpose(1, 2) - shares.sum(dim=2, keepdim=True) * self.centers
        # TensorFlow's l2_normalize bounds the square by 1e-12.
        return functional.normalize(sums[:, :CLUSTERS], dim=2, eps=1e-6).flatten(1)


class ThinResNet(WholeClipEncoder):
    """ThinResNet-34 + GhostVLAD (8 clusters, 2 ghosts, 512 dimensions): 7,664,394 trainable parameters.

    No voice activity detection: the original has none. Embeddings are non-negative, of length 1; the score is their
    scalar product.

    Example:
        >>> encoder = ThinResNet().eval()
        >>> sum(parameter.numel() for parameter in encoder.parameters())
        7664394
        >>> encoder.embed(torch.rand(1, 4000)).shape
        torch.Size([1, 512])
    """

    name = "thinresnet"
    dim = WIDTH

    def __init__(self):
        super().__init__(min_samples=WINDOW)
        self.first = _Convolution(1, 64, 7)
        self.relu = nn.ReLU(inplace=True)
        self.pool1 = nn.MaxPool2d(2, 2)
        blocks, n_in = {}, 64
        for names, widths, stride in STAGES:
            for index, name in enumerate(names):
                blocks[name] = _Block(n_in, widths, stride if index == 0 else 1, project=index == 0)
                n_in = widths[-1]
        self.blocks = nn.ModuleDict(blocks)
        self.pool2 = nn.MaxPool2d((3, 1), (2, 1))
        self.features = nn.Conv2d(n_in, WIDTH, (7, 1))
        self.assignment = nn.Conv2d(n_in, CLUSTERS + GHOSTS, (7, 1))
        self.vlad = GhostVLAD()
        self.bottleneck = nn.Linear(CLUSTERS * WIDTH, WIDTH)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Embed clips `(B, S)` of one length: `(B, 512)`, not yet of length 1."""
        return self.embed_spectrogram(spectrogram(waveforms))

    def embed_spectrogram(self, spectra: torch.Tensor) -> torch.Tensor:
        """Embed what `spectrogram` gives.

        Args:
            spectra: `(B, 257, T)`.

        Returns:
            Embeddings `(B, 512)`, non-negative, before they are brought to length 1.
        """
        x = self.pool1(self.relu(self.first(spectra.unsqueeze(1))))
        for block in self.blocks.values():
            x = block(x)
        x = self.pool2(x)
        features = self.features(x).relu()
        pooled = self.vlad(features.squeeze(2), self.assignment(x).squeeze(2))
        return self.bottleneck(pooled).relu()
