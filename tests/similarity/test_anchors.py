"""Published and computed anchors, the definitions written out a second way, and what three libraries compute."""

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from hfprobe.similarity import linear_cka, mean_cca, minibatch_cka, pwcca, rbf_cka, rsa, svcca


def kornblith():
    """Data of Kornblith's notebook."""
    random = np.random.RandomState(1337)
    x = random.randn(100, 10)
    return x, random.randn(100, 10) + x


def anisotropic():
    """The pair (P) of the project's definitions."""
    random, n = np.random.RandomState(0), 2000
    z = random.randn(n, 6)
    a = np.hstack([z, random.randn(n, 14)]) * np.logspace(0, -2, 20)
    a = a @ random.randn(20, 20)
    return a, np.hstack([z + 0.3 * random.randn(n, 6), random.randn(n, 24)]) @ random.randn(30, 30)


K, P = kornblith(), anisotropic()
CENTRED = tuple(side - side.mean(axis=0) for side in P)


def test_the_data_are_those_of_the_definitions():
    assert P[0].sum() == pytest.approx(469.991790, abs=1e-6)
    assert P[1].sum() == pytest.approx(-1788.720969, abs=1e-6)


@pytest.mark.parametrize(
    ("value", "published"),
    [
        (linear_cka(*K), 0.55761),
        (linear_cka(*K, debiased=True), 0.51346),
        (rbf_cka(*K, sigma=0.5), 0.65483),
        (minibatch_cka(*K, batch_size=50), 0.53084),
        (minibatch_cka(*K, batch_size=25), 0.51327),
        (minibatch_cka(*K, batch_size=100), 0.51346),
        (mean_cca(*K), 0.731014),
        (mean_cca(*K, compat="google"), 0.731014),
    ],
)
def test_kornblith_notebook(value, published):
    assert value == pytest.approx(published, abs=6e-6)
    assert value.n == 100 and value.dims == (10, 10)


def test_mean_squared_cca():
    assert np.mean(mean_cca(*K).correlations ** 2) == pytest.approx(0.5454, abs=5e-5)


@pytest.mark.parametrize(
    ("sides", "compat", "anchor", "digits"),
    [
        (P, "exact", 0.7529, 5e-5),
        (P[::-1], "exact", 0.7529, 5e-5),
        ((P[0] + 5, P[1] + 5), "exact", 0.7529, 5e-5),
        (CENTRED, "google", 0.821350, 1e-6),
        (CENTRED, "pasad", 0.752914, 1e-6),
        (P, "anatome", 0.2902, 5e-5),
        ((P[0] + 5, P[1] + 5), "anatome", 0.3076, 5e-5),
    ],
)
def test_pwcca_anchors(sides, compat, anchor, digits):
    score = pwcca(*sides, compat=compat)
    assert score == pytest.approx(anchor, abs=digits) and score.compat == compat


def test_pwcca_reports_both_sides_and_the_tie_rules():
    narrow = P[0], P[1][:, :20]
    score = pwcca(*narrow)
    assert (score.left, score.right) == (pytest.approx(0.5976, abs=5e-5), pytest.approx(0.2753, abs=5e-5))
    assert score == score.left  # equal widths: the first view
    assert pwcca(*(side - side.mean(0) for side in narrow), compat="pasad") == pytest.approx(0.2753, abs=5e-5)


@pytest.mark.parametrize(
    ("sides", "compat", "kept", "anchor"),
    [(P, "exact", (8, 24), 0.6448), (CENTRED, "anatome", (15, 26), 0.4121)],
)
def test_svcca_anchors(sides, compat, kept, anchor):
    score = svcca(*sides, compat=compat)
    assert score == pytest.approx(anchor, abs=5e-5) and score.directions == kept


# The definitions, written out another way.


def correlations_by_eigenvalues(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    left, right = scipy.linalg.solve(x.T @ x, x.T @ y), scipy.linalg.solve(y.T @ y, y.T @ x)
    found = np.sort(np.linalg.eigvals(left @ right).real)[::-1][: min(x.shape[1], y.shape[1])]
    return np.sqrt(np.clip(found, 0, 1))


def u_centred(kernel):
    n, k = len(kernel), kernel - np.diag(np.diag(kernel))
    rows = k.sum(1)
    k = k - (rows[:, None] + rows) / (n - 2) + rows.sum() / ((n - 1) * (n - 2))
    return k - np.diag(np.diag(k))


def aligned(k, h):
    return (k * h).sum() / np.sqrt((k * k).sum() * (h * h).sum())


def gaussian_kernel(x, sigma):
    squares = ((x[:, None] - x) ** 2).sum(-1)
    return np.exp(-squares / (2 * sigma**2 * np.median(squares)))


def test_correlations_equal_the_eigenvalue_form():
    for x, y in (K, P, (P[0][:, :5] @ np.diag([1, 1e3, 1e-3, 1, 1]) - 1e3, P[1])):
        score = mean_cca(x, y)
        np.testing.assert_allclose(score.correlations, correlations_by_eigenvalues(x, y), atol=1e-7)
        assert score == pytest.approx(score.correlations.mean(), abs=1e-12)


def test_pwcca_equals_explicit_variates():
    x, y = CENTRED
    basis_x, basis_y = scipy.linalg.orth(x), scipy.linalg.orth(y)
    u, rho, _ = scipy.linalg.svd(basis_x.T @ basis_y, full_matrices=False)
    alpha = np.abs((basis_x @ u).T @ x).sum(axis=1)
    assert pwcca(*P) == pytest.approx((alpha * rho).sum() / alpha.sum(), abs=1e-9)


def test_cka_equals_the_kernel_forms():
    for x, y in (K, (K[0][:30], np.random.default_rng(0).standard_normal((30, 70)))):
        n = len(x)
        centre = np.eye(n) - 1 / n
        for debiased, change in ((False, lambda k, c=centre: c @ k @ c), (True, u_centred)):
            linear = aligned(change(x @ x.T), change(y @ y.T))
            assert linear_cka(x, y, debiased=debiased) == pytest.approx(linear, abs=1e-12)
            gaussian = aligned(change(gaussian_kernel(x, 0.7)), change(gaussian_kernel(y, 0.7)))
            assert rbf_cka(x, y, 0.7, debiased=debiased) == pytest.approx(gaussian, abs=1e-12)


def test_rbf_cka_in_blocks_is_the_same(monkeypatch):
    whole = rbf_cka(*K), rbf_cka(*K, debiased=True)
    monkeypatch.setattr("hfprobe.similarity.kernels.BLOCK_CELLS", 700)
    parts = rbf_cka(*K), rbf_cka(*K, debiased=True)
    assert parts == pytest.approx(whole, abs=1e-12) and parts[0].null == pytest.approx(whole[0].null, abs=1e-12)


def test_minibatches_weigh_and_drop_as_said():
    x, y = K
    parts = [(x[i : i + 40], y[i : i + 40]) for i in (0, 40, 80)]
    products = [
        [(u_centred(a @ a.T) * u_centred(b @ b.T)).sum() for a, b in ((p, q), (p, p), (q, q))] for p, q in parts
    ]
    counts = [1 / (len(p) * (len(p) - 3)) for p, _ in parts]

    def quotient(weights):
        both, left, right = np.tensordot(weights, np.array(products), 1)
        return both / np.sqrt(left * right)

    assert minibatch_cka(x, y, 40) == pytest.approx(quotient([counts[0], counts[1], 0]), abs=1e-12)
    kept = minibatch_cka(x, y, 40, ragged="keep")
    assert kept == pytest.approx(quotient(counts), abs=1e-12) and kept.extra["batches"] == 3
    google = minibatch_cka(x, y, 40, ragged="keep", weighting="google")
    assert google == pytest.approx(quotient([1, 1, 1]), abs=1e-12)


@pytest.mark.parametrize("distance", ["correlation", "cosine", "euclidean"])
def test_rsa_equals_scipy(distance):
    sides = [pdist(side, distance) for side in K]
    assert rsa(*K, distance=distance) == pytest.approx(spearmanr(*sides).statistic, abs=1e-9)
    assert rsa(*K, distance=distance, comparison="pearson") == pytest.approx(np.corrcoef(*sides)[0, 1], abs=1e-9)


# The libraries' algorithms, written out from their descriptions, on features centred first.


def inverse_root(matrix):
    values, vectors = np.linalg.eigh(np.linalg.pinv(matrix))
    return vectors * np.sqrt(values) @ vectors.T


def library_cca(x, y, epsilon=0.0):
    """Scaled covariances, ridge, symmetric roots: ``u, rho, v, root_x, root_y``."""
    d = x.shape[1]
    cov = np.cov(np.hstack([x, y]).T)
    xx, yy, xy = cov[:d, :d], cov[d:, d:], cov[:d, d:]
    sx, sy = np.abs(xx).max(), np.abs(yy).max()
    roots = inverse_root(xx / sx + epsilon * np.eye(d)), inverse_root(yy / sy + epsilon * np.eye(len(yy)))
    u, rho, v = np.linalg.svd(roots[0] @ xy / np.sqrt(sx * sy) @ roots[1])
    return u, rho, v, *roots


def weighted_by(directions, x, rho):
    alpha = np.abs(np.linalg.qr(directions)[0].T @ x).sum(axis=1)
    return (alpha * rho).sum() / alpha.sum()


def blurred(x, random):
    """Two columns with different noise: no two correlations are equal, or the variates would be anyone's choice."""
    return x[:, :2] + [0.3, 0.9] * random.standard_normal((len(x), 2))


def test_google_on_other_data():
    random = np.random.default_rng(3)
    x = random.standard_normal((300, 4)) * [1, 2, 5, 9]
    y = np.hstack([blurred(x, random), random.standard_normal((300, 5))]) @ random.standard_normal((7, 7))
    x, y = x - x.mean(0), y - y.mean(0)
    u, rho, *_ = library_cca(x, y)
    assert pwcca(x, y, compat="google") == pytest.approx(weighted_by(x @ u, x, rho), abs=1e-9)
    kept = next((i for i in range(len(rho)) if rho[:i].sum() / rho.sum() >= 0.98), None)
    assert mean_cca(x, y, compat="google") == pytest.approx(rho[:kept].mean(), abs=1e-9)
    s20 = [np.linalg.svd(side - side.mean(0), full_matrices=False) for side in P]
    s20 = [u[:, :20] * s[:20] for u, s, _ in s20]
    assert svcca(*P, compat="google") == pytest.approx(library_cca(*s20, 1e-10)[1].mean(), abs=1e-6)
    assert svcca(*P, compat="google").directions == (20, 20)


def test_google_mean_leaves_out_the_tail():
    random = np.random.default_rng(0)
    x = random.standard_normal((20000, 3))
    y = np.column_stack([x[:, 0], random.standard_normal((20000, 2))])
    assert mean_cca(x, y, compat="google") == pytest.approx(1.0, abs=0.5) and mean_cca(x, y) < 0.36
    assert mean_cca(x, y, compat="google") > mean_cca(x, y) + 0.1


def test_pasad_on_other_data():
    random = np.random.default_rng(4)
    y = random.standard_normal((300, 4)) * [1, 2, 5, 9]
    x = np.hstack([blurred(y, random), random.standard_normal((300, 5))]) @ random.standard_normal((7, 7))
    x, y = x - x.mean(0), y - y.mean(0)
    _, rho, v, _, root = library_cca(x, y, 1e-10)
    assert pwcca(x, y, compat="pasad") == pytest.approx(weighted_by(y @ root @ v.T, y, rho), abs=1e-7)


def test_anatome_on_other_data():
    random = np.random.default_rng(5)
    x = random.standard_normal((300, 4)) * [1, 2, 5, 9] + 3
    y = np.hstack([blurred(x, random), random.standard_normal((300, 5))])
    (qx, rx), (qy, _) = (np.linalg.qr(side - side.mean(0)) for side in (x, y))
    u, rho, _ = np.linalg.svd(qx.T @ qy)
    basis = np.linalg.qr(np.linalg.inv(rx) @ u)[0]
    alpha = np.abs(x @ basis).sum(0)
    assert pwcca(x, y, compat="anatome") == pytest.approx((alpha * rho).sum() / alpha.sum(), abs=1e-9)
    reduced = []
    for side in (x, y):
        _, s, vt = np.linalg.svd(side, full_matrices=False)
        reduced.append(side @ vt[: (np.cumsum(s) / s.sum() < 0.99).sum()].T)
    value = correlations_by_eigenvalues(*reduced).sum() / min(side.shape[1] for side in reduced)
    assert svcca(x, y, compat="anatome") == pytest.approx(value, abs=1e-7)


def test_google_cannot_take_a_narrower_second_side_and_says_so():
    with pytest.raises(ValueError, match="swap the sides"):
        pwcca(*P[::-1], compat="google")


@pytest.mark.parametrize("measure", [mean_cca, svcca, pwcca, linear_cka, rbf_cka, minibatch_cka, rsa])
def test_tensors_of_any_type_and_device_give_what_arrays_give(measure):
    want = measure(*(side.astype(np.float32) for side in K))
    for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        tensors = [torch.from_numpy(side).float().to(device).requires_grad_() for side in K]
        got = measure(*tensors)
        assert isinstance(got, float) and got == pytest.approx(want, abs=1e-9)
    assert measure(K[0].tolist(), K[1]) == measure(*K)
