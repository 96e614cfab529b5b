"""Manifold geometry: theory where it is known, what must not matter, what must, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad, nnls
from scipy.stats import ortho_group

from hfprobe.errors import MeasureError
from hfprobe.manifold import anchor_statistics, center_structure, manifold_geometry, project_on_cone
from hfprobe.manifold.centers import _cost
from hfprobe.manifold.geometry import point_capacity
from hfprobe.manifold.inputs import project_randomly

FAST = {"n_restarts": 1, "n_replicates": 50, "n_t": 100}
NUMBERS = ("capacity", "radius", "dimension", "center_correlation")


def clusters(count=8, points=10, dim=30, spread=0.5, seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((count, dim))
    return [center + spread * rng.standard_normal((points, dim)) for center in centers]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 14), st.sampled_from([0.0, 1e-3, 1.0]))
def test_projection_on_a_cone_is_that_of_nnls(seed, m, dim, spread):
    """Points far apart, nearly equal and equal; more of them than dimensions, too."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal(dim) + spread * rng.standard_normal((m, dim))
    targets = rng.standard_normal((20, dim)) * 10 ** rng.uniform(-2, 2)
    expected = np.stack([nnls(points.T, target, maxiter=1000)[0] @ points for target in targets])
    np.testing.assert_allclose(project_on_cone(points, targets), expected, atol=1e-8 * np.abs(targets).max())


def test_many_points_agree_with_nnls_and_meet_the_margin():
    rng = np.random.default_rng(1)
    points = np.c_[0.3 * rng.standard_normal((60, 59)), np.ones(60)]
    targets = rng.standard_normal((100, 60))
    for kappa in (0.0, 0.7):
        shifted = targets + kappa * np.eye(60)[-1]
        anchors = project_on_cone(points, shifted)
        expected = np.stack([nnls(points.T, target)[0] @ points for target in shifted])
        np.testing.assert_allclose(anchors, expected, atol=1e-9)
        v = targets - anchors
        assert (v @ points.T).max() <= -kappa + 1e-8  # every point is on the right side, with the margin
        moved = np.linalg.norm(anchors, axis=1) > 1e-8
        np.testing.assert_allclose((v @ points.T).max(axis=1)[moved], -kappa, atol=1e-8)  # and one presses on it


def test_gradient_of_the_centre_search():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((9, 8)), rng.standard_normal((8, 3)).ravel()
    assert check_grad(lambda f: _cost(f, x, x @ x.T)[0], lambda f: _cost(f, x, x @ x.T)[1], w) < 1e-5


def test_the_shared_direction_of_centres_is_removed():
    rng = np.random.default_rng(0)
    shared = np.linalg.qr(rng.standard_normal((60, 2)))[0]
    centers = rng.standard_normal((25, 60)) / 8 + (3 * rng.standard_normal((25, 2))) @ shared.T
    structure = center_structure(centers, n_restarts=2)
    assert structure.directions.shape[1] >= 2 and min(structure.residuals) < structure.correlation / 2
    assert np.linalg.norm(structure.directions.T @ shared) ** 2 > 1.95  # 2 where both are in the removed span
    np.testing.assert_allclose(
        structure.directions.T @ structure.directions, np.eye(structure.directions.shape[1]), atol=1e-9
    )


def test_no_centre_is_removed_wholly_where_another_minimum_is_there():
    """Some starts end where one centre has vanished; of several starts such a one is not taken."""
    rng = np.random.default_rng(4)
    centers = rng.standard_normal((14, 40)) + 2 * rng.standard_normal((14, 3)) @ rng.standard_normal((3, 40))
    around = centers - centers.mean(axis=0)
    left = []
    for count in (1, 6):
        for seed in range(2):
            v = center_structure(centers, count, seed).directions
            rest = np.linalg.norm(around - (around @ v) @ v.T, axis=1) / np.linalg.norm(around, axis=1)
            left.append(rest.min())
    assert min(left[2:]) > 0.01 and np.mean(left[2:]) >= np.mean(left[:2])


def test_points_without_structure_have_two_by_m():
    rng = np.random.default_rng(0)
    found = manifold_geometry([rng.standard_normal((20, 1000)) for _ in range(20)], n_t=200, n_restarts=1)
    assert found.floor == 0.1 and found.capacity == pytest.approx(0.1, rel=0.05)


def test_point_capacity_is_gardners():
    assert point_capacity(0.0) == 2
    t = np.random.default_rng(0).standard_normal(10**6)
    assert point_capacity(0.8) == pytest.approx(1 / np.mean(np.maximum(t + 0.8, 0) ** 2), rel=0.01)


@pytest.mark.parametrize(("radius", "dim"), [(0.5, 3), (1.0, 3), (2.0, 2)])
def test_spheres_have_the_capacity_of_the_theory(radius, dim):
    """Ball of radius R in D dimensions with its centre at distance 1 (Chung et al. 2016, PRE 93, 060301).

    Its points span a circular cone, on which projection has a closed form: with l the length of the first D coordinates
    of a vector and t0 the last, the vector itself if l <= R t0, nothing if R l + t0 <= 0, else its part along the
    nearest edge. Capacity is the inverse of that projection's mean squared length.
    """
    rng = np.random.default_rng(0)
    surface = rng.standard_normal((4000 if dim == 3 else 400, dim))
    points = np.c_[radius * surface / np.linalg.norm(surface, axis=1, keepdims=True), np.ones(len(surface))]
    vectors = rng.standard_normal((400, dim + 1))
    length, last = np.linalg.norm(vectors[:, :dim], axis=1), vectors[:, -1]
    along = (radius * length + last) / np.sqrt(1 + radius**2)
    inside, polar = length <= radius * last, along <= 0
    load = np.where(inside, length**2 + last**2, np.where(polar, 0, along**2)).mean()
    assert anchor_statistics(points, vectors).capacity == pytest.approx(1 / load, rel=0.02)


def test_anchor_radius_and_dimension_of_a_small_ball():
    """A small ball is touched where t points, so its radius is R and its dimension D."""
    rng = np.random.default_rng(0)
    surface = rng.standard_normal((5000, 3))
    points = np.c_[1e-3 * surface / np.linalg.norm(surface, axis=1, keepdims=True), np.ones(5000)]
    vectors = rng.standard_normal((500, 4))
    found = anchor_statistics(points, vectors)
    assert found.radius == pytest.approx(1e-3, rel=0.05) and found.dimension == pytest.approx(3, rel=0.05)
    assert found.capacity == pytest.approx(1 / np.mean(np.maximum(vectors[:, -1], 0) ** 2), rel=0.01)  # a point's


def test_smaller_manifolds_have_more_capacity():
    def shrunk(factor):
        return [points.mean(0) + factor * (points - points.mean(0)) for points in clusters()]

    found = [manifold_geometry(shrunk(factor), **FAST) for factor in (2.0, 1.0, 0.5, 0.1)]
    assert all(a.capacity < b.capacity and a.radius > b.radius for a, b in zip(found, found[1:], strict=False))
    assert found[-1].capacity > 1 > found[0].capacity
    capacities = [manifold_geometry(clusters(), kappa=kappa, **FAST).capacity for kappa in (0.0, 0.5, 1.0)]
    assert capacities[0] > capacities[1] > capacities[2]


def same(a, b, rel=1e-5):
    for name in NUMBERS:
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=rel), name
    assert a.removed == b.removed


def test_rotation_order_scale_and_doubled_points_change_nothing():
    manifolds = clusters()
    plain = manifold_geometry(manifolds, **FAST)
    rng = np.random.default_rng(3)
    rotation = ortho_group.rvs(30, random_state=0)
    same(plain, manifold_geometry([points @ rotation for points in manifolds], **FAST))
    same(plain, manifold_geometry([rng.permutation(points) for points in manifolds], **FAST))
    same(plain, manifold_geometry([7 * points + 1000 for points in manifolds], **FAST))
    same(plain, manifold_geometry([np.r_[points, points] for points in manifolds], **FAST))
    assert manifold_geometry(manifolds, **FAST).capacity == plain.capacity  # and the same seed gives the same
    assert manifold_geometry(manifolds, **{**FAST, "seed": 1}).capacity != plain.capacity
    # Manifolds in another order get other vectors, so this holds up to their number.
    assert manifold_geometry(manifolds[::-1], **FAST).capacity == pytest.approx(plain.capacity, rel=0.1)


def test_result_and_intervals():
    found = manifold_geometry(clusters(count=12), **FAST)
    assert found.capacity == pytest.approx(1 / np.mean(1 / found.capacities))
    assert found.radius == pytest.approx(found.radii.mean()) and found.dimension == pytest.approx(
        found.dimensions.mean()
    )
    for name in NUMBERS:
        low, high = found.intervals[name]
        assert low < getattr(found, name) < high, name
    assert found.n == 12 and found.points == (10,) * 12 and found.dim == found.width == 30
    with pytest.raises(AttributeError):
        found.capacity = 1.0


def test_two_manifolds_and_points_in_one_dimension():
    found = manifold_geometry([np.array([[1.0], [1.2]]), np.array([[-1.0], [-1.3]])], **FAST)
    assert found.removed == 0 and found.center_correlation == pytest.approx(1) and found.capacity > 1
    assert found.intervals["center_correlation"] is None
    equal = manifold_geometry([np.ones((3, 4)), -np.ones((3, 4)) + np.eye(4)[0]], **FAST)  # classes without extent
    assert equal.radius == 0 and equal.capacity == pytest.approx(2, rel=0.4)


def test_random_projection_keeps_geometry():
    rng = np.random.default_rng(0)
    manifolds = [c + 0.3 * rng.standard_normal((6, 3000)) for c in rng.standard_normal((6, 3000))]
    wide = manifold_geometry(manifolds, **FAST)
    narrow = manifold_geometry(manifolds, max_dim=1000, **FAST)
    assert (narrow.dim, narrow.width, wide.dim) == (1000, 3000, 3000)
    assert narrow.capacity == pytest.approx(wide.capacity, rel=0.1) and narrow.radius == pytest.approx(
        wide.radius, rel=0.1
    )
    first, again, other = (project_randomly(manifolds, 100, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True)) and not np.allclose(first[0], other[0])
    # Rows of the projection have length 1: a point's squared length shrinks to dims / width on average.
    ratio = np.square(np.concatenate(first)).sum() / np.square(np.concatenate(manifolds)).sum()
    assert ratio == pytest.approx(100 / 3000, rel=0.15)


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        (lambda m: m[:1], "too few manifolds", "two manifolds or more, got 1"),
        (lambda m: [*m, np.zeros((1, 30))], "too few points", "got 1 in manifold 8"),
        (lambda m: [*m, np.zeros((0, 30))], "too few points", "got 0 in manifold 8"),
        (lambda m: [*m, np.zeros((5, 29))], "shape", r"\(5, 29\) for manifold 8"),
        (lambda m: [*m, np.zeros(30)], "shape", "manifold 8"),
        (lambda m: np.zeros((4, 5)), "shape", "list of arrays"),
        (lambda m: [*m[:2], np.full((4, 30), np.nan)], "nan", "NaN or infinity in manifold 2"),
        (lambda m: [np.zeros((3, 4)), np.zeros((3, 4))], "zero centre", "lies on it"),
        (lambda m: [p - p.mean(0) for p in m], "zero centre", "manifold"),
    ],
)
def test_refusals(change, reason, words):
    with pytest.raises(MeasureError, match=words) as caught:
        manifold_geometry(change(clusters()), **FAST)
    assert caught.value.reason == reason and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"kappa": -1}, {"kappa": float("nan")}, {"n_t": 0}, {"n_restarts": 0}, {"seed": -1}]
)
def test_numbers_that_make_no_sense(options):
    with pytest.raises(MeasureError, match="expected kappa >= 0"):
        manifold_geometry(clusters(), **{**FAST, **options})


def test_memory_limit():
    with pytest.raises(MeasureError, match="take fewer classes") as caught:
        manifold_geometry(clusters(), memory_limit=1000, **FAST)
    assert caught.value.reason == "memory"
