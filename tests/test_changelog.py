import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_newest_heading_is_the_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\]", text, re.M)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert headings[:2] == ["Unreleased", version["project"]["version"]]
    released = [tuple(map(int, heading.split("."))) for heading in headings[1:]]
    assert released == sorted(set(released), reverse=True)
