"""Links to files of the repository, written as GitHub wants them: relative to the file that has them.

Those to a page of the site lead there, those to any other file to the repository, and so do paths in the text, such as
`configs/digits.py`. A link to a file that does not exist stays what MyST makes of it, a warning.
"""

import os
import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

# Where paths in the text begin: what is in the package's rooms is named without it.
_FOLDERS = ("", "posmlp_jax")
_PATH = re.compile(r"[\w./-]+\.(py|md|toml|txt)|[\w./-]+/")


class RepositoryLinks(SphinxTransform):
    """Replaces what MyST makes of links out of docs/, downloads of files and references to what it does not know."""

    default_priority = 999

    def apply(self, **_) -> None:
        """See the class."""
        for link in [*self.document.findall(addnodes.download_reference), *self.document.findall(_is_unknown)]:
            name, _, anchor = link["reftarget"].partition("#")
            # Of an included page the source is that page.
            path = Path(link.source).resolve().parent / name
            if link.get("refdomain") == "doc":  # Without its suffix.
                path, anchor = path.with_suffix(".md"), link["reftargetid"]
                path = path if path.exists() else path.with_suffix(".ipynb")
            self._lead(link, path, anchor, link.children)
        for code in list(self.document.findall(nodes.literal)):
            if _PATH.fullmatch(code.astext()) and not isinstance(code.parent, nodes.reference | addnodes.pending_xref):
                folders = _FOLDERS if "/" in code.astext()[:-1] else _FOLDERS[:1]
                paths = [self._root / folder / code.astext() for folder in folders]
                self._lead(code, next(filter(Path.exists, paths), paths[0]), "", [code.deepcopy()])

    @property
    def _root(self) -> Path:
        return Path(self.app.srcdir).resolve().parent

    def _lead(self, node: nodes.Element, path: Path, anchor: str | None, shown: list[nodes.Node]) -> None:
        """Replaces a node by a link to a file, if it is one of the repository."""
        path = Path(os.path.normpath(path))
        if not path.exists() or not path.is_relative_to(self._root):
            return
        document = self._document(path)
        if document is None:
            kind = "tree" if path.is_dir() else "blob"
            address = f"{self.config.repository_address}/{kind}/main/{path.relative_to(self._root)}"
            link = nodes.reference(refuri=address + (f"#{anchor}" if anchor else ""))
        elif document == self.env.docname and not anchor:
            return
        else:
            target = {"reftarget": document, "reftargetid": anchor or None, "refdoc": self.env.docname}
            link = addnodes.pending_xref(refdomain="doc", reftype="myst", refexplicit=True, **target)
        node.replace_self(link)
        link.extend(shown)

    def _document(self, path: Path) -> str | None:
        """The page that is made of a file."""
        for page, file in self.config.pages_of_files.items():
            if path == self._root / file:
                return page
        # docs/ has a link to the notebooks' folder.
        linked = Path(self.app.srcdir) / path.relative_to(self._root)
        documents = [self.env.path2doc(each) for each in (path, linked)]
        return next((each for each in documents if each in self.env.found_docs), None)


def _is_unknown(node: nodes.Node) -> bool:
    """Whether this is a reference that MyST has left to be found by its name, or to a Markdown file out of docs/."""
    if not isinstance(node, addnodes.pending_xref) or node.get("reftype") != "myst":
        return False
    return node["refdomain"] is None or node["reftarget"].startswith("/")


def setup(app: Sphinx) -> dict:
    """Called by Sphinx."""
    app.add_config_value("repository_address", "", "env")
    app.add_config_value("pages_of_files", {}, "env")
    app.add_transform(RepositoryLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
