"""What MkDocs calls while it builds the site: pages that are made from the code."""

import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = str(Path(__file__).parents[2])


def generated_pages() -> dict[str, str]:
    """Path of a page in the site's sources -> its Markdown."""
    if _ROOT not in sys.path:  # MkDocs takes back what a hook adds while it is loaded
        sys.path.insert(0, _ROOT)
    from docs.generators.commands import commands_page
    from docs.generators.results import results_page
    from docs.generators.settings import settings_page

    return {
        "reference/commands.md": commands_page(),
        "reference/settings.md": settings_page(),
        "results.md": results_page(),
    }


def on_files(files: Files, config: Any) -> Files:
    """Adds the generated pages to those that lie in docs/."""
    for path, content in generated_pages().items():
        files.append(File.generated(config, path, content=content))
    return files
