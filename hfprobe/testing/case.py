"""The checks as pytest tests, to be inherited."""

from __future__ import annotations

import pytest

from hfprobe.encoders import SpeechEncoder
from hfprobe.testing.contract import DEFAULT, Check, CheckSkipped, Reference, Settings
from hfprobe.testing.suite import CHECKS


class EncoderContract:
    """Tests of the contract; a subclass gives the encoder.

    Override the fixture ``encoder``, and ``reference`` where the model's own forward is at hand. ``seed``,
    ``lengths``, ``tolerance`` and ``longest`` are those of `Settings`.

    Example (in a test file)::

        class TestMyEncoder(EncoderContract):
            @pytest.fixture(scope="class")
            def encoder(self):
                return MyEncoder()
    """

    seed: int = DEFAULT.seed
    lengths: tuple[int, ...] = DEFAULT.lengths
    tolerance: float = DEFAULT.tolerance
    longest: float = DEFAULT.longest

    @pytest.fixture(scope="class")
    def encoder(self) -> SpeechEncoder:
        """The encoder to check; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__}: give a fixture named encoder")

    @pytest.fixture(scope="class")
    def reference(self) -> Reference | None:
        """The model's own forward, see `Settings`; None where there is none."""
        return None

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
    def test_contract(self, encoder: SpeechEncoder, reference: Reference | None, check: Check) -> None:
        """One promise of the contract.

        Args:
            encoder: From the fixture ``encoder`` of the subclass.
            reference: The model's own forward, from the fixture ``reference``; None where there is none.
            check: One of `CHECKS`.
        """
        try:
            check(encoder, Settings(reference, self.seed, self.lengths, self.tolerance, self.longest))
        except CheckSkipped as reason:
            pytest.skip(str(reason))
