"""The sections of a report: what each shows of a model, in which words, and how to draw it oneself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from posmlp_jax.analysis.map_figures import draw_comparison, draw_relation_maps
from posmlp_jax.analysis.page import Section
from posmlp_jax.analysis.reach_figures import draw_mixing, draw_receptive_fields
from posmlp_jax.analysis.relation_figures import (
    draw_gaussians,
    draw_lrpe_m,
    draw_non_locality,
    draw_temporal_tables,
    draw_token_biases,
)
from posmlp_jax.analysis.units import PARTS, MissingRelationError, Place, find_units, main_stage
from posmlp_jax.models.backbone import Backbone


@dataclass(frozen=True)
class Subject:
    """What a report is of.

    Attributes:
      model: its relations are shown.
      others: by name, models to be shown beside each other, `model` among them; or none.
      pixels: one input, normalised, `[1, …, 3]`; None: noise, where that will do.
      stage, block: whose maps, parts, receptive fields and mixing, from 1; None: all.
      group: of LRPE-M's parts, from 1; None: the first.
      queries: places in the windows of the main stage; empty: each window's middle.
      place: on the main stage's map, of which is shown what feeds it; None: the middle.
    """

    model: Backbone
    others: Mapping[str, Backbone] = field(default_factory=dict)
    pixels: np.ndarray | None = None
    stage: int | None = None
    block: int | None = None
    group: int | None = None
    queries: Sequence[Place] = ()
    place: Place | None = None

    @property
    def main(self) -> int:
        """The stage that queries and places are of."""
        return main_stage(self.model) if self.stage is None else self.stage

    @property
    def query(self) -> Place | None:
        """The first of the queries."""
        return self.queries[0] if self.queries else None

    @property
    def parts(self) -> list[str]:
        """How the blocks that are shown mix."""
        found = {unit.part for unit in find_units(self.model, stage=self.stage, block=self.block)}
        return [part for part in PARTS if part in found]


def relation_maps(subject: Subject) -> Section:
    """Every block and group, for the chosen queries."""
    figures, calls = [], []
    stages = range(1, len(subject.model.stages) + 1) if subject.stage is None else [subject.stage]
    for part in subject.parts:
        for stage in stages:
            chosen = subject.queries if stage == subject.main and part != "temporal" else ()
            for query in chosen or [None]:
                options = _given(stage=stage, block=subject.block, part=part, query=query)
                figures.append((draw_relation_maps(subject.model, **options), f"{part} relations of stage {stage}"))
                calls.append(f"draw_relation_maps(model{_code(options)})")
    seen = {
        "temporal": "what each frame takes from each other at one place, queries' frames down and keys' across a tile",
        "spatial": "what the token at the dot takes from each token of its window",
        "joint": "what the token at the dot takes from its window in all frames, which are below one another",
    }
    first, *others = (seen[part] for part in subject.parts)
    return Section(
        figures,
        f"{'; '.join([first.capitalize(), *others])}; softmax weights relative to the largest of their tile, "
        "weights of either sign to the largest magnitude in their block. These are rows of the relation matrix, W of "
        "Eq. 9 and 13, as in Figures 1 d–e and 4.",
        "\n".join(calls),
    )


def comparison(subject: Subject) -> Section:
    """Several models side by side."""
    if not subject.others:
        raise MissingRelationError("it is of several models: give --compare NAME_OR_DIR")
    options = _given(stage=subject.stage, query=subject.query)
    return Section(
        [(draw_comparison(subject.others, **options), "relation maps of several models")],
        "The same query in several models, some of their blocks down and groups across, in colours as above. Figure 4 "
        "compares αI, Γ and ΓΓᵀ like this, Figure 1 d–e SGU and PoSGU.",
        f"draw_comparison({_models(subject.others)}{_code(options)})",
    )


def gaussians(subject: Subject) -> Section:
    """The parameters of GQPE."""
    return Section(
        [(draw_gaussians(subject.model), "the Gaussians of all groups as ellipses")],
        "Where each group of a block looks, from the query at the cross: dots are Δ, ellipses one standard deviation, "
        "cut off where they leave the frame. They are the Gaussians of Eq. 5, whose inverse covariance is the Σ̃ of "
        "section 5.3.",
        "draw_gaussians(model)",
    )


def non_locality(subject: Subject) -> Section:
    """Eq. 16, of all models that have it."""
    others = {name: each for name, each in subject.others.items() if each.config.relation == "gqpe"}
    return Section(
        [(draw_non_locality(others if len(others) > 1 else subject.model), "non-locality over the blocks")],
        "How local each block is: the mean over groups of √∏λ with the eigenvalues λ of Σ̃, singular ones not counted; "
        "the smaller, the further the block looks. This is Eq. 16, as in Figure 8, where it tends to fall with depth.",
        f"draw_non_locality({_models(others)})" if len(others) > 1 else "draw_non_locality(model)",
    )


def token_biases(subject: Subject) -> Section:
    """The bias of all blocks."""
    figures = [(draw_token_biases(subject.model, part=part), f"{part} token biases") for part in subject.parts]
    return Section(
        figures,
        "What each place of a window is given besides what is mixed, with one scale a stage; windows of several share "
        "it. This is b of Eq. 15, as in Figure 5, where the middle of the image has the high values.",
        "\n".join(f"draw_token_biases(model{_code({'part': part})})" for part in subject.parts),
    )


def lrpe_m(subject: Subject) -> Section:
    """The two parts of LRPE-M."""
    options = _given(stage=subject.stage, group=subject.group, query=subject.query)
    return Section(
        [(draw_lrpe_m(subject.model, **options), "W, r and W + r")],
        "The dense matrix W, the table's r and their sum on one scale, and all three along the dotted row, that of one "
        "query. These are the parts of Eq. 10, as in Figure 7.",
        f"draw_lrpe_m(model{_code(options)})",
    )


def temporal_tables(subject: Subject) -> Section:
    """Learned tables over frames."""
    return Section(
        [(draw_temporal_tables(subject.model), "weights by frame offset")],
        "The learned weight of a frame by how far it is before (left) or after (right) the query's, for each group, "
        "one scale a stage. These are the tables of PosMLP-Video's PoTGU, or PoSTGU's at the query's own place (its "
        "Figure 1).",
        "draw_temporal_tables(model)",
    )


def receptive_fields(subject: Subject) -> Section:
    """Gradients of features with respect to pixels."""
    options = _given(stage=subject.main if subject.place else subject.stage, place=subject.place)
    given = "" if subject.pixels is None else ", pixels"
    over = "for noise" if subject.pixels is None else "for this input"
    return Section(
        [(draw_receptive_fields(subject.model, subject.pixels, **options), "effective receptive fields")],
        f"How much the features at the box change with each pixel {over}: the norm of the Jacobian of all layers, "
        "relative to its largest value, on a scale of square roots. The paper has no such figure; it is what windows, "
        "relations and convolutions make of the global view that its section 1 asks for.",
        f"draw_receptive_fields(model{given}{_code(options)})",
    )


def mixing(subject: Subject) -> Section:
    """What feeds a place of the given input."""
    if subject.pixels is None:
        raise MissingRelationError(f"it is of an input of yours: give --{subject.model.config.kind}=FILE")
    options = _given(stage=subject.main, block=subject.block, place=subject.place)
    return Section(
        [(draw_mixing(subject.model, subject.pixels, **options), "which tokens feed the place")],
        "Which tokens feed the place in the box in each block's mixing by itself, as shares: the relation's weights "
        "(mean magnitude over groups), and these times the tokens that this input makes (norm over channels). They are "
        "the summands of W·X₁ in Eq. 9 and 12, before bias and gate; what residual connections carry is not in them.",
        f"draw_mixing(model, pixels{_code(options)})",
    )


# In the order of the page, by title. Each raises a MissingRelationError where it has nothing to show.
SECTIONS: Mapping[str, Callable[[Subject], Section]] = {
    "Relation maps": relation_maps,
    "Side by side": comparison,
    "Gaussians": gaussians,
    "Non-locality": non_locality,
    "Token biases": token_biases,
    "Parts of LRPE-M": lrpe_m,
    "Weights over frames": temporal_tables,
    "Effective receptive fields": receptive_fields,
    "What feeds a place": mixing,
}


def _given(**options) -> dict:
    return {name: value for name, value in options.items() if value is not None}


def _models(named: Mapping[str, Backbone]) -> str:
    return f"{{{', '.join(f'{name!r}: …' for name in named)}}}"


def _code(options: Mapping) -> str:
    return "".join(f", {name}={value!r}" for name, value in options.items())
