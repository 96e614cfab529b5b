"""Short model cards for what is pushed without one; `hfprobe.reports.cards` writes the full card with results."""

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


CLASSIFIER_TEXT = """
# {name}

Classifiers of **{target}** ({classes} classes, one answer per {pooling}) from the layers of the speech encoder
**{encoder}**, made with [hfprobe](https://arxiv.org/abs/1911.01102): how well each tells the classes apart says what
its layer still holds of them.

| layer | width | parameters |
|---|---|---|
{rows}

```python
from hfprobe.probes import ClassifierBank

bank = ClassifierBank.from_pretrained("{repo_id}")
```

Training: {training}.

Environment: {environment}.
"""

PROBE_TEXT = """
# {name}

One probe ({kind}) for layer **{layer}** of the speech encoder **{encoder}**, made with
[hfprobe](https://arxiv.org/abs/1911.01102).

```python
from transformers import AutoModel

import hfprobe.probes

probe = AutoModel.from_pretrained("{repo_id}")
```
"""


def _metadata() -> str:
    from huggingface_hub import ModelCardData

    tags = ["hfprobe", "speech", "probing", "interpretability"]
    return ModelCardData(library_name="hfprobe", tags=tags, license="unknown").to_yaml()


def _listed(facts: dict) -> str:
    return ", ".join(f"{key} {value}" for key, value in facts.items()) or "not recorded"


def _card(text: str, repo_id: str, **facts: Any) -> str:
    return f"---\n{_metadata()}\n---\n{text.format(name=repo_id.rsplit('/', 1)[-1], repo_id=repo_id, **facts)}"


def default_card(bank: Any, repo_id: str) -> str:
    """Model card from the facts that a bank holds.

    Args:
        bank: A `ProbeBank`.
        repo_id: Repository that it goes to.

    Returns:
        Markdown with a metadata block.
    """
    rows = "\n".join(
        f"| {name} | {probe.config.input_dim} | {probe.config.stride} | {probe.num_parameters():,} |"
        for name, probe in bank.items()
    )
    return _card(
        TEXT,
        repo_id,
        capacity=bank.capacity.capitalize(),
        encoder=bank.encoder or "not recorded",
        rows=rows,
        mel=_listed(bank.mel_config.to_dict()),
        training=_listed(bank.training),
        environment=_listed(bank.environment),
    )


def classifier_card(bank: Any, repo_id: str) -> str:
    """Model card from the facts that a `ClassifierBank` holds; arguments as of `default_card`."""
    rows = "\n".join(
        f"| {name} | {probe.config.input_dim} | {probe.num_parameters():,} |" for name, probe in bank.items()
    )
    return _card(
        CLASSIFIER_TEXT,
        repo_id,
        target=bank.target,
        classes=len(bank.labels),
        pooling=bank.pooling,
        encoder=bank.encoder or "not recorded",
        rows=rows,
        training=_listed(bank.training),
        environment=_listed(bank.environment),
    )


def probe_card(probe: Any, repo_id: str) -> str:
    """Model card from the configuration of one probe; ``repo_id`` is where it goes to."""
    config = probe.config
    return _card(
        PROBE_TEXT,
        repo_id,
        kind=config.model_type,
        layer=config.layer or "not recorded",
        encoder=getattr(config, "encoder", "") or "not recorded",
    )
