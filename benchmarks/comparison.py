"""Whether ``plot A B`` keeps its word: how often it names a winner of equals, and how often of a pair that differs.

Run: python benchmarks/comparison.py [--pairs 400] [--draws 2000] [--images 30 100 233] [--runs RUN RUN].

A/A: each image of two evaluations is exchanged between them with probability 1/2, so that neither is better. Three
ways to make an interval of the same draws are counted; 5 % of the pairs should get a winner. With ``--runs``, the two
are real evaluations with their ``images.npz``, else simulated. Power: pairs whose networks differ by a known effect,
and the power of the normal approximation to call the second better, Φ(δ/σ - 1.96), where δ and σ are mean and standard
deviation of the difference of mIoU over 2000 further pairs.
"""

import argparse
from pathlib import Path
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_seg.metrics.comparison import Totals, compare, drawn_differences, expanded_tail, figures_of_totals

NORMAL = NormalDist()
CLASSES = 11


def simulate(images: int, effect: float, random: np.random.Generator) -> tuple[Totals, Totals]:
    """Two evaluations of the same images; classes are unequally frequent, and the rarest are on few of the images.

    Args:
        images: how many.
        effect: by how much the second is better, in the logit of each class's recall.
        random: of all that is drawn.
    """
    frequency = 0.6 ** np.arange(CLASSES)
    shows = random.random((images, CLASSES)) < np.linspace(1, 0.3, CLASSES)
    area = frequency * random.gamma(2, 1, (images, CLASSES)) * shows
    true = np.round(100_000 * area / area.sum(1, keepdims=True)).astype(np.int64)
    ease = np.linspace(3, 0, CLASSES) + 0.7 * random.normal(size=(images, 1)) + random.normal(size=(images, CLASSES))
    goes_to = np.tile(frequency, (CLASSES, 1)) * (1 - np.eye(CLASSES))
    goes_to /= goes_to.sum(1, keepdims=True)
    sides = []
    for shift in (0, effect):
        recall = 1 / (1 + np.exp(-(ease + shift + 0.4 * random.normal(size=(images, CLASSES)))))
        hits = random.binomial(true, recall)
        wrong = np.round((true - hits) @ goes_to).astype(np.int64)
        sides.append(Totals(*(torch.from_numpy(part) for part in (hits, true, hits + wrong))))
    return sides[0], sides[1]


def exchange(first: Totals, second: Totals, random: np.random.Generator) -> tuple[Totals, Totals]:
    """Exchange each image of two evaluations with probability 1/2."""
    stays = torch.from_numpy(random.random((len(first.true), 1)) < 0.5)
    pairs = [
        (torch.where(stays, one, other), torch.where(stays, other, one))
        for one, other in ((first.hits, second.hits), (first.true, second.true), (first.predicted, second.predicted))
    ]
    return Totals(*(one for one, _ in pairs)), Totals(*(other for _, other in pairs))


def difference(first: Totals, second: Totals, taken: NDArray[np.int64] | None = None) -> float:
    """The difference of mIoU, of all images or of those that are taken."""
    miou = []
    for side in (first, second):
        parts = [part if taken is None else part[taken] for part in (side.hits, side.true, side.predicted)]
        miou.append(figures_of_totals(Totals(*(part.sum(0) for part in parts)), "detectron2")[0].item())
    return miou[1] - miou[0]


def winners(first: Totals, second: Totals, draws: int, seed: int) -> dict[str, bool]:
    """Whether an interval of mIoU lies on one side of zero, by the way that it is made."""
    drawn = drawn_differences([first], [second], "detectron2", draws=draws, seed=seed)[:, 0].numpy()
    images = len(first.true)
    tails = {"percentile": (0.025, 0.975), "expanded": (expanded_tail(images), 1 - expanded_tail(images))}
    tails["BCa"] = bca_tails(first, second, drawn)
    ends = {name: np.quantile(drawn, tail) for name, tail in tails.items()}
    return {name: bool(low > 0 or high < 0) for name, (low, high) in ends.items()}


def bca_tails(first: Totals, second: Totals, drawn: NDArray[np.float64]) -> tuple[float, float]:
    """The quantiles of the bias-corrected and accelerated interval: Efron 1987, JASA 82."""
    below = np.clip((drawn < difference(first, second)).mean(), 1e-4, 1 - 1e-4)
    bias = NORMAL.inv_cdf(float(below))
    sums = [[part.sum(0) - part for part in (side.hits, side.true, side.predicted)] for side in (first, second)]
    without = [figures_of_totals(Totals(*parts), "detectron2")[:, 0] for parts in sums]
    left = (without[1] - without[0]).numpy()
    off = left.mean() - left
    acceleration = (off**3).sum() / (6 * (off**2).sum() ** 1.5)
    ends = [bias + NORMAL.inv_cdf(tail) for tail in (0.025, 0.975)]
    found = [NORMAL.cdf(bias + end / (1 - acceleration * end)) for end in ends]
    return found[0], found[1]


def false_winners(sides: tuple[Totals, Totals] | int, pairs: int, draws: int, seed: int = 0) -> dict[str, float]:
    """The share of A/A pairs that get a winner: of two evaluations, or of simulated ones with so many images."""
    random = np.random.default_rng(seed)
    found: dict[str, list[bool]] = {}
    for pair in range(pairs):
        one, other = simulate(sides, 0.1, random) if isinstance(sides, int) else sides
        for name, named in winners(*exchange(one, other, random), draws, pair).items():
            found.setdefault(name, []).append(named)
    return {name: float(np.mean(named)) for name, named in found.items()}


def power(images: int, effect: float, pairs: int, draws: int, seed: int = 1) -> tuple[float, float, float]:
    """δ in units of σ, the textbook's power, and the measured one, of an effect."""
    random = np.random.default_rng(seed)
    differences = [difference(*simulate(images, effect, random)) for _ in range(2000)]
    delta = float(np.mean(differences) / np.std(differences, ddof=1))
    named = 0
    for pair in range(pairs):
        found = compare(*([side] for side in simulate(images, effect, random)), "detectron2", draws=draws, seed=pair)
        named += bool(found.low[0] > 0)
    return delta, NORMAL.cdf(delta - 1.96), named / max(1, pairs)


def totals_of(run: Path) -> Totals:
    with np.load(run / "images.npz") as arrays:
        return Totals.of_matrices(torch.from_numpy(arrays["matrices"].astype(np.int64)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--images", type=int, nargs="+", default=[30, 100, 233])
    parser.add_argument("--effects", type=float, nargs="+", default=[0.0, 0.5, 1.0, 2.0, 2.8, 3.5])
    parser.add_argument("--runs", type=Path, nargs=2)
    options = parser.parse_args()
    cases: dict[str, tuple[Totals, Totals] | int] = {f"simulated, {images}": images for images in options.images}
    if options.runs:
        first, second = map(totals_of, options.runs)
        cases = {}
        for images in options.images:
            taken = np.random.default_rng(0).permutation(len(first.true))[:images]
            sides = [Totals(side.hits[taken], side.true[taken], side.predicted[taken]) for side in (first, second)]
            cases[f"runs, {len(taken)}"] = (sides[0], sides[1])
    print(f"A/A, {options.pairs} pairs: share with a winner")
    for name, sides in cases.items():
        shares = false_winners(sides, options.pairs, options.draws)
        print(f"  {name} images: " + ", ".join(f"{way} {share:.1%}" for way, share in shares.items()), flush=True)
    if options.runs:
        return
    for images in options.images:
        print(f"Power, {images} images, {options.pairs} pairs: δ/σ, textbook, measured")
        unit = 0.1 / power(images, 0.1, 0, options.draws)[0]
        for effect in options.effects:
            delta, expected, measured = power(images, effect * unit, options.pairs, options.draws)
            print(f"  {delta:5.2f}  {expected:6.1%}  {measured:6.1%}", flush=True)


if __name__ == "__main__":
    main()
