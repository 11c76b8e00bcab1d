"""Holds the table of proofs against the product's list of requirements and against the tests. Run by the build:

    python3 tests/policy/check.py [--stamp FILE]

Exit code 1, with a line for each thing that is missing, when a requirement or a violation has no proof, or a proof names no test.
"""

import argparse
import ast
import dataclasses
import pathlib
import re
import sys

KINDS = ("load", "flow", "run")


@dataclasses.dataclass(frozen=True)
class Requirement:
    name: str
    id: str
    final_id: str
    level: int


@dataclasses.dataclass(frozen=True)
class NoProof:
    """In place of proofs, where the page of requirements asks for nothing of the kind."""
    reason: str


def entries(text, macro):
    """The X(...) entries of a list that is a macro, without what is in their strings."""
    begin = text.find(f"#define {macro}(X)")
    if begin < 0:
        raise ValueError(f"there is no list {macro}")
    body = []
    for line in text[begin:].splitlines():   # up to the first line that does not go on
        body.append(line.rstrip("\\"))
        if not line.endswith("\\"):
            break
    body = "\n".join(body[1:])
    return re.findall(r"\bX\(((?:\"[^\"]*\"|[^\"()])*)\)", body)


def read_requirements(checkout):
    text = (pathlib.Path(checkout) / "control/policy/requirement.h").read_text()
    found = []
    for entry in entries(text, "SALLYPORT_REQUIREMENTS"):
        match = re.fullmatch(r"\s*(\w+), \"([\d.]+)\", \"([\d.]+)\", (\d), \".*\"\s*", entry)
        if not match:
            raise ValueError(f"an entry of SALLYPORT_REQUIREMENTS that cannot be read: {entry}")
        found.append(Requirement(match.group(1), match.group(2), match.group(3), int(match.group(4))))
    return found


def read_violations(checkout):
    text = (pathlib.Path(checkout) / "control/policy/requirement.h").read_text()
    return [entry.split(",")[0].strip() for entry in entries(text, "SALLYPORT_VIOLATIONS")]


class KnownTests:
    """What tests there are, by reading their source: nothing is imported or run."""

    def __init__(self, checkout):
        self.system = pathlib.Path(checkout) / "tests/system"
        self.functions = {}
        unit = re.compile(r"^(?:TYPED_)?TEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\s*\)", re.MULTILINE)
        self.bodies = {}   # of unit tests, by Suite.Case
        for file in (pathlib.Path(checkout) / "tests/unit").rglob("*_test.cpp"):
            text = file.read_text()
            found = list(unit.finditer(text))
            for match, after in zip(found, [*found[1:], None]):
                self.bodies[".".join(match.groups())] = text[match.end():after.start() if after else len(text)]
        self.cases = set(self.bodies)

    def twice(self):
        """System tests that another of the same name in the same file hides."""
        hidden = {}
        for path in sorted(self.system.glob("test_*.py")):
            names = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
            if doubles := sorted({name for name in names if names.count(name) > 1}):
                hidden[path.name] = doubles
        return hidden

    # What a test of a running state must speak of: something that has gone bad, and is seen. Not that all is well.
    BAD = re.compile(r"\balarms?\b|\bviolated\b|identity_revoked|\bdown\b|revoked")

    def shows_a_bad_state(self, proof):
        """Whether the test's own text says so."""
        if re.fullmatch(r"\w+\.\w+", proof) and not proof.endswith(".py"):
            return bool(self.BAD.search(self.bodies.get(proof, "")))
        match = re.fullmatch(r"(\w+\.py)::(\w+)(?:\[(.+)\])?", proof)
        path = self.system / match.group(1) if match else None
        if path is None or not path.exists():
            return False
        text = path.read_text()
        return any(node.name == match.group(2) and self.BAD.search(ast.get_source_segment(text, node))
                   for node in ast.parse(text).body if isinstance(node, ast.FunctionDef))

    def problem(self, proof):
        """What is wrong with a proof; None: it names a test."""
        if match := re.fullmatch(r"(\w+)\.(\w+)", proof):
            return None if proof in self.cases else f"there is no unit test {match.group(0)}"
        match = re.fullmatch(r"(\w+\.py)::(\w+)(?:\[(.+)\])?", proof)
        if not match:
            return f"{proof} is neither FILE::TEST[CASE] nor Suite.Case"
        file, function, parameters = match.groups()
        if file not in self.functions:
            path = self.system / file
            tree = ast.parse(path.read_text()) if path.exists() else ast.Module(body=[], type_ignores=[])
            literals = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
            tests = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
            shared = self.system / "policy_lab.py"
            self.functions[file] = tests, literals | ({node.value for node in ast.walk(ast.parse(shared.read_text()))
                                                        if isinstance(node, ast.Constant)} if shared.exists() else set())
        tests, literals = self.functions[file]
        if function not in tests:
            return f"there is no test {function} in tests/system/{file}"
        if skipped(tests[function]):
            return f"{function} in tests/system/{file} is skipped always"
        if parameters and parameters not in literals:
            return f"{function} in tests/system/{file} has no case '{parameters}'"
        return None


def skipped(function):
    return any("skip" == part.attr for decorator in function.decorator_list for part in ast.walk(decorator) if isinstance(part, ast.Attribute))


def problems(requirements, violations, proofs, proofs_of_violations, tests):
    found = []
    known = {requirement.id for requirement in requirements}
    for requirement in requirements:
        for kind in KINDS:
            named = proofs.get(requirement.id, {}).get(kind)
            if isinstance(named, NoProof):
                if not named.reason.strip():
                    found.append(f"{requirement.id} ({requirement.final_id}): no reason why it needs no {kind} proof")
            elif not named:
                found.append(f"{requirement.id} ({requirement.final_id}): no {kind} proof; add a test and name it in tests/policy/table.py")
            else:
                found += [f"{requirement.id} ({requirement.final_id}), {kind}: {wrong}" for proof in named if (wrong := tests.problem(proof))]
                if kind == "run" and not any(tests.shows_a_bad_state(proof) for proof in named):
                    found.append(f"{requirement.id} ({requirement.final_id}): no run proof shows a state that has gone bad, only that all is well")
    for file, lines in tests.twice().items():
        found += [f"tests/system/{file}: {name} is there twice; the first is never run" for name in lines]
    for violation in violations:
        named = proofs_of_violations.get(violation)
        if not named:
            found.append(f"violation {violation}: no proof; add a test and name it in tests/policy/table.py")
        else:
            found += [f"violation {violation}: {wrong}" for proof in named if (wrong := tests.problem(proof))]
    found += [f"{name}: is in tests/policy/table.py, but in no list of control/policy/requirement.h"
              for name in [*(set(proofs) - known), *(set(proofs_of_violations) - set(violations))]]
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--stamp", help="file to touch when everything is proven")
    arguments = parser.parse_args()
    checkout = pathlib.Path(__file__).resolve().parents[2]
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(checkout))
    from tests.policy import check, table   # `check` by its real name: classes of __main__ would be others
    found = check.problems(check.read_requirements(checkout), check.read_violations(checkout), table.PROOFS, table.VIOLATIONS, check.KnownTests(checkout))
    for problem in found:
        print(f"policy proofs: {problem}", file=sys.stderr)
    if found:
        return 1
    if arguments.stamp:
        pathlib.Path(arguments.stamp).touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
