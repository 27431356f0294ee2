"""Error rates and power of the gate's bounds, as Markdown."""

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.promotion.populations import Draw, Sizes, places, separations, shares
from inpformer.metrics.paired import Paired
from inpformer.metrics.pixel import AUPRO_FPR_LIMIT
from inpformer.metrics.proportion import Proportion

LEVEL, MEASURES = 0.05, 5


def rate(draw: Draw, event: Callable[[Paired], bool], draws: int, seed: int = 0) -> Proportion:
    """How often `event` is seen on so many test sets."""
    rng = np.random.default_rng(seed)
    return Proportion(sum(event(draw(rng)) for _ in range(draws)), draws)


def shown_not_worse(margin: float) -> Callable[[Paired], bool]:
    """Whether the gate takes it to be worse by less than the margin."""
    return lambda paired: paired.low(LEVEL) > -margin


def called_better(paired: Paired) -> bool:
    """By one of the measures."""
    return paired.low(LEVEL / MEASURES) > 0


def worse_models(margin: float, replicates: int) -> Iterator[tuple[str, Draw]]:
    """Models that are worse by exactly the margin."""
    for n in (20, 60, 100, 300):
        yield f"rare kind of part, {n} parts", shares(Sizes(n), margin, 0, replicates)
        yield f"losses and wins, {n} parts", shares(Sizes(n), margin + 0.1, 0.1, replicates)
    for categories, n in ((3, 20), (15, 5), (15, 20)):
        sizes = Sizes(n, categories)
        yield f"rare kind, {categories} categories of {n}", shares(sizes, margin, 0, replicates)
        if margin * categories < 1:
            yield (
                f"rare kind in one of {categories} categories of {n}",
                shares(sizes, margin, 0, replicates, alone=True),
            )
        yield f"losses and wins, {categories} categories of {n}", shares(sizes, margin + 0.1, 0.1, replicates)
        unequal = shares(Sizes(n, categories, unequal=5), margin, 0, replicates)
        yield f"rare kind, {categories} categories of {n} and {5 * n}", unequal
    for n in (20, 60, 100):
        yield f"AUROC, normal scores, {n} + {n} parts", separations(Sizes(n), replicates, 0.95, margin)
    for rare in ("defective", "good"):
        yield f"AUROC, rare kind of {rare} part, 60 + 60", separations(Sizes(60), replicates, 0.95, margin, rare)
        perfect = separations(Sizes(60), replicates, 0.99999, margin, rare)
        yield f"AUROC 1, rare kind of {rare} part, 60 + 60", perfect
    yield "AUROC, scores on 8 levels, 60 + 60", separations(Sizes(60), replicates, 0.9, margin, "defective", levels=8)
    yield "AUROC, 3 images a part, 60 + 60", separations(Sizes(60, images=3), replicates, 0.95, margin, "defective")
    yield "AUROC, 3 categories of 20 + 20", separations(Sizes(20, 3), replicates, 0.95, margin)


def unseen_places(margin: float, replicates: int) -> Iterator[tuple[str, Draw]]:
    """The same of pixel measures."""
    # With the champion's 1 the challenger's is 1 - share, but for P-AP's chance to find what it does not see.
    for measure in ("aupro", "pixel_ap"):
        yield f"{measure}, rare kind of defective part, 60 + 60", places(Sizes(60), replicates, measure, margin)


def beyond(margin: float, replicates: int) -> Iterator[tuple[str, Draw]]:
    """What the gate does not bound by pixel measures, as a rare good part costs these more than its share."""
    seldom = margin * AUPRO_FPR_LIMIT  # of all pixels, what takes so much of the area below this rate
    yield "aupro, whole map of a rare good part, 60 + 60", places(Sizes(60), replicates, "aupro", seldom, good=True)


def equal_models(replicates: int) -> Iterator[tuple[str, Draw]]:
    """Models that are equally good."""
    for n in (20, 100):
        for discordant in (0.02, 0.1, 0.4):
            draw = shares(Sizes(n), discordant / 2, discordant / 2, replicates)
            yield f"{discordant:.0%} of {n} parts decided differently", draw
        yield f"AUROC .9, {n} + {n} parts", separations(Sizes(n), replicates, 0.9, 0)
    yield "10 % decided differently, 15 categories of 20", shares(Sizes(20, 15), 0.05, 0.05, replicates)


def powers(margin: float, replicates: int) -> Iterator[tuple[str, Draw]]:
    """Models that deserve to be promoted."""
    for n in (20, 60, 100, 300, 1000):
        yield f"alike on all of {n} parts", shares(Sizes(n), 0, 0, replicates)
        yield f"equal, 4 % of {n} parts decided differently", shares(Sizes(n), 0.02, 0.02, replicates)
        yield f"better by 5 %, {n} parts", shares(Sizes(n), 0.01, 0.06, replicates)
    yield "equal, 4 % decided differently, 15 categories of 20", shares(Sizes(20, 15), 0.02, 0.02, replicates)
    yield "better by 5 %, 15 categories of 20", shares(Sizes(20, 15), 0.01, 0.06, replicates)


def run(draws: int, replicates: int, margin: float) -> None:
    """Prints as it goes."""
    print(f"| worse by exactly {margin:g} | promoted | 95 % interval |\n|---|---|---|", flush=True)
    for name, draw in worse_models(margin, replicates):
        _line(name, rate(draw, shown_not_worse(margin), draws))
    for name, draw in unseen_places(margin, replicates):
        _line(name, rate(draw, shown_not_worse(margin), draws // 4))
    print("\n| beyond what is bounded | promoted | 95 % interval |\n|---|---|---|", flush=True)
    for name, draw in beyond(margin, replicates):
        _line(name, rate(draw, shown_not_worse(margin), draws // 4))
    print("\n| equal | called better by a measure | 95 % interval |\n|---|---|---|", flush=True)
    for name, draw in equal_models(replicates):
        _line(name, rate(draw, called_better, draws))
    print(f"\n| deserving | not worse by {margin:g} | called better |\n|---|---|---|", flush=True)
    for name, draw in powers(margin, replicates):
        found = [rate(draw, event, draws).value for event in (shown_not_worse(margin), called_better)]
        print(f"| {name} | {found[0]:.1%} | {found[1]:.1%} |", flush=True)


def _line(name: str, found: Proportion) -> None:
    low, high = found.interval(0.95)
    print(f"| {name} | {found.value:.1%} | {low:.1%} to {high:.1%} |", flush=True)
