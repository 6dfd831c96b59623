"""Texts are in plain English: this finds phrases that readers had to guess at."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
AVOIDED = re.compile(
    r"\btold\b|\bwhoever\b|\b(?:no|some)body\b|\bso many\b|\bwhose\b|\bthat is none\b"
    r"|\bis no (?!longer)\w+|\bstands? (?:in|there|for|at|beside)\b|\bcomes? about\b"
    r"|\b(?:is|are) said to\b|\bsaid to be\b|\bcannot be[,;:.]|; None: |\blies (?:in|on|at)\b"
    r"|\bblamed time\b|\bastray\b|\bexchange them\b|\bnot suffice\b|\bwho comes?\b"
    r"|\bworth \d+ independent\b|\bno interval: no interval\b|\bwithout an end:",
    re.IGNORECASE,
)


def test_no_avoided_phrase_is_used():
    names = ("README.md", "CHANGELOG.md", "data/README.md")
    files = [ROOT / name for name in names] + sorted((ROOT / "notebooks").glob("*.ipynb"))
    files += [path for folder in ("latprof", "tests") for path in (ROOT / folder).rglob("*.py")]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if AVOIDED.search(line)
    ]
    assert found == [], "\n".join(found)
