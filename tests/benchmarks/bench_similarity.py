"""All pairs of 11 layers: hfprobe's one pass against google/svcca's method and a stored-features CKA, side by side.

Not a test: nothing passes or fails. Each contender runs in a process of its own on the same features (drawn by seed, in
batches, float32, as hidden states come), so that its peak of memory is its own. The features themselves are made on the
fly for hfprobe; the others have to store them, which is the point.

    python tests/benchmarks/bench_similarity.py                                     # the full run: 11 x 50,000 frames
    python tests/benchmarks/bench_similarity.py --frames 4000 --dim 64 --layers 6   # small, on a busy machine

- ``hfprobe``: `PairAccumulator`, then mean CCA, PWCCA, linear CKA (biased and debiased) of all pairs, at once; it stands
  beside google.
- ``hfprobe-cka``: the same for linear CKA (biased and debiased) alone, and ``hfprobe-cka32`` with products in float32
  added up in float64; they stand beside cka.
- ``google``: for every pair, the method of google/svcca in NumPy: covariance of both sides stacked, pseudo-inverses,
  symmetric roots, singular values, then variates and their weights (with the root that google's PWCCA leaves out, so
  that the values can be compared).
- ``cka``: for every pair, linear CKA from the stored, centred features, as in Kornblith's notebook.

The time of making the features (``make``) is measured apart and taken off all. Seconds are those of the processor, which
other work on the machine changes less than those of the clock. Memory is the peak of the process over what it had after
its imports. ``difference`` is the largest one between the values of hfprobe (all measures) and of the contender.

Counted in products of ``frames x dim x dim``, of L layers hfprobe needs L (L + 1) / 2 and the stored-features CKA
3 L (L - 1) / 2, which is 66 against 165 for 11 layers: 2.5 times as many are all that one can save in float64, and twice
that in float32. google's method needs about 6 a pair (covariance of both sides stacked, variates, QR, weights) and
decompositions besides.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

BATCH = 500
ALL = ("mean_cca", "pwcca", "linear_cka", "linear_cka_debiased")


def batches(layers: int, dim: int, frames: int, seed: int = 0):
    """Frames of all layers, ``(BATCH, dim)`` float32 each: each layer is a noisy nonlinear map of the one before."""
    random = np.random.default_rng(seed)
    maps = [random.standard_normal((dim, dim)).astype(np.float32) / dim**0.5 for _ in range(layers)]
    for start in range(0, frames, BATCH):
        n = min(BATCH, frames - start)
        state, found = random.standard_normal((n, dim), dtype=np.float32), []
        for weights in maps:
            noise = random.standard_normal((n, dim), dtype=np.float32)
            state = np.tanh(1.5 * state @ weights + 0.5 * noise)
            found.append(state)
        yield found


def run_hfprobe(options, measures=ALL, products="float64") -> dict:
    import torch

    from hfprobe.similarity import PairAccumulator

    names = [f"layer{i}" for i in range(options.layers)]
    start, making = time.process_time(), 0.0
    moments = PairAccumulator({name: options.dim for name in names}, products=products)
    stream = batches(options.layers, options.dim, options.frames)
    while True:
        before = time.process_time()
        batch = next(stream, None)
        making += time.process_time() - before
        if batch is None:
            break
        moments.update({name: torch.from_numpy(x) for name, x in zip(names, batch, strict=True)})
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    scores = moments.scores(measures, pairs, quiet=True)
    values = {m: [float(scores[a, b, m]) for a, b in pairs] for m in measures}
    return {"seconds": time.process_time() - start - making, "make": making, "values": values}


def stored(options) -> tuple[list[np.ndarray], float]:
    before = time.process_time()
    kept = [np.empty((options.frames, options.dim), np.float32) for _ in range(options.layers)]
    for number, batch in enumerate(batches(options.layers, options.dim, options.frames)):
        for place, x in zip(kept, batch, strict=True):
            place[number * BATCH : number * BATCH + len(x)] = x
    return kept, time.process_time() - before


def google_pair(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Mean CCA and PWCCA of ``(neurons, frames)``."""
    count = len(a)
    joint = np.cov(a, b)
    aa, ab, bb = joint[:count, :count], joint[:count, count:], joint[count:, count:]
    peaks = np.abs(aa).max(), np.abs(bb).max()
    roots = []
    for block, peak in ((aa, peaks[0]), (bb, peaks[1])):
        values, vectors = np.linalg.eigh(np.linalg.pinv(block / peak))
        roots.append(vectors @ np.diag(np.sqrt(values)) @ vectors.T)
    u, rho, _ = np.linalg.svd(roots[0] @ (ab / np.sqrt(peaks[0] * peaks[1])) @ roots[1])
    moved = a - a.mean(axis=1, keepdims=True)
    basis, _ = np.linalg.qr((u.T @ roots[0] @ moved).T)
    alpha = np.abs(basis.T @ moved.T).sum(axis=1)
    return float(rho.mean()), float((alpha * rho).sum() / alpha.sum())


def run_google(options) -> dict:
    features, making = stored(options)
    start = time.process_time()
    found = []
    for i in range(options.layers):
        for j in range(i + 1, options.layers):
            found.append(google_pair(features[i].T.astype(np.float64), features[j].T.astype(np.float64)))
    values = {"mean_cca": [mean for mean, _ in found], "pwcca": [weighted for _, weighted in found]}
    return {"seconds": time.process_time() - start, "make": making, "values": values}


def run_cka(options) -> dict:
    features, making = stored(options)
    start, found = time.process_time(), []
    for i in range(options.layers):
        for j in range(i + 1, options.layers):
            x, y = (
                side.astype(np.float64) - side.mean(axis=0, dtype=np.float64) for side in (features[i], features[j])
            )
            both = np.square(x.T @ y).sum()
            found.append(float(both / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)))
    return {"seconds": time.process_time() - start, "make": making, "values": {"linear_cka": found}}


CONTENDERS = {
    "hfprobe": run_hfprobe,
    "google": run_google,
    "hfprobe-cka": lambda options: run_hfprobe(options, ALL[2:]),
    "hfprobe-cka32": lambda options: run_hfprobe(options, ALL[2:], "float32"),
    "cka": run_cka,
}
BESIDE = {"google": "hfprobe", "cka": "hfprobe-cka"}


def peak_mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run all contenders one after the other and print a table, or, called by itself, one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=11)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--frames", type=int, default=50_000)
    parser.add_argument("--only", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        import torch  # noqa: F401 - every contender pays for the same imports before the count starts

        import hfprobe.similarity  # noqa: F401

        before = peak_mebibytes()
        result = CONTENDERS[options.only](options)
        print(json.dumps({**result, "mebibytes": peak_mebibytes() - before}))
        return
    size = [f"--{name}={getattr(options, name)}" for name in ("layers", "dim", "frames")]
    results = {}
    for name in CONTENDERS:
        command = [sys.executable, __file__, *size, "--only", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        results[name] = json.loads(done.stdout.splitlines()[-1])
    print(f"{options.layers} layers x {options.frames} frames x {options.dim} features, all pairs")
    print(
        "| contender | CPU seconds | peak MiB | times the seconds, and the memory, of | difference |\n|---|---|---|---|---|"
    )
    for name, found in results.items():
        apart = max(
            np.abs(np.subtract(values, results["hfprobe"]["values"][measure])).max()
            for measure, values in found["values"].items()
        )
        beside = "–"
        if name in BESIDE:
            own = results[BESIDE[name]]
            ratios = [found[key] / own[key] for key in ("seconds", "mebibytes")]
            beside = f"{ratios[0]:.1f}, {ratios[1]:.1f} {BESIDE[name]}"
        print(f"| {name} | {found['seconds']:.2f} | {found['mebibytes']:.0f} | {beside} | {apart:.1e} |")


if __name__ == "__main__":
    main()
