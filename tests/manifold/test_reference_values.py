"""Against the authors' implementation: stored inputs and outputs of `neural_manifolds_replicaMFT` (shared/golden)."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import hfprobe
from hfprobe.manifold import anchor_statistics, center_structure, manifold_geometry
from hfprobe.manifold.geometry import manifold_coordinates

CHECKOUT = Path(hfprobe.__file__).resolve().parents[1]
DATA = os.environ.get("HFPROBE_DATA")
SHARED = Path(DATA).parent if DATA else CHECKOUT.parent / "shared"
GOLDEN = SHARED / "golden" / "mftma"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="no golden values (shared/golden/mftma) on this machine")


@pytest.fixture(scope="module")
def small():
    arrays = np.load(GOLDEN / "small.npz", allow_pickle=False)
    facts = json.loads((GOLDEN / "small.json").read_text())
    return arrays, [arrays[f"X_{i:02d}"].T for i in range(12)], facts["runs"]


@pytest.mark.parametrize("kappa", ["0", "0.2", "1.0"])
def test_each_manifold_with_the_same_vectors(small, kappa):
    arrays, _, _ = small
    found = [
        anchor_statistics(arrays[f"seed7_kappa0__sD1_{i:02d}"].T, arrays[f"tvec_{i:02d}"].T, float(kappa))
        for i in range(12)
    ]
    np.testing.assert_allclose(found, arrays[f"each_kappa{kappa}"], rtol=1e-8)


def test_readme_example_replays_the_stored_generator():
    arrays = np.load(GOLDEN / "readme_example.npz", allow_pickle=False)
    rng = np.random.RandomState()
    state = ("t_rng_key", "t_rng_pos", "t_rng_has_gauss", "t_rng_cached_gaussian")
    key, pos, has_gauss, cached = (arrays[name] for name in state)
    rng.set_state(("MT19937", key, int(pos), int(has_gauss), float(cached)))
    for i, points in enumerate(arrays["sD1_first5"]):
        found = anchor_statistics(points.T, rng.randn(51, 200).T)
        np.testing.assert_allclose(found, [arrays[n][i] for n in ("capacity", "radius", "dimension")], rtol=1e-9)


def test_centre_search_finds_the_same_direction(small):
    arrays, manifolds, runs = small
    structure = center_structure(np.stack([points.mean(axis=0) for points in manifolds]), seed=5)
    reference = runs["seed7_kappa0"]
    assert structure.correlation == pytest.approx(reference["center_correlation"], rel=1e-10)
    assert structure.directions.shape == (40, reference["K"]) and len(structure.residuals) == reference["n_K_tried"]
    # One direction: the minimum is unique. With more, starts lead to minima of nearly equal value.
    theirs = arrays["seed7_kappa0__res_coeff"]
    assert structure.residuals[0] == pytest.approx(theirs[0], abs=1e-6)
    np.testing.assert_allclose(structure.residuals, theirs, rtol=0.15)
    overlap = structure.directions.T @ arrays["seed7_kappa0__V11"]
    assert abs(overlap.item()) == pytest.approx(1, abs=1e-6)


def test_coordinates_are_those_of_the_reference_up_to_rotation(small):
    arrays, manifolds, _ = small
    origin = np.concatenate(manifolds).mean(axis=0)
    for i, points in enumerate(manifolds):
        ours = manifold_coordinates(points - origin, arrays["seed7_kappa0__V11"])
        theirs = arrays[f"seed7_kappa0__sD1_{i:02d}"].T
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-12)


def test_the_whole_analysis_lies_within_the_spread_of_the_reference_over_its_seeds(small):
    _, manifolds, runs = small
    theirs = [runs["seed7_kappa0"], *runs["other_seeds_kappa0"]]
    found = [manifold_geometry(manifolds, seed=seed, n_restarts=2) for seed in range(4)]
    for name in ("capacity", "radius", "dimension"):
        values = np.array([run[f"mean_{name}"] for run in theirs])
        ours = np.array([getattr(geometry, name) for geometry in found])
        assert np.all(np.abs(ours - values.mean()) < 4 * values.std(ddof=1)), name
        assert abs(ours.mean() - values.mean()) < 2 * values.std(ddof=1), name
    assert {geometry.removed for geometry in found} == {1}
