"""An extension of mkdocstrings' reader: the package's `Example:` blocks are shown as code."""

import re

import griffe


class DocstringExamples(griffe.Extension):
    """Rename each `Example:` section to `Examples:`, the one that the reader knows as code."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Rename the section in the docstring of an object."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)
