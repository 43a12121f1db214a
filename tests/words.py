"""Compare printed text without its line breaks."""


def words(text: str) -> str:
    """Return the text with single blanks."""
    return " ".join(text.split())
