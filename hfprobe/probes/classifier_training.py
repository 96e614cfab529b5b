"""Training of all classifiers at once: every layer's, and their controls', by one optimiser that keeps them apart.

Each step draws points, and every head (one per layer for the task, one for its control task) takes a step on them.
Heads share no weight, so the gradient of the summed loss is each head's own. Each head keeps the weights with which
its loss on a development part was the least, since a shallow layer and a deep one do not overfit at the same step.
The loop is Accelerate's; under ``accelerate launch`` every process has points of its own, and each step is that of one
process with all of them: what is drawn are places in the order of all, and each process computes with those it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from hfprobe.errors import ConfigError, DatasetError
from hfprobe.probes.classifier import ClassifierProbe
from hfprobe.probes.classifier_config import ClassifierProbeConfig, ClassifierTrainingConfig
from hfprobe.probes.classifier_items import Items
from hfprobe.probes.normalisation import INPUT_STD_FLOOR, Moments
from hfprobe.probes.probe_set import WIDE, derived_seed, require_finite

if TYPE_CHECKING:
    from accelerate import Accelerator

WARMUP = 0.05
EVAL_POINTS = 4096
COPIES = 5  # of each weight: itself, gradient, two moments of Adam, the best so far
# Shares of the data after which the online code learns anew (Voita and Titov 2020, section 3.2).
MDL_SHARES = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Head:
    """What one classifier reads: a layer of an encoder, under the key that `Items` has it by."""

    key: str
    dim: int
    layer: str
    encoder: str = ""
    fingerprint: str = ""


@dataclass
class Trained:
    """Classifiers by key: of the task, and of the control task."""

    probes: dict[str, ClassifierProbe]
    controls: dict[str, ClassifierProbe] = field(default_factory=dict)


def check_memory(heads: Sequence[Head], classes: int, config: ClassifierTrainingConfig, memory: float) -> None:
    """Refuse more classes than fit.

    Raises:
        ConfigError: Weights, gradients and moments of all heads take more than ``memory`` bytes.
    """
    hidden = config.hidden_dim
    weights = sum(h.dim * hidden + hidden * classes if hidden else h.dim * classes for h in heads)
    need = 2 * COPIES * 4 * weights
    if need > memory:
        raise ConfigError(
            f"classifiers of {len(heads)} layers for {classes} classes need {need / 2**20:.0f} MiB, the limit is "
            f"{memory / 2**20:.0f} MiB; choose fewer --layers, a smaller --limit (fewer classes), or more --memory"
        )


def gather(value: Any) -> list[Any]:
    """This value of all processes, in the order of their ranks."""
    from accelerate import PartialState
    from accelerate.utils import gather_object

    return gather_object([value]) if PartialState._shared_state and PartialState().num_processes > 1 else [value]


def order_of_all(batches: Tensor) -> Tensor:
    """Where the points of all processes, one process after the other, stand in the order of a single one.

    Args:
        batches: `Items.batches` of this process; several processes have parts of the same batches, in order.

    Returns:
        int64 ``(points of all,)``; a permutation.

    Example:
        >>> order_of_all(torch.tensor([4, 4, 7])).tolist()
        [0, 1, 2]
    """
    joined = torch.cat(gather(batches))
    places = torch.empty_like(joined)
    places[joined.argsort(stable=True)] = torch.arange(len(joined))
    return places


def accelerator_for(device: str) -> Accelerator:
    """Accelerate's, on ``auto``, ``cpu`` or ``cuda:N``; made once, before the data is read."""
    from accelerate import Accelerator

    if device.startswith("cuda:"):
        torch.cuda.set_device(device)  # Accelerate takes the current one
    return Accelerator(cpu=device == "cpu", step_scheduler_with_optimizer=False)


class _Heads(nn.Module):
    """All heads as one module; names of layers may hold dots, which module names may not."""

    def __init__(
        self, heads: Sequence[Head], labels: Sequence[str], target: str, pooling: str, config: ClassifierTrainingConfig,
        controls: bool,
    ):  # fmt: skip
        super().__init__()
        self.keys = [(head.key, kind) for kind in ("task", "control")[: 1 + controls] for head in heads]
        self.probes = nn.ModuleList()
        for key, kind in self.keys:
            head = next(head for head in heads if head.key == key)
            settings = ClassifierProbeConfig(
                head.dim, labels, head.layer, target, pooling, config.hidden_dim, head.encoder, head.fingerprint
            )
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derived_seed(config.seed, key, kind, "weights"))
                self.probes.append(ClassifierProbe(settings).train())

    @property
    def each(self) -> Iterable[ClassifierProbe]:
        """The classifiers, in the order of `keys`; `probes` holds the same ones as plain modules."""
        return cast("Iterable[ClassifierProbe]", self.probes)

    def forward(self, features: dict[str, Tensor], labels: dict[str, Tensor], count: float | None = None) -> Tensor:
        """Mean cross-entropy of each head ``(heads,)``; the sum over ``count`` where that is given."""
        return torch.stack(
            [
                nn.functional.cross_entropy(probe.classify(features[key]), labels[kind])
                if count is None
                else nn.functional.cross_entropy(probe.classify(features[key]), labels[kind], reduction="sum") / count
                for (key, kind), probe in zip(self.keys, self.each, strict=True)
            ]
        )


def train_classifiers(
    items: Items, controls: Tensor | None, heads: Sequence[Head], labels: Sequence[str], target: str, pooling: str,
    config: ClassifierTrainingConfig, progress: Callable[[Any], Any] = iter, accelerator: Any = None,
) -> Trained:  # fmt: skip
    """Train one classifier per head, and one per control.

    Args:
        items: Training points of this process.
        controls: Labels of the control task ``(points,)``, or None for none.
        heads: What to classify from.
        labels: Names of the classes.
        target: What is classified, for the record.
        pooling: ``"frame"`` or ``"utterance"``, for the record.
        config: Settings.
        progress: Wraps the steps, e.g. ``tqdm``.
        accelerator: Of `accelerator_for`; made if None.

    Raises:
        ConfigError: The training diverges.
        DatasetError: There is nothing to learn from.
    """
    accelerator = accelerator or accelerator_for(config.device)
    device = accelerator.device
    learn, dev = _split_dev(items, config)
    if not sum(gather(len(learn))):
        raise DatasetError("no training point is left; use more data")
    model = _Heads(heads, labels, target, pooling, config, controls is not None)
    _normalise(model, items, accelerator)
    optimizer = torch.optim.AdamW(_groups(model, config), lr=config.learning_rate, fused=True)
    prepared, optimizer = accelerator.prepare(model, optimizer)
    answers = {"task": items.labels} | ({} if controls is None else {"control": controls})
    has_dev = sum(gather(len(dev))) > 0
    best = [float("inf")] * len(model.keys)
    kept: list[dict[str, Tensor]] = [{} for _ in model.keys]
    batches, size = _batches(items, learn, config, accelerator.process_index)
    world = accelerator.num_processes
    for step in progress(range(config.steps)):
        chosen = next(batches)
        rate = _rate(step, config)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        features = {head.key: items.features[head.key][chosen].to(device) for head in heads}
        labels_of = {kind: values[chosen].to(device) for kind, values in answers.items()}
        # DDP takes the mean of the processes' gradients: each divides by its part of the points of all.
        losses = prepared(features, labels_of, size / world) if world > 1 else prepared(features, labels_of)
        accelerator.backward(losses.sum())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        last = step + 1 == config.steps
        if last or (step + 1) % config.eval_steps == 0:
            means = accelerator.reduce(losses.detach(), reduction="mean").tolist()
            named = {f"{key} ({kind})": value for (key, kind), value in zip(model.keys, means, strict=True)}
            require_finite(named, step + 1)
            if not has_dev:
                continue
            for place, value in enumerate(_dev_losses(model, items, dev, answers, heads, accelerator)):
                if value < best[place]:
                    best[place] = value
                    state = model.probes[place].state_dict()
                    kept[place] = {name: tensor.detach().clone() for name, tensor in state.items()}
    probes: dict[str, dict[str, ClassifierProbe]] = {"task": {}, "control": {}}
    for (key, kind), probe, state in zip(model.keys, model.each, kept, strict=True):
        if state:
            probe.load_state_dict(state)
        probes[kind][key] = probe.eval()
    return Trained(probes["task"], probes["control"])


def _split_dev(items: Items, config: ClassifierTrainingConfig) -> tuple[Tensor, Tensor]:
    """Indices to learn from and to measure on, disjoint by unit; no development part where it would be empty."""
    kinds = torch.unique(torch.cat(gather(torch.unique(items.units))))
    generator = torch.Generator().manual_seed(derived_seed(config.seed, "dev"))
    drawn = kinds[torch.randperm(len(kinds), generator=generator)[: int(config.dev_share * len(kinds))]]
    held = torch.isin(items.units, drawn)
    return (~held).nonzero().flatten(), held.nonzero().flatten()


def _normalise(model: _Heads, items: Items, accelerator: Accelerator) -> None:
    """Fill the buffers of all heads from the training points of all processes."""
    statistics: dict[str, tuple[Tensor, Tensor]] = {}
    for (key, _), probe in zip(model.keys, model.each, strict=True):
        if key not in statistics:
            moments = Moments(probe.config.input_dim, "cpu")
            for rows in items.features[key].split(EVAL_POINTS):
                moments.add(rows)
            moments.totals = accelerator.reduce(moments.totals.to(accelerator.device), reduction="sum")
            deviation = moments.std()
            least = (INPUT_STD_FLOOR * deviation.square().mean().sqrt()).clamp(min=1e-6)
            statistics[key] = (moments.mean().cpu(), deviation.clamp(min=least).cpu())
        with torch.no_grad():
            probe.input_mean.copy_(statistics[key][0])
            probe.input_std.copy_(statistics[key][1])


def _groups(model: _Heads, config: ClassifierTrainingConfig) -> list[dict[str, Any]]:
    """No decay of biases, a lower rate for wide inputs (see `ProbeSet.parameter_groups`)."""
    groups = []
    for probe in model.each:
        share = min(1.0, (WIDE / probe.config.input_dim) ** 0.5)
        for decay, dims in ((config.weight_decay, 2), (0.0, 1)):
            found = [value for value in probe.parameters() if value.dim() == dims]
            groups.append({"params": found, "weight_decay": decay, "share": share})
    return groups


def _rate(step: int, config: ClassifierTrainingConfig) -> float:
    """Linear warm-up, then a cosine down to nothing."""
    part = (step + 1) / config.steps
    warm = min(1.0, part / WARMUP)
    return config.learning_rate * warm * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / config.steps)).item())


def _batches(items: Items, learn: Tensor, config: ClassifierTrainingConfig, rank: int) -> tuple[Iterator[Tensor], int]:
    """Endless batches of this process's indices, every point once before any comes again; points of all in each."""
    places = order_of_all(items.batches[learn]).split(gather(len(learn)))[rank]
    total = sum(gather(len(learn)))
    # Index of this process at every place of the order of all; -1 where another process has the point.
    owned = torch.full((total,), -1)
    owned[places] = learn
    size = min(config.batch_size, total)
    generator = torch.Generator().manual_seed(derived_seed(config.seed, "batches", 0))

    def drawn() -> Iterator[Tensor]:
        waiting = owned[:0]
        while True:
            while len(waiting) < size:
                waiting = torch.cat([waiting, owned[torch.randperm(total, generator=generator)]])
            chosen = waiting[:size]
            yield chosen[chosen >= 0]
            waiting = waiting[size:]

    return drawn(), size


@torch.no_grad()
def _dev_losses(
    model: _Heads, items: Items, dev: Tensor, answers: Mapping[str, Tensor], heads: Sequence[Head],
    accelerator: Accelerator,
) -> list[float]:  # fmt: skip
    totals = torch.zeros(len(model.keys) + 1, dtype=torch.float64, device=accelerator.device)
    for part in dev.split(EVAL_POINTS):
        features = {head.key: items.features[head.key][part].to(accelerator.device) for head in heads}
        losses = model(features, {kind: values[part].to(accelerator.device) for kind, values in answers.items()})
        totals[:-1] += losses.double() * len(part)
        totals[-1] += len(part)
    totals = accelerator.reduce(totals, reduction="sum")
    return (totals[:-1] / totals[-1]).tolist()


@torch.no_grad()
def log_probabilities(probe: ClassifierProbe, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each point is classified rightly, and the log-probability (nats) of its label, each ``(points,)``."""
    right, logs = [], []
    for rows, answers in zip(features.split(EVAL_POINTS), labels.split(EVAL_POINTS), strict=True):
        scores = probe.classify(rows.to(probe.device)).log_softmax(dim=-1).cpu()
        right.append(scores.argmax(dim=-1) == answers)
        logs.append(scores.gather(1, answers[:, None]).squeeze(1).double())
    return torch.cat(right), torch.cat(logs)


def online_code(
    items: Items, heads: Sequence[Head], labels: Sequence[str], target: str, pooling: str,
    config: ClassifierTrainingConfig, progress: Callable[[Any], Any] = iter,
) -> tuple[dict[str, Tensor], Tensor]:  # fmt: skip
    """Minimum description length of the labels by the online code (Voita and Titov, EMNLP 2020, equation 3).

    The labels are sent block by block, each with the probability that a classifier of all earlier blocks gives them;
    the first block costs ``log2 K`` each. Blocks end between units (e.g. utterances), whose order is drawn by the seed.

    Args:
        items: Training points.
        heads: As in `train_classifiers`.
        labels: Names of the K classes.
        target: What is classified.
        pooling: ``"frame"`` or ``"utterance"``.
        config: Settings of each of the up to ten trainings.
        progress: Wraps the list of blocks.

    Returns:
        Layer key to bits of each label ``(points,)``, in the order of the returned indices into ``items``.
    """
    kinds = torch.unique(items.units)
    generator = torch.Generator().manual_seed(derived_seed(config.seed, "code"))
    rank = torch.randperm(len(kinds), generator=generator)[torch.searchsorted(kinds, items.units)]
    order = rank.argsort(stable=True)
    ends = rank[order]
    borders = [int((ends < max(1, round(share * len(kinds)))).sum()) for share in MDL_SHARES]
    borders = sorted({border for border in borders if border >= len(labels) or border == len(items)})
    first = torch.full((borders[0],), torch.tensor(float(len(labels))).log2().item(), dtype=torch.float64)
    bits = {head.key: [first] for head in heads}
    for start, end in progress(list(zip(borders, borders[1:], strict=False))):
        known, block = items.take(order[:start]), order[start:end]
        trained = train_classifiers(known, None, heads, labels, target, pooling, config)
        for head in heads:
            _, logs = log_probabilities(trained.probes[head.key], items.features[head.key][block], items.labels[block])
            bits[head.key].append(-logs / torch.tensor(2.0, dtype=torch.float64).log())
    return {key: torch.cat(parts) for key, parts in bits.items()}, order
