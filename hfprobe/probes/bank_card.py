"""A short model card for a bank that is pushed without one; `hfprobe.reports` writes the full card with
results."""

from __future__ import annotations

from typing import Any

TEXT = """
# {name}

{capacity} probes for the layers of the speech encoder **{encoder}**, made with
[hfprobe](https://arxiv.org/abs/1911.01102): each rebuilds the mel-spectrogram from the frames of one layer
alone.

| layer | width | stride (samples) | parameters |
|---|---|---|---|
{rows}

```python
from hfprobe import AutoSpeechEncoder, ProbeBank

encoder = AutoSpeechEncoder.from_pretrained("{encoder}")
sounds = ProbeBank.from_pretrained("{repo_id}").reconstruct(encoder, waveform)   # layer name -> waveform
```

Mel settings: {mel}.

Training: {training}.

Environment: {environment}.
"""


def default_card(bank: Any, repo_id: str) -> str:
    """Model card from the facts that a bank holds.

    Args:
        bank: A `ProbeBank`.
        repo_id: Repository that it goes to.

    Returns:
        Markdown with a metadata block.
    """
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        library_name="hfprobe",
        tags=["hfprobe", "speech", "probing", "interpretability"],
        license="apache-2.0",
    )
    rows = "\n".join(
        f"| {name} | {probe.config.input_dim} | {probe.config.stride} | {probe.num_parameters():,} |"
        for name, probe in bank.items()
    )

    def listed(facts: dict) -> str:
        return ", ".join(f"{key} {value}" for key, value in facts.items()) or "not recorded"

    text = TEXT.format(
        name=repo_id.rsplit("/", 1)[-1],
        capacity=bank.capacity.capitalize(),
        encoder=bank.encoder or "not recorded",
        repo_id=repo_id,
        rows=rows,
        mel=listed(bank.mel_config.to_dict()),
        training=listed(bank.training),
        environment=listed(bank.environment),
    )
    return f"---\n{data.to_yaml()}\n---\n{text}"
