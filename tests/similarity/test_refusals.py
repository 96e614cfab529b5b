"""Errors instead of NaN, and warnings where there are few samples."""

import warnings

import numpy as np
import pytest
import torch

from hfprobe.errors import MeasureError
from hfprobe.similarity import (
    SimilarityWarning,
    linear_cka,
    mean_cca,
    minibatch_cka,
    pwcca,
    rbf_cka,
    rsa,
    svcca,
)

ALL = [mean_cca, svcca, pwcca, linear_cka, rbf_cka, minibatch_cka, rsa]
X = np.random.default_rng(0).standard_normal((40, 3))


def with_value(value):
    bad = X.copy()
    bad[7, 1] = value
    return bad


@pytest.mark.parametrize("measure", ALL)
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (with_value(np.nan), "nan"),
        (with_value(np.inf), "nan"),
        (X[:39], "length"),
        (X[:, 0], "shape"),
        (X[None], "shape"),
        (X[:, :0], "shape"),
        (X.astype(complex), "type"),
        ("text", "type"),
        (np.full((40, 3), 0.1), "constant"),
    ],
    ids=["nan", "inf", "length", "vector", "batch", "width", "complex", "text", "constant"],
)
def test_bad_input_is_refused_on_both_sides(measure, bad, reason):
    for sides in ((bad, X), (X, bad)):
        with pytest.raises(MeasureError) as caught:
            measure(*sides)
        # A vector of text is no matrix either; a constant sample has no distances.
        assert caught.value.reason in {reason, "shape" if reason == "type" else reason}
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("measure", ALL)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_fewer_than_four_samples_are_refused(measure, n):
    with pytest.raises(MeasureError, match="at least 4 samples"):
        measure(X[:n], X[:n])


@pytest.mark.parametrize("measure", [mean_cca, pwcca])
@pytest.mark.parametrize("compat", ["exact", "google", "pasad", "anatome"])
def test_dependent_columns_have_no_cca_unless_asked(measure, compat):
    for bad in (np.hstack([X, X[:, :1]]), np.hstack([X, np.ones((40, 1))]), np.random.default_rng(1).random((40, 40))):
        with pytest.raises(MeasureError, match="full column rank") as caught:
            measure(bad, X, compat=compat)
        assert caught.value.reason == "rank"
    twin = np.hstack([X, X[:, :1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert measure(twin, X, rank="reduce") == pytest.approx(1) and measure(twin, X, rank="reduce").directions == (
            3,
            3,
        )


def test_measures_without_inverses_take_dependent_columns():
    bad = np.hstack([X, X, np.ones((40, 1))])
    for measure in (svcca, linear_cka, rbf_cka, minibatch_cka):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert measure(bad, X) == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: pwcca(X, X, compat="matlab"), "choose from exact, google, pasad, anatome"),
        (lambda: svcca(X, X, compat="pasad"), "choose from exact, google, anatome"),
        (lambda: mean_cca(X, X, rank="ignore"), "'error' or 'reduce'"),
        (lambda: svcca(X, X, variance=0), "in \\(0, 1\\]"),
        (lambda: rbf_cka(X, X, sigma=0), "above 0"),
        (lambda: rbf_cka(np.vstack([np.repeat(X[:1], 30, 0), X[:10]]), X), "distances in X are 0"),
        (lambda: minibatch_cka(X, X, batch_size=3), "4 samples or more"),
        (lambda: minibatch_cka(X, X, ragged="pad"), "choose from drop, keep"),
        (lambda: minibatch_cka(X, X, weighting="none"), "choose from equal, google"),
        (lambda: rsa(X, X, distance="manhattan"), "choose from correlation"),
        (lambda: rsa(X, X, comparison="kendall"), "choose from spearman"),
        (lambda: rsa(X * [[1], *[[1]] * 38, [0]], X), "no correlation"),
        (lambda: rsa(X, X, max_samples=3), "4 or more"),
    ],
)
def test_options_out_of_range(call, word):
    with pytest.raises(MeasureError, match=word):
        call()


def test_tensors_on_two_devices_are_refused():
    with pytest.raises(MeasureError, match="move one of them"):
        linear_cka(torch.from_numpy(X), torch.empty(40, 3, device="meta"))


@pytest.mark.parametrize("measure", [mean_cca, svcca, pwcca, linear_cka, rbf_cka])
def test_few_samples_per_dimension_warn(measure):
    random = np.random.default_rng(2)
    few = random.standard_normal((50, 10))
    with pytest.warns(SimilarityWarning, match="below 10"):
        score = measure(few, few @ random.standard_normal((10, 10)))
    assert score.samples_per_dimension == pytest.approx(5) and "5.0 samples per dimension" in score.warning
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        enough = measure(random.standard_normal((100, 10)), random.standard_normal((100, 10)))
    assert enough.warning is None


def test_input_is_not_edited():
    before = X.copy()
    for measure in ALL:
        measure(X, X[:, ::-1])
        measure(torch.from_numpy(X), torch.from_numpy(X))
    assert np.array_equal(X, before)
