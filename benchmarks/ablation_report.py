"""What `benchmarks.ablations` found, as tables and as a picture."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.ablation_variants import Variant
from benchmarks.seeds import Noise, Scores, difference, estimate_noise, mean_and_deviation

Tables = Mapping[str, Sequence[Variant]]
_TITLES = {
    "table1": "Table 1: the relation",
    "table3": "Table 3: components",
    "table4": "Table 4: groups of each stage (here the first two)",
    "table6": "Table 6: covariance, and whether Δ is learned",
    "table7": "Table 7: bias and absolute position",
    "table10": "Table 10: stem, merging",
    "figure3": "Figure 3: a product, b sum, c both, d norm first, e no split",
    "figure1f": "Figure 1 (f): the share of the training images",
    "recipe": "The recipe, one part off at a time",
}


def noises(tables: Tables, scores: Mapping[str, Scores]) -> dict[tuple, Noise | None]:
    """The noise of each kind of runs (`Variant.alike`)."""
    kinds = {variant.run: variant.alike for variants in tables.values() for variant in variants}
    return {
        kind: estimate_noise([scores[run] for run, own in kinds.items() if own == kind and run in scores])
        for kind in set(kinds.values())
    }


def markdown(tables: Tables, scores: Mapping[str, Scores]) -> str:
    """One table after the other, each with what became of the paper's orderings, and what the numbers mean."""
    found, parts = noises(tables, scores), []
    for name, variants in tables.items():
        there = [variant for variant in variants if variant.run in scores]
        if there:
            parts += [f"### {_TITLES[name]}", "\n".join(_rows(there, scores, found)), *_verdicts(there, scores, found)]
    parts.append(
        "Top-1 in %, its mean and standard deviation over so many seeds. Differences are to the row that has none, "
        "seed by seed, with half of their 95 % interval, and bold where they are more than that: 1 in 20 is by chance."
    )
    for (kind, share), noise in sorted(found.items()):
        if noise is not None:
            parts.append(
                f"Noise of {'the runs of the recipe' if kind else 'a run'} on {100 * share:g} % of the images: "
                f"{noise.deviation:.2f} points ({noise.freedom} degrees of freedom)."
            )
    return "\n\n".join(parts) + "\n"


def _rows(variants: Sequence[Variant], scores: Mapping[str, Scores], found: Mapping) -> Iterator[str]:
    """A table of those that there are scores of."""
    by_label = {variant.label: variant for variant in variants}
    yield "| | the paper | difference | here | difference |"
    yield "| --- | --- | --- | --- | --- |"
    for variant in variants:
        other = by_label.get(variant.reference)
        claimed = measured = ""
        if other is not None and other is not variant:
            if None not in (variant.printed, other.printed):
                claimed = f"{float(variant.printed) - float(other.printed):+.2f}"
            change = difference(scores[variant.run], scores[other.run], found[variant.alike])
            measured = "" if change is None else f"**{change}**" if change.decided else str(change)
        if variant.below is not None:
            claimed = "less"
        mean, deviation = mean_and_deviation(scores[variant.run])
        spread = "" if math.isnan(deviation) else f" ± {deviation:.2f}"
        here = f"{mean:.2f}{spread} ({len(scores[variant.run])})"
        yield f"| {variant.label} | {variant.printed or ''} | {claimed} | {here} | {measured} |"


def orderings(variants: Sequence[Variant]) -> Iterator[tuple[Variant, Variant]]:
    """The pairs of rows, of those that compare with the same one, of which the paper has the first above the second."""
    for one, other in itertools.permutations(variants, 2):
        printed = None not in (one.printed, other.printed) and float(one.printed) > float(other.printed)
        if (printed or other.below == one.label) and one.reference == other.reference:
            yield one, other


def _verdicts(variants: Sequence[Variant], scores: Mapping[str, Scores], found: Mapping) -> list[str]:
    """What became of a table's orderings."""
    held, turned, within = [], [], []
    for higher, lower in orderings(variants):
        change = difference(scores[higher.run], scores[lower.run], found[higher.alike])
        if change is not None:
            kind = within if not change.decided else held if change.mean > 0 else turned
            kind.append(f"{higher.label} > {lower.label} ({change})")
    return [
        f"{what}, {len(pairs)} of the paper's {len(held + turned + within)} orderings: {'; '.join(pairs)}."
        for what, pairs in (("Hold", held), ("The other way round", turned), ("Within the noise", within))
        if pairs
    ]


def draw(tables: Tables, scores: Mapping[str, Scores]) -> Figure:
    """A panel for each table: means with their standard deviation over the seeds, and each seed's run as a dot."""
    shown = {
        name: there
        for name, variants in tables.items()
        if (there := [variant for variant in variants if variant.run in scores])
    }
    columns = min(2, len(shown))
    heights = [
        max(_height(variants) for variants in row if variants is not None)
        for row in itertools.zip_longest(*[iter(shown.values())] * columns)
    ]
    found = noises(tables, scores)
    figure = Figure(figsize=(6.5 * columns, sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    for axis, (name, variants) in itertools.zip_longest(axes.flat, shown.items(), fillvalue=("", ())):
        if not variants:
            axis.set_axis_off()
            continue
        if name == "figure1f":
            _draw_shares(axis, variants, scores)
        else:
            _draw_rows(axis, variants, scores, found)
        axis.set_title(_TITLES[name], fontsize=10, loc="left")
        axis.grid(alpha=0.3)
    return figure


def _height(variants: Sequence[Variant]) -> float:
    """Of a panel, in inches."""
    return 0.9 + 0.28 * max(len(variants), 4)


def _draw_rows(axis: Axes, variants: Sequence[Variant], scores: Mapping[str, Scores], found: Mapping) -> None:
    """A line for each row, from above; the paper's number stands behind its name.

    What lies in the band around the row that others compare with differs from it by less than the noise.
    """
    by_label = {variant.label: variant for variant in variants}
    for place, variant in enumerate(variants):
        mean, deviation = mean_and_deviation(scores[variant.run])
        values = list(scores[variant.run].values())
        if (other := by_label.get(variant.reference)) is not None:
            change = difference(scores[variant.run], scores[other.run], found[variant.alike])
            if change is not None and math.isfinite(change.margin):
                center = mean_and_deviation(scores[other.run])[0]
                sides = center - change.margin, center + change.margin
                axis.fill_betweenx((place - 0.5, place + 0.5), *sides, color="C1", alpha=0.12, linewidth=0)
        color = "C1" if variant is other else "C0"
        axis.plot(values, [place] * len(values), ".", color=color, alpha=0.35, markersize=7, markeredgewidth=0)
        axis.errorbar(mean, place, xerr=deviation, fmt="o", color=color, capsize=3, markersize=5)
    labels = [f"{variant.label}  [{variant.printed}]" if variant.printed else variant.label for variant in variants]
    axis.set_yticks(range(len(variants)), labels, fontsize=8, parse_math=False)
    axis.set_ylim(len(variants) - 0.5, -0.5)
    axis.set_xlabel("top-1 (%) on CIFAR-10; within the band: no more than noise; in brackets the paper's", fontsize=8)


def _draw_shares(axis: Axes, variants: Sequence[Variant], scores: Mapping[str, Scores]) -> None:
    """Accuracy over the share of the images, one line a relation."""
    lines = {}
    for variant in variants:
        points = lines.setdefault(variant.label.rpartition(", ")[2], [])
        points.append((100 * variant.share, *mean_and_deviation(scores[variant.run])))
    for name, points in lines.items():
        shares, means, deviations = zip(*points, strict=True)
        axis.errorbar(shares, means, yerr=deviations, fmt="o-", capsize=3, markersize=4, label=name)
    shares = sorted({share for points in lines.values() for share, *_ in points})
    axis.set_xscale("log")
    axis.set_xticks(shares, [f"{share:g}" for share in shares])
    axis.minorticks_off()
    axis.set_xlabel("images of each class (%), gMLP of one width", fontsize=8)
    axis.set_ylabel("top-1 (%)", fontsize=8)
    axis.legend(fontsize=8)
