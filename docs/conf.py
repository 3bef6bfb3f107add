"""How Sphinx makes the documentation site of docs/*.md, the docstrings and colabs/*.ipynb: `make docs`."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project = "posmlp_jax"
author = "The posmlp_jax authors"
project_copyright = author
release = version = _PROJECT["version"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "repository_links",
    "python_source",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]

# Markdown, as GitHub shows it too.
myst_heading_anchors = 3
# $x$, in notebooks.
myst_enable_extensions = ["dollarmath"]
# Notebooks come with their outputs.
nb_execution_mode = "off"

# Docstrings.
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# A parameter a line where it would not fit on one.
maximum_signature_line_length = 88
python_display_short_literal_types = True
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

nitpicky = True
add_module_names = False
repository_address = _PROJECT["urls"]["Repository"]
# Of which file outside docs/ a page is made.
pages_of_files = {"index": "README.md", "contributing": "CONTRIBUTING.md"}

html_theme = "sphinx_book_theme"
html_title = "posmlp_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "repository_url": repository_address,
    "use_repository_button": True,
    "path_to_docs": "docs",
    "show_toc_level": 2,
    "navigation_with_keys": False,
    # The search is in the sidebar; the theme underneath would have another in a bar of its own above.
    "navbar_start": [],
    "navbar_center": [],
    "navbar_end": [],
    "navbar_persistent": [],
}
