"""What the READMEs promise of themselves."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_every_must_of_tcp_has_its_row_and_every_test_in_it_exists():
    """RFC 9293, appendix B: "MUST-1" to "MUST-69"."""
    text = (ROOT / "dataplane/tcp/README.md").read_text()
    table = text[text.index("## The MUSTs of RFC 9293"):]
    rows = re.findall(r"^\| ([\d, ]+) \| .+ \| (.+) \|$", table, re.MULTILINE)
    numbers = sorted(int(number) for row, _ in rows for number in row.split(","))
    assert numbers == list(range(1, 70))
    sources = "\n".join(file.read_text() for file in (ROOT / "tests/unit").rglob("*_test.cpp"))
    for _, tests in rows:
        for test in tests.split(", "):
            if test == "simulation":
                continue
            suite, name = test.split(".")
            if suite.startswith("test_"):   # of tests/conformance
                assert f"\ndef {name}(" in (ROOT / f"tests/conformance/{suite}.py").read_text(), test
                continue
            assert re.search(rf"TEST(?:_F|_P)?\({suite}, {name}\)", sources), test
