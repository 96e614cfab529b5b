"""All checks in a row, with a report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hfprobe.encoders import SpeechEncoder
from hfprobe.testing.choice import check_layer_choice, check_memory
from hfprobe.testing.contract import DEFAULT, Check, CheckSkipped, ContractError, Reference, Settings
from hfprobe.testing.devices import check_bfloat16, check_cuda
from hfprobe.testing.gradients import check_backward
from hfprobe.testing.hygiene import check_hooks, check_nothing_edited
from hfprobe.testing.time_axis import check_time_axis
from hfprobe.testing.values import (
    check_batch,
    check_declaration,
    check_determinism,
    check_lengths,
    check_reference,
    check_refusals,
    check_shapes,
    check_train_mode,
)

CHECKS: tuple[Check, ...] = (
    check_declaration,
    check_shapes,
    check_reference,
    check_batch,
    check_determinism,
    check_train_mode,
    check_lengths,
    check_refusals,
    check_time_axis,
    check_backward,
    check_hooks,
    check_nothing_edited,
    check_layer_choice,
    check_memory,
    check_bfloat16,
    check_cuda,
)


Status = Literal["passed", "failed", "error", "skipped"]


@dataclass(frozen=True)
class Result:
    """Outcome of one check.

    Args:
        name: Of the check's function.
        status: What came out; an ``error`` is an exception that the encoder raised.
        message: Why it failed or was skipped; empty where it passed.
        seconds: How long it took.
    """

    name: str
    status: Status
    message: str
    seconds: float


@dataclass(frozen=True)
class Report:
    """Outcome of all checks; prints as a table.

    Args:
        encoder: Name of the encoder.
        results: One per check, in the order of `CHECKS`.
    """

    encoder: str
    results: tuple[Result, ...]

    @property
    def failures(self) -> tuple[Result, ...]:
        """Checks that failed."""
        return tuple(result for result in self.results if result.status in ("failed", "error"))

    @property
    def passed(self) -> bool:
        """Whether no check failed; skipped ones do not count."""
        return not self.failures

    def raise_for_failures(self) -> None:
        """Fail with all messages.

        Raises:
            ContractError: If a check failed.
        """
        if self.failures:
            lines = "\n".join(f"  {result.name}: {result.message}" for result in self.failures)
            raise ContractError(f"encoder {self.encoder} breaks {len(self.failures)} of its promises:\n{lines}")

    def __str__(self) -> str:
        width = max(len(result.name) for result in self.results)
        lines = [f"{r.name:{width}}  {r.status:7} {r.seconds:6.1f} s  {r.message}".rstrip() for r in self.results]
        return "\n".join([f"encoder {self.encoder}", *lines])


def check_encoder(
    encoder: SpeechEncoder,
    reference: Reference | None = None,
    seed: int = DEFAULT.seed,
    lengths: Sequence[int] = DEFAULT.lengths,
    tolerance: float = DEFAULT.tolerance,
    longest: float = DEFAULT.longest,
    raise_on_failure: bool = True,
) -> Report:
    """Check everything that an encoder promises.

    The encoder is left as it came: modes, buffers and gradients are put back.

    Args:
        encoder: The encoder.
        reference: The model's own forward, from one ``(samples,)`` waveform to one ``(frames, dim)`` tensor per
            layer.
        seed: Of the test sounds.
        lengths: Samples of the utterances of a batch.
        tolerance: Largest difference between two computations, relative to the layer's peak.
        longest: Seconds of the longest utterance.
        raise_on_failure: Whether to raise at the end if a check failed; the report says so in any case.

    Returns:
        What each check found.

    Raises:
        ContractError: If a check failed, with the messages of all that did.

    Example:
        >>> from hfprobe.encoders import AutoSpeechEncoder
        >>> encoder = AutoSpeechEncoder.from_pretrained("blstm-robust")
        >>> check_encoder(encoder, lengths=(8000, 800), longest=1.0).passed
        True
    """
    settings = Settings(reference, seed, tuple(lengths), tolerance, longest)
    results = []
    for check in CHECKS:
        start = time.perf_counter()
        status: Status = "passed"
        message = ""
        try:
            check(encoder, settings)
        except CheckSkipped as reason:
            status, message = "skipped", str(reason)
        except ContractError as error:
            status, message = "failed", str(error)
        except Exception as error:  # a check must not end the others, and the exception's type is said
            status, message = "error", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        results.append(Result(check.__name__, status, message, time.perf_counter() - start))
    report = Report(encoder.name, tuple(results))
    if raise_on_failure:
        report.raise_for_failures()
    return report
