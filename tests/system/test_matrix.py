"""Every suite, version, family and certificate; every group."""

import pytest

TLS13 = ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"]
TLS12 = ["AES256-GCM-SHA384", "CHACHA20-POLY1305", "AES128-GCM-SHA256"]
GROUPS = ["X25519MLKEM768", "SecP384r1MLKEM1024", "X25519", "P-256", "P-384"]
# of the peer's key, RFC 8446 4.2.3; the chain is signed with P-256
SIGNATURES = {"rsa": "rsa_pss_rsae_sha256", "ecdsa": "ecdsa_secp256r1_sha256"}
OCTETS = 100_000


def echo(lab, *settings, family=4):
    options = [option for setting in settings for option in ("--set", setting)]
    report = lab.lab_client(4433, "--connections", 3, "--octets", OCTETS, *options, family=family)
    assert report["octets"] == 3 * 2 * OCTETS
    return list(report["negotiated"])


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
@pytest.mark.parametrize("suite", TLS13)
def test_tls13(appliance, lab, suite, kind, family):
    negotiated = echo(lab, "MinProtocol=TLSv1.3", f"Ciphersuites={suite}", f"SignatureAlgorithms={SIGNATURES[kind]}", family=family)
    assert len(negotiated) == 1 and negotiated[0].startswith(f"TLSv1.3 {suite} "), negotiated


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
@pytest.mark.parametrize("suite", TLS12)
def test_tls12(appliance, lab, suite, kind, family):
    name = f"ECDHE-{kind.upper()}-{suite}"
    negotiated = echo(lab, "MaxProtocol=TLSv1.2", f"CipherString={name}", family=family)
    assert len(negotiated) == 1 and negotiated[0].startswith(f"TLSv1.2 {name} "), negotiated


@pytest.mark.parametrize("group", GROUPS)
def test_group(appliance, lab, group):
    if group == "SecP384r1MLKEM1024":
        pass_if = getattr(appliance, "dataplane", None)
        if pass_if is None:
            pytest.skip("the stand-in's list of groups lacks it")
    negotiated = echo(lab, "MinProtocol=TLSv1.3", f"Groups={group}")
    aliases = {"P-256": "secp256r1", "P-384": "secp384r1"}
    assert negotiated[0].split()[-1].lower() in (group.lower(), aliases.get(group, group).lower()), negotiated


def test_hello_retry_request(appliance, lab):
    """The key share is of a group that the appliance does not take; the second ClientHello brings the other."""
    negotiated = echo(lab, "MinProtocol=TLSv1.3", "Groups=P-521:P-256")
    assert negotiated[0].split()[-1].lower() in ("p-256", "secp256r1"), negotiated


@pytest.mark.needs_appliance
def test_strongest_suite_first(appliance, lab):
    assert echo(lab)[0].startswith("TLSv1.3 TLS_AES_256_GCM_SHA384 X25519MLKEM768")
    reverse = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"
    assert echo(lab, f"Ciphersuites={reverse}")[0].startswith("TLSv1.3 TLS_AES_256_GCM_SHA384")
    chacha_first = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"
    assert echo(lab, f"Ciphersuites={chacha_first}")[0].startswith("TLSv1.3 TLS_CHACHA20_POLY1305_SHA256")


@pytest.mark.needs_appliance
@pytest.mark.parametrize("settings", [
    ["MaxProtocol=TLSv1.1", "CipherString=DEFAULT@SECLEVEL=0"],
    ["MaxProtocol=TLSv1.2", "CipherString=ECDHE-RSA-AES128-SHA"],
    ["MaxProtocol=TLSv1.2", "CipherString=AES128-GCM-SHA256"],
    ["MaxProtocol=TLSv1.2", "CipherString=DHE-RSA-AES128-GCM-SHA256"],
    ["MaxProtocol=TLSv1.2", "CipherString=ECDHE-RSA-AES128-GCM-SHA256", "SignatureAlgorithms=rsa_pkcs1_sha256"],
    ["MaxProtocol=TLSv1.2", "Options=-ExtendedMasterSecret"],
    ["MinProtocol=TLSv1.3", "Groups=ffdhe2048"],
    ["MinProtocol=TLSv1.3", "Groups=P-521"],
], ids=lambda settings: " ".join(settings))
def test_outside_the_catalogue_is_refused(appliance, lab, standard, settings):
    options = [option for setting in settings for option in ("--set", setting)]
    report = lab.lab_client(4433, "--connections", 1, *options, check=False)
    assert report["ok"] == 0
    assert "alert" in str(report["failures"]), report
    assert standard.backends["echo"].events() == []
