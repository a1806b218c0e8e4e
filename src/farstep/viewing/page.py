"""The page itself: files that a server sends, or all of them in one file that needs none.

Modules import one another by bare names such as `farstep/metric.js`, which an import map turns into
addresses: of the server's files, or of `data:` URLs that hold the modules.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

PAGE = Path(__file__).parent / "page"

PLOTTING = ("uplot/uPlot.iife.min.js", "uplot/uPlot.min.css")
"""What draws curves, as its authors made it."""


@cache
def files() -> Mapping[str, bytes]:
    """What a browser may ask for, by name below `page/`."""
    own = [path.name for path in sorted(PAGE.iterdir()) if path.suffix in (".js", ".css")]
    return {name: (PAGE / name).read_bytes() for name in (*own, *PLOTTING)}


def served() -> tuple[str, str]:
    """The page for a server that answers for `page/NAME`, and its content security policy."""
    imports = json.dumps({"imports": {"farstep/": "./page/"}})
    script, style = PLOTTING
    head = (
        "\n".join(f'<link rel="stylesheet" href="page/{name}">' for name in (style, "style.css")),
        f'<script type="importmap">{imports}</script>\n<script src="page/{script}"></script>\n'
        '<script type="module" src="page/main.js"></script>',
    )
    digest = base64.b64encode(hashlib.sha256(imports.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; script-src 'self' 'sha256-{digest}'; style-src 'self'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return _page(*head, ""), policy


def exported(documents: Mapping[str, object]) -> str:
    """The page with all that it shows, in one file that asks nobody for anything.

    Args:
        documents: JSON values by the name that the page asks for them by.
    """
    script, style = PLOTTING
    modules = {
        f"farstep/{name}": "data:text/javascript;base64," + base64.b64encode(text).decode("ascii")
        for name, text in files().items()
        if name.endswith(".js") and name != script
    }
    # The browser itself then holds the file to asking nobody.
    policy = (
        "default-src 'none'; script-src 'unsafe-inline' data:; style-src 'unsafe-inline'; "
        "img-src data:"
    )
    styles = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n' + "\n".join(
        f"<style>{files()[name].decode()}</style>" for name in (style, "style.css")
    )
    scripts = (
        f'<script type="importmap">{_embedded({"imports": modules})}</script>\n'
        f"<script>{files()[script].decode()}</script>\n"
        '<script type="module">import "farstep/main.js";</script>'
    )
    content = f'<script type="application/json" id="content">{_embedded(documents)}</script>'
    return _page(styles, scripts, content)


def _page(styles: str, scripts: str, content: str) -> str:
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    for mark, text in (("styles", styles), ("scripts", scripts), ("content", content)):
        page = page.replace(f"<!-- {mark} -->", text)
    return page


def _embedded(value: object) -> str:
    """JSON that can stand inside a script element."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
