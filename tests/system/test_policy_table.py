"""That the table of proofs is complete, and that its check sees what is missing. Needs no lab."""

import pathlib

import pytest

from tests.policy import table
from tests.policy.check import NoProof, KnownTests, problems, read_requirements, read_violations

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]


def found(proofs=None, violations=None):
    return problems(read_requirements(CHECKOUT), read_violations(CHECKOUT), proofs or table.PROOFS, violations or table.VIOLATIONS, KnownTests(CHECKOUT))


def without(requirement, kind, instead):
    return {**table.PROOFS, requirement: {**table.PROOFS[requirement], kind: instead}}


def test_complete():
    assert found() == []
    assert len(read_requirements(CHECKOUT)) == 12


@pytest.mark.parametrize("instead, said", [
    ([], "no flow proof"),
    (["test_policy_flows.py::test_that_was_never_written"], "there is no test test_that_was_never_written"),
    (["test_nowhere.py::test_client_is_refused"], "there is no test test_client_is_refused in tests/system/test_nowhere.py"),
    (["test_policy_flows.py::test_client_is_refused[no-such-case]"], "has no case 'no-such-case'"),
    (["NoSuite.NoCase"], "there is no unit test NoSuite.NoCase"),
    (["nonsense"], "is neither"),
    (NoProof(" "), "no reason"),
])
def test_what_is_missing_is_seen(instead, said):
    told = found(without("9.4.1", "flow", instead))
    assert len(told) == 1 and said in told[0] and "9.4.1" in told[0], told


def test_run_proof_must_show_a_bad_state():
    told = found(without("9.4.1", "run", ["test_policy_report.py::test_refusals_are_no_violations_of_ours", "LongestValidity.FollowsTheDateOfIssue"]))
    assert len(told) == 1 and "gone bad" in told[0] and "9.4.1" in told[0], told


def test_reason_is_enough():
    assert found(without("9.4.1", "flow", NoProof("the page asks for none"))) == []


def test_missing_and_unknown_entries_are_seen():
    proofs = {name: kinds for name, kinds in table.PROOFS.items() if name != "9.4.5"} | {"9.9.9": table.PROOFS["9.4.5"]}
    told = found(proofs, {name: proof for name, proof in table.VIOLATIONS.items() if name != "downgrade"})
    assert len(told) == 5, told   # three kinds, a violation, an entry too many


def test_unit_tests_are_known():
    assert found(without("9.4.1", "flow", ["ServerHandshake.Nothing"])) != []
    name = sorted(KnownTests(CHECKOUT).cases)[0]
    assert found(without("9.4.1", "flow", [name])) == []
