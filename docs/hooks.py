"""What the site needs beside the pages: its front page and changes, and links into the sources.

The pages are read in the repository as well, where a link may lead to `../src` or to a test. The
site does not hold those files, so there the link becomes its text. A file that does not exist fails
the build.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((\.\./[^)#\s]*)(?:#[^)]*)?\)")
GENERATED = {"index.md": "README.md", "changes.md": "CHANGELOG.md"}
"""Pages of the site that are files of the repository's root."""

log = logging.getLogger("mkdocs.hooks.farstep")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie outside `docs`."""
    from mkdocs.structure.files import File

    for name, source in GENERATED.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        # As if it lay in `docs`: links to pages lose that folder, others lead one up.
        text = re.sub(r"\]\((?!https?:|#|docs/)", "](../", text).replace("](docs/", "](")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace links to files outside `docs` by their text."""

    def replaced(link: re.Match[str]) -> str:
        if not (ROOT / "docs" / link[2]).exists():
            log.warning("%s links to %s, which does not exist", page.file.src_uri, link[2])
        return link[1]

    return LINK.sub(replaced, markdown)
