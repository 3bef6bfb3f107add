"""Figures with captions as one HTML page that needs nothing else: no network, no scripts, light and dark."""

import base64
import html
import io
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

_DPI = 110
_STYLE = """
:root { color-scheme: light dark; --page: #fff; --text: #1b1f24; --soft: #57606a; --line: #d0d7de; --code: #f3f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171b; --text: #e6e9ed; --soft: #9aa4af; --line: #343b44; --code: #20252b; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem; max-width: 1100px; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .2rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0 0 1rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
nav { columns: 2; font-size: .95rem; }
nav a { display: block; color: inherit; }
.scroll { overflow-x: auto; background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 8px;
  margin: .6rem 0; }
.scroll img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figure { margin: 0; }
figcaption p { margin: .4rem 0; }
pre { background: var(--code); border-radius: 6px; padding: .5rem .7rem; overflow-x: auto; font-size: .85rem;
  margin: .5rem 0; }
ul.missing { color: var(--soft); padding-left: 1.2rem; }
@media (max-width: 700px) {
  body { padding: .8rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .4rem; }
  nav { columns: 1; }
  .scroll img.wide { max-width: 860px; }
}
"""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
      figures: what it shows, at least one, with a text for who cannot see each.
      caption: what is seen, and the paper's equation or figure.
      call: the Python that draws it.
    """

    figures: Sequence[tuple[Figure, str]]
    caption: str
    call: str


def render(title: str, about: Mapping[str, str], sections: Mapping[str, Section], missing: Mapping[str, str]) -> str:
    """The page.

    Args:
      title: its first heading.
      about: what the head says, by name.
      sections: by heading, in their order.
      missing: the titles of sections that there are none of here, and why.
    """
    rows = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in about.items())
    links = "".join(f'<a href="#s{n}">{_text(each)}</a>' for n, each in enumerate(sections))
    left_out = "".join(f"<li><b>{_text(name)}</b>: {_text(reason)}.</li>" for name, reason in missing.items())
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{_text(title)}</h1>\n<dl>{rows}</dl>\n<nav>{links}</nav>\n"
        + "".join(_section(number, name, section) for number, (name, section) in enumerate(sections.items()))
        + (f'<h2>Not in this report</h2>\n<ul class="missing">{left_out}</ul>\n' if missing else "")
        + "</body>\n</html>\n"
    )


def _section(number: int, title: str, section: Section) -> str:
    pictures = "".join(_picture(figure, text) for figure, text in section.figures)
    return (
        f'<h2 id="s{number}">{_text(title)}</h2>\n<figure>{pictures}'
        f"<figcaption><p>{_text(section.caption)}</p><pre>{_text(section.call)}</pre></figcaption></figure>\n"
    )


def _picture(figure: Figure, text: str) -> str:
    figure.savefig(content := io.BytesIO(), format="png", dpi=_DPI, bbox_inches="tight", pad_inches=0.05)
    png = content.getvalue()
    # As its header has them.
    width, height = struct.unpack(">II", png[16:24])
    # What is wide scrolls on a phone, where its tiles would be specks.
    kind = ' class="wide"' if width > 700 else ""
    return (
        f'<div class="scroll"><img{kind} alt="{_text(text)}" width="{width}" height="{height}" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}"></div>\n'
    )


def _text(text: str) -> str:
    return html.escape(text)
