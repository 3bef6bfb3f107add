"""Runs as curves, and what relations have learned as figures. `python -m posmlp_jax.analysis.report` is a page of them.

Functions that draw take a model (unfolded) and give a Matplotlib `Figure`; the others give arrays.
"""

from posmlp_jax.lazy import lazily

_MODULES = {
    "animation": ("animate_clips",),
    "units": ("Unit", "find_units"),
    "learned": (
        "frame_offsets",
        "gaussians",
        "lrpe_m_parts",
        "non_locality",
        "relation_maps",
        "temporal_table",
        "token_bias",
    ),
    "map_figures": ("draw_comparison", "draw_relation_maps"),
    "relation_figures": (
        "draw_gaussians",
        "draw_lrpe_m",
        "draw_non_locality",
        "draw_temporal_tables",
        "draw_token_biases",
    ),
    "reach": ("mixing", "noise", "receptive_field"),
    "reach_figures": ("draw_mixing", "draw_receptive_fields"),
    "report": ("read_input", "write_report"),
}

__all__ = sorted(name for names in _MODULES.values() for name in names)

__getattr__ = lazily(__name__, {name: module for module, names in _MODULES.items() for name in names})
