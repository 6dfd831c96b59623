"""Names in CSV files that a spreadsheet would run as formulas are written after an apostrophe."""

__all__ = ["with_apostrophe", "without_apostrophe"]

# what begins a formula, also in full width, and what spreadsheets skip before one
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def with_apostrophe(name: str) -> str:
    """Return a name that is not a formula, from which `without_apostrophe` makes `name` again.

    Examples
    --------
    >>> with_apostrophe("=1+1"), with_apostrophe("'=1"), with_apostrophe("it's")
    ("'=1+1", "''=1", "it's")
    """
    return f"'{name}" if name.lstrip("'").startswith(_FORMULA) else name


def without_apostrophe(name: str) -> str:
    """Return the name that `with_apostrophe` was given.

    Examples
    --------
    >>> without_apostrophe("'=1+1"), without_apostrophe("it's"), without_apostrophe("'em")
    ('=1+1', "it's", "'em")
    """
    quoted = name.startswith("'") and name.lstrip("'").startswith(_FORMULA)
    return name[1:] if quoted else name
