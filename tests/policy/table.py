"""How each requirement of the policy is proven: at load, in a flow, while running; and each violation that a flow can commit.

A proof is "FILE::TEST" of the system tests (with "[CASE]" for one case of a table), or "Suite.Case" of a unit test. Where the
requirements' own page asks for nothing of a kind, there is NoProof with the reason. check.py compares this with the product's
list in control/policy/requirement.h and with the tests; whatever is missing fails the build.
"""

import pathlib

from .check import NoProof, read_requirements

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
REQUIREMENTS = {requirement.id: requirement for requirement in read_requirements(CHECKOUT)}

LOAD, FLOW, RUN = "load", "flow", "run"


def refused(*names):
    return [f"test_policy_load.py::test_refused[{name}]" for name in names]


def flows(*names):
    return [f"test_policy_flows.py::{name}" for name in names]


PROOFS = {
    "9.1.1": {
        LOAD: refused("service-without-certificates", "service-where-clients-speak-plain-http", "redirect-where-clients-speak-tls", "waiver-for-plain-text"),
        FLOW: flows("test_no_tls_is_dropped", "test_failed_handshake_never_becomes_pass_through", "test_no_control_no_service")
        + ["test_policy_redirect.py::test_same_host_and_path_over_https", "test_policy_redirect.py::test_anything_else_is_refused"],
        RUN: ["test_policy_report.py::test_every_listener_speaks_tls_or_redirects", "Running.ClearOctets_AreAViolation",
              "Running.ListenerThatIsNeitherServiceNorRedirect_IsAViolation"],
    },
    "9.1.4": {
        LOAD: refused("certificate-of-an-unknown-root", "certificate-of-an-internal-authority", "certificate-not-for-servers", "certificate-expired",
                      "certificate-not-yet-valid", "certificate-with-another-key", "certificate-that-lives-too-long-for-its-issue-date")
        + ["test_policy_load.py::test_lifetime_within_the_limit_of_its_issue_date"],
        FLOW: flows("test_client_is_refused[unknown-name]") + ["test_policy_ech.py::test_unknown_inner_name_is_refused"],
        RUN: ["test_policy_report.py::test_expiry_raises_an_alarm"],
    },
    "9.2.2": {
        LOAD: refused("pool-in-plain-text"),
        FLOW: flows("test_nothing_was_passed_on", "test_backend_outside_the_policy[not-tls]") + ["Connections.PlainTextBackend_IsRefusedByTheGate"],
        RUN: ["test_policy_report.py::test_every_connection_is_listed", "test_policy_report.py::test_clear_connection_stands_in_the_matrix_with_its_waiver", "Waiver.ForPlainText_EndsWhileItRuns",
              "Running.Connections_AreAMatrixToWhichOthersAdd"],
    },
    "9.2.6": {
        LOAD: refused("pool-without-trust", "pool-with-a-bad-pin", "pool-with-an-empty-name"),
        FLOW: flows("test_backend_is_refused", "test_nothing_was_passed_on"),
        RUN: ["test_policy_report.py::test_live_flow_ends_when_its_backend_is_revoked"],
    },
    "9.3.1": {
        LOAD: refused("internal-pool-in-plain-text"),
        FLOW: flows("test_backend_outside_the_policy[not-tls]"),
        RUN: ["test_policy_report.py::test_health_checks_verify", "Waiver.ForPlainText_EndsWhileItRuns"],
    },
    "9.3.2": {
        LOAD: refused("pool-trusts-a-public-root", "pool-trusts-no-authority"),
        FLOW: flows("test_backend_is_refused[public]", "test_backend_is_refused[other-ca]", "test_backend_is_refused[self-signed]",
                    "test_backend_outside_the_policy[wrong-pin]", "test_pinned_backend_is_believed", "test_anchor_is_shown"),
        RUN: ["test_policy_report.py::test_expiry_raises_an_alarm", "Running.PinnedCertificateThatEnds_RaisesTheAlarm"],
    },
    "9.3.3": {
        LOAD: refused("pool-without-client-certificate", "client-certificate-not-for-clients"),
        FLOW: flows("test_backend_outside_the_policy[name-list]", "test_backend_that_asks_gets_the_certificate", "test_early_data_is_skipped",
                    "test_tickets_allow_no_early_data"),
        RUN: ["test_policy_report.py::test_expiry_raises_an_alarm", "test_policy_report.py::test_tickets_are_sealed_with_a_young_key",
              "Running.EchAndTicketKeysThatDoNotRotate_RaiseTheAlarm"],
    },
    "9.4.1": {
        LOAD: refused("rsa-key-of-2048-bits", "rsa-key-of-1024-bits", "rsa-key-at-level-3"),
        FLOW: flows("test_client_is_refused", "test_compression_is_refused", "test_renegotiation_is_refused", "test_gnutls_is_held_to_the_policy")
        + ["test_policy_scanners.py::test_sslscan", "test_policy_scanners.py::test_testssl"],
        RUN: ["test_policy_report.py::test_negotiated_is_in_the_evidence", "Running.SuiteOutsideTheCatalogue_IsAViolation"],
    },
    "9.4.2": {
        LOAD: refused("version-1.1", "no-version"),
        FLOW: flows("test_client_is_refused[version-1.1]", "test_client_is_refused[version-1.0]", "test_client_is_refused[fall-back]",
                    "test_backend_outside_the_policy[old-version]") + ["test_policy_ech.py::test_level_3"],
        RUN: ["test_policy_report.py::test_negotiated_is_in_the_evidence", "Running.VersionThatIsNeither12Nor13_IsAViolation"],
    },
    "9.4.3": {
        LOAD: refused("no-way-to-learn-of-revocation", "must-staple-without-responder") + ["test_policy_load.py::test_waiver"],
        FLOW: ["test_policy_revocation.py::test_staple_is_sent_when_asked", "test_policy_revocation.py::test_must_staple_is_stapled",
               "test_policy_flows.py::test_backend_is_refused[revoked]", "test_policy_mutual_tls.py::test_client_is_refused[revoked]",
               "test_policy_revocation.py::test_backend_with_a_stapled_answer",
               "test_policy_revocation.py::test_unknown_client_is_refused_at_level_3",
               "test_policy_revocation.py::test_unknown_backend_is_refused_at_level_3"],
        RUN: ["test_policy_revocation.py::test_lying_responder", "test_policy_revocation.py::test_lying_crl_server_at_level_2",
              "test_policy_revocation.py::test_revoked_own_certificate_is_not_served",
              "test_policy_revocation.py::test_staples_survive_a_restart"],
    },
    "9.4.4": {
        LOAD: refused("service-without-ech", "public-name-without-certificate"),
        FLOW: ["test_policy_ech.py::test_inner_name_is_served", "test_policy_ech.py::test_inner_name_is_not_on_the_wire",
               "test_policy_ech.py::test_wrong_key_gets_retry_configurations_and_nothing_else", "test_policy_ech.py::test_grease_never_fails",
               "test_policy_ech.py::test_outer_name_serves_no_tenant"],
        RUN: ["test_policy_ech.py::test_keys_outlive_a_restart", "test_policy_ech.py::test_level_3", "Running.EchAndTicketKeysThatDoNotRotate_RaiseTheAlarm"],
    },
    "9.4.5": {
        LOAD: refused("clients-of-a-public-root", "clients-without-authorities", "identity-forwarded-without-asking-for-one"),
        FLOW: ["test_policy_mutual_tls.py::test_client_is_refused", "test_policy_mutual_tls.py::test_verified_client_is_served_and_forwarded",
               "test_policy_mutual_tls.py::test_optional", "test_policy_mutual_tls.py::test_resumption_stays_in_its_service",
               "test_policy_mutual_tls.py::test_session_of_an_open_service_does_not_enter"],
        RUN: ["test_policy_revocation.py::test_live_flow_ends_when_its_client_is_revoked",
              "test_policy_report.py::test_another_client_ca_ends_flows_and_sessions", "Running.ClientsCrlThatIsStale_RaisesTheAlarm"],
    },
}

VIOLATIONS = {
    "plain_text": flows("test_no_tls_is_dropped"),
    "unknown_name": flows("test_client_is_refused[unknown-name]"),
    "client_version": flows("test_client_is_refused[version-1.1]"),
    "client_suite": flows("test_client_is_refused[rsa-key-transport]"),
    "client_group": flows("test_client_is_refused[ffdhe2048]"),
    "client_signature_scheme": flows("test_client_is_refused[pkcs1-v1.5]"),
    "no_extended_master_secret": flows("test_client_is_refused[no-extended-master-secret]"),
    "compression": flows("test_compression_is_refused"),
    "no_application_protocol": flows("test_client_is_refused[unknown-protocol]"),
    "early_data": flows("test_early_data_is_skipped"),
    "downgrade": flows("test_client_is_refused[fall-back]"),
    "client_certificate_missing": ["test_policy_mutual_tls.py::test_client_is_refused[none]"],
    "client_certificate_invalid": ["test_policy_mutual_tls.py::test_client_is_refused[expired]"],
    "client_name_not_allowed": ["test_policy_mutual_tls.py::test_client_is_refused[wrong-name]"],
    "client_revoked": ["test_policy_mutual_tls.py::test_client_is_refused[revoked]"],
    "client_revocation_unknown": ["test_policy_revocation.py::test_unknown_client_is_refused_at_level_3"],
    "ech_rejected": ["test_policy_ech.py::test_wrong_key_gets_retry_configurations_and_nothing_else"],
    "backend_version": flows("test_backend_outside_the_policy[old-version]"),
    "backend_suite": flows("test_backend_outside_the_policy[old-suite]"),
    "backend_not_tls": flows("test_backend_outside_the_policy[not-tls]"),
    "backend_certificate_invalid": flows("test_backend_is_refused[expired]"),
    "backend_wrong_name": flows("test_backend_is_refused[wrong-name]"),
    "backend_not_trusted": flows("test_backend_is_refused[other-ca]"),
    "backend_name_not_allowed": flows("test_backend_outside_the_policy[name-list]"),
    "backend_plain_text": ["Connections.PlainTextBackend_IsRefusedByTheGate"],
    "pool_identity_revoked": ["BackendCertificate.OurOwnRevoked_IsNotShown"],
    "backend_revoked": flows("test_backend_is_refused[revoked]"),
    "backend_revocation_unknown": ["test_policy_revocation.py::test_unknown_backend_is_refused_at_level_3"],
}

__all__ = ["PROOFS", "REQUIREMENTS", "VIOLATIONS", "NoProof"]
