"""Write README.md from nbs/index.ipynb: its text, the code a reader sees, and the outputs that were stored.

`--check` writes nothing and fails when README.md is not what the notebook gives. Figures go to nbs/images/.
"""
from __future__ import annotations

import argparse
import base64
import os
import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
HEAD = "<!-- Written by `make sync` from nbs/index.ipynb. Edit that notebook. -->\n\n"
HIDDEN = re.compile(r"^#\|\s*(hide|include:\s*false|export\b|default_exp)", re.MULTILINE)
ALT = re.compile(r"^#\|\s*fig-alt:\s*(.+)$", re.MULTILINE)
LINK = re.compile(r"(!?\[[^\]]*\]\()(?!https?://|#|mailto:|/)([^)\s]+)(\))")


def joined(value) -> str:
    return value if isinstance(value, str) else "".join(value)


def relink(text: str) -> str:
    "Links are relative to nbs/ in the notebook and to the repository's top in the README."
    def moved(match: re.Match) -> str:
        path, _, anchor = match[2].partition("#")
        if path.endswith(".html"):
            path = path.removesuffix(".html") + ".ipynb"
        target = Path(os.path.normpath(NBS / path)).relative_to(ROOT).as_posix()
        return f"{match[1]}{target}{'#' + anchor if anchor else ''}{match[3]}"
    return LINK.sub(moved, text)


def fenced(text: str, language: str = "") -> str:
    ticks = "`" * max(3, 1 + max((len(m) for m in re.findall(r"`+", text)), default=0))
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}"


def show(output, images: dict[str, bytes], alt: str = "") -> str:
    "One output in the richest form that a README shows; pictures are collected in `images`, `alt` says what they show."
    if output.output_type == "stream":
        return fenced(joined(output.text), "text")
    data = output.get("data", {})
    if "image/png" in data:
        name = f"images/index-{len(images) + 1}.png"
        images[name] = base64.b64decode(data["image/png"])
        return f"![{alt}](nbs/{name})"
    if "text/markdown" in data:
        return relink(joined(data["text/markdown"]))
    return fenced(joined(data["text/plain"]), "text") if data.get("text/plain") else ""


def render(path: Path) -> tuple[str, dict[str, bytes]]:
    "The README and its pictures."
    parts: list[str] = []
    images: dict[str, bytes] = {}
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "markdown":
            parts.append(relink(cell.source))
        elif cell.cell_type == "code" and not HIDDEN.search(cell.source):
            code = "\n".join(line for line in cell.source.splitlines() if not line.startswith("#|")).strip()
            if code and not re.search(r"^#\|\s*echo:\s*false", cell.source, re.MULTILINE):
                parts.append(fenced(code, "bash" if code.startswith("!") else "python"))
            alt = ALT.search(cell.source)
            parts += [show(output, images, alt[1].strip('"') if alt else "") for output in cell.outputs]
    return HEAD + "\n\n".join(part.strip() for part in parts if part.strip()) + "\n", images


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    index = NBS / "index.ipynb"
    if not index.exists():
        print("no nbs/index.ipynb, so no README.md")
        return 1
    text, images = render(index)
    wanted = {ROOT / "README.md": text.encode(), **{NBS / name: data for name, data in images.items()}}
    if args.check:
        wrong = [p.relative_to(ROOT).as_posix() for p, data in wanted.items()
                 if not p.exists() or p.read_bytes() != data]
        print(f"not what nbs/index.ipynb gives: {', '.join(wrong)}; run `make sync` and commit" if wrong else
              f"README.md is what nbs/index.ipynb gives ({len(text.split())} words, {len(images)} figures)")
        return bool(wrong)
    for target, data in wanted.items():
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
