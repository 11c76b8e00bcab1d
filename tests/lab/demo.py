"""What scripts/demo and scripts/lab --config run inside the firmware root:  python3 -m tests.lab.demo [--keep] [--config FILE]"""

import argparse
import pathlib
import shlex
import shutil
import signal
import sys
import time

from . import network
from .certificates import PUBLIC_NAME
from .configuration import Configuration
from .lab import Appliance, Backend, Lab, LabError, best_profile, tail, wait_for
from .responder import Responder

BEGUN = time.monotonic()


def say(text=""):
    print(text, flush=True)


def step(text):
    say(f"[{time.monotonic() - BEGUN:5.1f} s] {text}")


def show(lab, *command, shown=None, lines=None):
    """Runs a command in the client's namespace and shows it with its output."""
    say(f"    client$ {shown or shlex.join(map(str, command))}")
    done = lab.client(*command)
    output = (done.stdout if done.returncode == 0 else done.stdout + done.stderr).strip("\n").splitlines()
    if lines is not None:
        output = [line for line in output if any(word in line for word in lines)]
    for line in output:
        say(f"      {line}")
    if done.returncode != 0:
        raise LabError(f"exit code {done.returncode}: {shlex.join(map(str, command))}")
    return done


def refuse(lab, *command):
    """Runs a command that must fail, and shows the alert that it got."""
    say(f"    client$ {shlex.join(map(str, command))}")
    done = lab.client(*command)
    alerts = [line.split(":")[5] for line in done.stderr.splitlines() if "alert" in line and line.count(":") > 5]
    if done.returncode == 0 or not alerts:
        raise LabError(f"that was not refused: {done.stdout}{done.stderr}")
    say(f"      {alerts[0]}")


def s_client(lab, *options, port=443, name="www.example.com"):
    return ["openssl", "s_client", "-connect", lab.service(port), "-servername", name, "-CAfile", lab.certificates.ca, "-verify_return_error",
            *options]


def tour(lab, appliance):
    ca = lab.certificates.ca
    for version in ("1.3", "1.2"):
        for family in (4, 6):
            step(f"HTTP over TLS {version}, IPv{family} (curl)" + (": at level 3 a line of the configuration has to ask for it" if version == "1.2" else ""))
            show(lab, "curl", "-sS", f"-{family}", "--cacert", ca, f"--tlsv{version}", "--tls-max", version,
                 "https://www.example.com/whoami")
            say("      (the backend's answer: its address, HTTP version, the TLS that it speaks with the appliance, and whose certificate it was shown)")
    step("Plain HTTP is sent to https, and nothing else")
    show(lab, "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}\\n", "http://www.example.com/whoami")
    step("The negotiated parameters as OpenSSL 4 sees them")
    show(lab, *s_client(lab, "-alpn", "h2"), lines=("Protocol", "Cipher is", "Negotiated TLS1.3 group", "Peer signature type",
                                                    "ALPN protocol", "Verification:"))
    step("A staple: the responder's word that the certificate has not been revoked, sent along with it")
    wait_for("the staple", lambda: "Cert Status: good" in lab.client(*s_client(lab, "-status", "-alpn", "h2")).stdout, 20, 0.2)
    show(lab, *s_client(lab, "-status", "-alpn", "h2"), lines=("OCSP Response Status", "Cert Status", "This Update", "Next Update", "Verification:"))
    step("Encrypted ClientHello: who looks on sees the public name only")
    ech = next(row for row in appliance.show("ech") if row["service"] == "web")["config_list"]
    show(lab, *s_client(lab, "-tls1_3", "-ech_config_list", ech, "-alpn", "h2"), lines=("ECH: ", "Verification:"),
         shown=f"openssl s_client ... -ech_config_list {ech[:24]}...   (from: sallyport show ech --json)")
    step("Refused, with the alert that says why: TLS 1.1, a cipher suite without forward secrecy, TLS 1.2 without extended master secret")
    for options in (["-tls1_1", "-cipher", "ALL@SECLEVEL=0"], ["-tls1_2", "-cipher", "AES256-GCM-SHA384"], ["-tls1_2", "-no_ems"]):
        refuse(lab, *s_client(lab, *options))
    step("1 MiB up and down, compared by SHA-256")
    path = lab.directory / "www/1M"
    sent = network.run("sha256sum", path).stdout.split()[0]
    up = show(lab, "curl", "-sS", "--cacert", ca, "-T", path, "https://www.example.com/upload").stdout.split()
    down = show(lab, "sh", "-c", f"curl -sS --cacert {ca} https://www.example.com/1M | sha256sum").stdout.split()[0]
    if not up[1] == down == sent:
        raise LabError(f"the digests differ: {sent} was sent, {up[1]} came up, {down} came down")
    say("      equal")
    step("100 connections at once to the echo service, 100 kB each, every octet compared")
    report = lab.lab_client(4433, "--connections", 100, "--octets", 100_000, "--together")
    say(f"      {report['ok']} of {report['connections']} in order, {report['octets']} octets, {report['seconds']:.2f} s")


def demonstration(lab):
    """The standard services at policy level 3: ECDSA keys, ECH, a staple, mutual TLS to the backends and their CRL; 1.2 by request."""
    c = lab.certificates
    services, pools = lab.standard_services(), lab.standard_pools()
    for service in services:
        service.certificates, service.ech, service.versions = [c.ecdsa, c.public], {"public_name": PUBLIC_NAME}, ("1.3", "1.2")
    services[0].certificates = [c.www_stapled, c.public]
    for pool in pools:
        pool.identity, pool.crl = tuple(c.appliance), (c.internal.crl_url,)
    return Configuration(services, pools, policy_level=3, profile=best_profile(), redirects={"to-https": 80})


def look(lab, appliance):
    held = lab.client_process("held-flows", "sh", "-c", "; ".join(
        [f"(sleep 30 | openssl s_client -quiet -connect {lab.service(port, family)} -servername {name} -CAfile {lab.certificates.ca} {more}) &"
         for port, family, name, more in ((4433, 4, "echo.example.com", "-tls1_3"), (4433, 6, "echo.example.com", "-tls1_2"),
                                          (443, 4, "www.example.com", "-alpn http/1.1"))]).replace("&;", "&") + " wait")
    try:
        wait_for("three flows", lambda: sum(bool(flow["backend_suite"]) for flow in appliance.flows()) == 3)
        for what in ("policy", "flows", "services", "pools", "revocation", "ech", "failures", "ports", "workers"):
            step(f"sallyport show {what}")
            for line in appliance.cli("show", what).rstrip().splitlines():
                say(f"    {line}")
    finally:
        held.kill_group()
    step("sallyport show counters (those that are not 0)")
    for counter in appliance.show("counters"):
        if counter["value"]:
            say(f"    {counter['value']:>12}  {counter['name']}: {counter['sentence']}")


def how_to_look_around(lab, config):
    v4, v6 = network.APPLIANCE["client"]
    say(f"""
The lab stays up. To look around, from the checkout:
    scripts/lab client curl --cacert {lab.certificates.ca} https://www.example.com/whoami
    scripts/lab client openssl s_client -connect {v4}:4433 -servername echo.example.com -CAfile {lab.certificates.ca}
    scripts/lab appliance sallyport show flows          (or policy, ech, revocation, failures, services, pools, counters, ...; --json)
    scripts/lab backend ss -tn
    scripts/demo --stop
Services       {v4} and {v6}: port 443 (nginx, h2 and http/1.1), port 4433 (echo), port 80 (redirect to https)
Names          www.example.com, echo.example.com (known in the client's namespace)
CA             {lab.certificates.ca}
Certificates   {lab.certificates.directory}
Backends       {network.BACKEND_ADDRESSES[0][0]} and {network.BACKEND_ADDRESSES[0][1]}, ports 443 and 4433 (plain HTTP on 80); CA {lab.certificates.backend_ca}
Configuration  {config}
Logs           {lab.directory}/control.log, {lab.directory}/dataplane.log
""")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", metavar="DIRECTORY", help="stay up until DIRECTORY/stop exists; make DIRECTORY/ready when up")
    parser.add_argument("--config", help="a configuration of one's own, in place of the example")
    parser.add_argument("--no-tour", action="store_true")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    step("namespaces, links, certificates")
    with Lab() as lab:
        responder = Responder(lab.certificates)
        try:
            step("backends: nginx with TLS, echo, which both ask the appliance for its certificate; an OCSP responder and CRL server")
            responder.start()
            lab.start_web(client_ca=lab.certificates.backend_ca)
            Backend(lab, "echo", 4433, "--set", f"VerifyCAFile={lab.certificates.backend_ca}", "--set", "VerifyMode=Require")
            if arguments.config:
                lab.certificates.appliance   # made when it is first asked for: the backends will ask the appliance for it
                config = lab.directory / "sallyport.conf"
                shutil.copy(arguments.config, config)
            else:
                config = lab.write_configuration(demonstration(lab))
            step(f"sallyport-control and sallyport-dataplane with {config} ({best_profile()})")
            appliance = Appliance(lab, config).start()
            if not arguments.no_tour and not arguments.config:
                tour(lab, appliance)
                look(lab, appliance)
            if arguments.keep:
                how_to_look_around(lab, config)
                state = pathlib.Path(arguments.keep)
                (state / "ready").touch()
                while not (state / "stop").exists():
                    time.sleep(0.2)
                    appliance.check_running()
            step("stopping")
            codes = appliance.stop()
            if any(codes):
                raise LabError(f"exit codes of dataplane and control: {codes}{appliance.logs()}")
        except (LabError, RuntimeError, OSError) as error:
            say(f"\nfailed: {error}")
            for name in ("control", "dataplane"):
                log = lab.directory / f"{name}.log"
                if log.exists() and f"--- {name}.log" not in str(error):
                    say(f"--- the end of {name}.log\n{tail(log)}")
            return 1
        finally:
            responder.stop()
    step("done, everything is stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
