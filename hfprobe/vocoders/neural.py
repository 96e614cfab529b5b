"""Neural vocoders: HiFi-GAN as transformers and SpeechBrain have it.

Kong, Kim and Bae, "HiFi-GAN: generative adversarial networks for efficient and high fidelity speech synthesis", 2020.
Such a network only understands the mel-spectrogram that it was trained on (64 ms windows every 16 ms here, while probes
rebuild 25 ms windows every 10 ms). So Griffin-Lim goes first; the network's own mel is taken from that sound and made
into sound anew. This works for any mel settings, and the ceiling goes the same way as every layer.
"""

from __future__ import annotations

from pathlib import Path

import torch

from hfprobe.audio import MelConfig
from hfprobe.errors import EncoderError
from hfprobe.hub.pickled import read_pickled
from hfprobe.plain import reason, short
from hfprobe.speakers.fetch import model_folder
from hfprobe.speakers.speechbrain_settings import read_settings
from hfprobe.vocoders.base import GriffinLim

RATE, WINDOW, HOP = 16000, 1024, 256
# Published settings of speechbrain/tts-hifigan-libritts-16kHz, where a folder says nothing else.
GENERATOR = {
    "in_channels": 80,
    "out_channels": 1,
    "resblock_type": "1",
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    "resblock_kernel_sizes": [3, 7, 11],
    "upsample_kernel_sizes": [16, 16, 4, 4],
    "upsample_initial_channel": 512,
    "upsample_factors": [8, 8, 2, 2],
    "inference_padding": 5,
    "cond_channels": 0,
    "conv_post_bias": True,
}


def _alike(value: object, model: object) -> bool:
    """Of one type, lists down to their entries (bool is no int), and of a size that a network can have."""
    if isinstance(value, list) and isinstance(model, list):
        return bool(value) and all(_alike(item, model[0]) for item in value)
    return type(value) is type(model) and (type(value) is not int or 0 <= value <= 4096)


class _SecondPass(torch.nn.Module):
    """Griffin-Lim, then a network that says it again."""

    name = ""

    def __init__(self, n_iter: int, device: str, f_min: float, f_max: float):
        from torchaudio.transforms import MelSpectrogram

        super().__init__()
        self.first, self.device = GriffinLim(n_iter), torch.device(device)
        self.amplitudes = MelSpectrogram(
            RATE, WINDOW, WINDOW, HOP, f_min, f_max, n_mels=80, power=1.0, norm="slaney", mel_scale="slaney"
        )

    @torch.inference_mode()
    def __call__(self, mel: torch.Tensor, config: MelConfig, lengths: torch.Tensor, seed: int = 0) -> torch.Tensor:
        """Sound of mel-spectrograms; see `Vocoder`."""
        if config.sampling_rate != RATE:
            raise EncoderError(f"{self.name} speaks at {RATE} Hz, the probes' mel is of {config.sampling_rate} Hz")
        rough = self.first(mel, config, lengths, seed)
        sound = torch.zeros_like(rough)
        # Zeros behind a short item would reach into its last frames, so each length goes through by itself.
        for length in sorted(set(lengths.tolist())):
            rows = (lengths == length).nonzero()[:, 0].to(rough.device)
            # The transform reflects half a window at both ends, so it needs more than that.
            clip = torch.nn.functional.pad(rough[rows, :length], (0, max(0, WINDOW // 2 + 1 - length)))
            spoken = self.speak(self.amplitudes(clip.to(self.device)))
            sound[rows, :length] = spoken[:, :length].to(sound)
        return sound

    def speak(self, amplitudes: torch.Tensor) -> torch.Tensor:
        """Waveforms ``(batch, frames * 256)`` of mel amplitudes ``(batch, 80, frames)``."""
        raise NotImplementedError


class SpeechT5Vocoder(_SecondPass):
    """transformers' `SpeechT5HifiGan`.

    Args:
        source: Folder or Hub repository; ``microsoft/speecht5_hifigan`` if None.
        n_iter: Iterations of the Griffin-Lim before it.
        device: Where to run.

    Raises:
        EncoderError: There is no such model, it is not a 16 kHz one of 80 bands and 16 ms, or its weights are not
            safetensors.
    """

    name = "hifigan"

    def __init__(self, source: str | None = None, n_iter: int = 32, device: str = "cpu"):
        from safetensors import SafetensorError
        from transformers import SpeechT5HifiGan

        super().__init__(n_iter, device, f_min=80.0, f_max=7600.0)
        folder = model_folder(source or "microsoft/speecht5_hifigan", ["config.json", "*.safetensors"])
        try:
            self.network = SpeechT5HifiGan.from_pretrained(folder, use_safetensors=True)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise EncoderError(f"expected a SpeechT5HifiGan in safetensors in {folder}: {reason}") from error
        config = self.network.config
        hop = 1
        for rate in config.upsample_rates:
            hop *= rate
        if (config.sampling_rate, config.model_in_dim, hop) != (RATE, 80, HOP):
            raise EncoderError(
                f"expected a vocoder of {RATE} Hz, 80 mel bands and {HOP} samples a frame, got {config.sampling_rate}, "
                f"{config.model_in_dim} and {hop}; choose another one"
            )
        self.to(self.device).eval()

    def speak(self, amplitudes: torch.Tensor) -> torch.Tensor:
        """See `_SecondPass`; the network reads decimal logarithms, as `SpeechT5FeatureExtractor` makes them."""
        return self.network(amplitudes.transpose(1, 2).clamp(min=1e-10).log10())


class SpeechBrainHifiGan(_SecondPass):
    """SpeechBrain's HiFi-GAN of 16 kHz.

    ``hyperparams.yaml`` is read as plain data, nothing in it is called, and ``generator.ckpt`` as tensors only.

    Args:
        source: Folder or Hub repository; ``speechbrain/tts-hifigan-libritts-16kHz`` if None.
        n_iter: Iterations of the Griffin-Lim before it.
        device: Where to run.

    Raises:
        EncoderError: There is no such model, or its files do not fit together.
    """

    name = "speechbrain-hifigan"

    def __init__(self, source: str | None = None, n_iter: int = 32, device: str = "cpu"):
        from speechbrain.lobes.models.HifiGAN import HifiganGenerator

        super().__init__(n_iter, device, f_min=0.0, f_max=8000.0)
        files = ["hyperparams.yaml", "generator.ckpt"]
        folder = model_folder(source or "speechbrain/tts-hifigan-libritts-16kHz", files)
        weights = folder / files[1]
        if not weights.is_file():
            raise EncoderError(f"expected {files[1]} in {folder}, found none; give a SpeechBrain HiFi-GAN")
        given = read_settings(Path(folder))
        chosen = {name: given.get(name, value) for name, value in GENERATOR.items()}
        for name, value in chosen.items():
            if not _alike(value, GENERATOR[name]):
                raise EncoderError(f"expected {name} like {GENERATOR[name]!r} in {folder}, got {short(value)}")
        hop = 1
        for factor in chosen["upsample_factors"]:
            hop *= factor
        if (chosen["in_channels"], hop) != (80, HOP):
            raise EncoderError(
                f"expected 80 mel bands and {HOP} samples a frame in {folder}, got {chosen['in_channels']} and {hop}"
            )
        try:
            self.network = HifiganGenerator(**chosen)
            self.network.load_state_dict(read_pickled(weights, "the generator's tensors"))
        except EncoderError:
            raise
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise EncoderError(f"expected the generator's tensors in {weights}: {reason(error)}") from error
        self.network.remove_weight_norm()
        self.padding = chosen["inference_padding"] * HOP
        self.to(self.device).eval()

    def speak(self, amplitudes: torch.Tensor) -> torch.Tensor:
        """See `_SecondPass`; the network reads natural logarithms with a floor of 1e-5."""
        sound = self.network.inference(amplitudes.clamp(min=1e-5).log())[:, 0]
        # The generator is given more frames at both ends, and their sound is not part of the clip.
        return sound[:, self.padding : sound.shape[1] - self.padding]
