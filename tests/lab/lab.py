"""The lab: client and backend namespaces joined to the appliance, certificates, backends, and the appliance's processes.

Runs inside one `scripts/enter`; whatever it starts ends with that call. Used by the demonstration, the system tests and
the benchmark.
"""

import contextlib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time

from . import certificates, configuration, network
from .management import Management, Refused

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
WEB_SIZES = {"empty": 0, "1": 1, "100": 100, "1k": 1024, "16k": 16384, "100k": 100_000, "1M": 1 << 20, "16M": 1 << 24}


class LabError(RuntimeError):
    pass


def build_directory():
    return pathlib.Path(os.environ.get("SALLYPORT_BUILD", CHECKOUT / "build/dev")).resolve()


def program(name):
    """Path of a built program."""
    places = {"sallyport-dataplane": "dataplane", "sallyport-control": "control", "sallyport": "control/cli",
              "lab_backend": "tests/lab", "lab_client": "tests/lab", "lab_link": "tests/lab", "lab_flood": "tests/lab", "lab_hellos": "tests/lab", "lab_full_handshakes.so": "tests/lab",
              "sallyport_generator": "tests/bench/generator", "two_workers_bench": "tests/bench", "core_distance": "tests/bench", "certificates_bench": "tests/bench/certificates"}
    build = build_directory()
    path = build / places[name] / name
    if path.exists():
        return path
    for found in build.rglob(name):
        if found.is_file() and os.access(found, os.X_OK):
            return found
    raise LabError(f"{name} is not built: no such program under {build} (scripts/build {build.name})")


def tail(path, lines=25):
    try:
        return "\n".join(pathlib.Path(path).read_text(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return str(error)


def wait_for(what, condition, seconds=15.0, interval=0.02):
    """Calls `condition` until it returns something true, which is returned."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise LabError(f"waited {seconds:g} s for {what() if callable(what) else what}")
        time.sleep(interval)


class Process:
    """A child with its log in a file. `namespace`: client, backend or None for the appliance's own."""

    def __init__(self, name, command, *, log, namespace=None, cores=None, environment=None, **options):
        self.name, self.log = name, pathlib.Path(log)
        command = [str(c) for c in command]
        if cores is not None:
            command = ["taskset", "-c", ",".join(map(str, cores)), *command]
        if namespace:
            command = ["ip", "netns", "exec", namespace, *command]
        self.command = command
        with open(self.log, "ab") as out:
            self.child = subprocess.Popen(command, stdin=options.pop("stdin", subprocess.DEVNULL), stdout=options.pop("stdout", out),
                                          stderr=out, env={**os.environ, **(environment or {})}, **options)

    @property
    def pid(self):
        return self.child.pid

    def running(self):
        return self.child.poll() is None

    def send_signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            self.child.send_signal(number)

    def kill_group(self):
        """KILLs it and its children; for one started with start_new_session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.child.wait()

    def stop(self, number=signal.SIGTERM, seconds=10):
        """Stops it and returns its exit code; KILLs it, and says so, when it does not obey."""
        if self.running():
            self.send_signal(number)
            try:
                self.child.wait(seconds)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
                raise LabError(f"{self.name} did not stop within {seconds} s of signal {number}\n{tail(self.log)}") from None
        return self.child.returncode

    def kill(self):
        if self.running():
            self.child.kill()
        self.child.wait()


class Backend:
    """A lab_backend in the backend's namespace. Its log holds an event a line."""

    def __init__(self, lab, name, port, *options, certificate=None, addresses=(0,), plain=False, cores=None):
        self.lab, self.name, self.port, self.addresses = lab, name, port, addresses
        self.events_file = lab.directory / f"{name}.events"
        self.events_file.unlink(missing_ok=True)
        listen = []
        for index in addresses:
            v4, v6 = network.BACKEND_ADDRESSES[index]
            listen += ["--listen", f"{v4}:{port}", "--listen", f"[{v6}]:{port}"]
        pem, key = certificate or lab.certificates.backend
        tls = ["--plain"] if plain else ["--certificate", pem, "--key", key]
        self.command = [program("lab_backend"), *listen, *tls, "--log", self.events_file, *options]
        self.cores = cores
        self.process = None
        self.start()

    def start(self):
        self.process = self.lab.track(Process(self.name, self.command, log=self.lab.directory / f"{self.name}.log",
                                              namespace="backend", cores=self.cores))
        before = self.listening_events()
        wait_for(lambda: f"{self.name} to listen: {tail(self.process.log)}",
                 lambda: self.listening_events() > before or self.reap(), 60)

    def reap(self):
        if not self.process.running():
            raise LabError(f"{self.name} ended: {tail(self.process.log)}")
        return False

    def listening_events(self):
        return sum(event["event"] == "listening" for event in self.events())

    def events(self, kind=None):
        if not self.events_file.exists():
            return []
        text = self.events_file.read_text()
        events = [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]
        return [event for event in events if kind is None or event["event"] == kind]

    def open_connections(self):
        return len(self.events("open")) - len(self.events("close"))

    def forget(self, seconds=3):
        """Events so far are no longer of interest. Those of connections that are ending are awaited: they would be counted as the next test's.
        One whose end the backend cannot see (its peer was killed) has its time, and no more."""
        end = time.monotonic() + seconds
        while self.process.running() and self.open_connections() > 0 and time.monotonic() < end:
            time.sleep(0.02)
        self.events_file.write_text("")

    def kill(self):
        self.process.kill()

    def members(self, family=None):
        found = []
        for index in self.addresses:
            v4, v6 = network.BACKEND_ADDRESSES[index]
            found += [f"{v4}:{self.port}"] if family in (None, 4) else []
            found += [f"[{v6}]:{self.port}"] if family in (None, 6) else []
        return found


class Link:
    """A lab_link in the way between a namespace and the appliance (network.detour); `there` is towards the namespace."""

    def __init__(self, lab, side):
        self.lab, self.side = lab, side
        self.process = None
        self.starts = 0
        network.detour(side)

    def carry(self, *options):
        """Carries frames with these faults (lab_link's options) from now on."""
        self.halt()
        self.starts += 1   # a log for each: what it holds is said once
        self.process = self.lab.track(Process(f"{self.side}-link", [program("lab_link"), "--ends", "near,far", *options],
                                              log=self.lab.directory / f"{self.side}-link-{self.starts}.log", namespace=f"{self.side}-way"))

        def ready():
            if not self.process.running():
                raise LabError(f"lab_link ended: {tail(self.process.log)}")
            return "ready" in self.process.log.read_text()
        wait_for("lab_link to be ready", ready)

    def halt(self):
        """Ends it; returns what it counted."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        process.stop()
        self.lab.processes.remove(process)
        return json.loads(process.log.read_text().splitlines()[-1])

    def remove(self):
        self.halt()
        network.no_detour(self.side)


def patiently(ask):
    """What ask() gives. On a machine that is busy with other things the dataplane may answer late: asks again."""
    for patience in range(10, -1, -1):
        try:
            return ask()
        except LabError as error:
            if "did not answer" not in str(error) or patience == 0:
                raise


class Appliance:
    """sallyport-control and sallyport-dataplane with one configuration file."""

    def __init__(self, lab, config_file, *, socket_path="/run/sallyport/control.sock", channel="/run/sallyport/channel.sock",
                 control_cores=None, environment=None):
        self.lab, self.config_file = lab, pathlib.Path(config_file)
        self.socket_path, self.channel = socket_path, channel
        self.control_cores = control_cores
        self.environment = environment or {}   # by process: "control", "dataplane"
        self.control = self.dataplane = None

    def start(self, seconds=60):
        pathlib.Path(self.socket_path).parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(KeyError):
            shutil.chown(pathlib.Path(self.socket_path).parent, "sallyport", "sallyport")
        self.start_control()
        self.start_dataplane()
        self.wait_ready(seconds)
        return self

    def start_control(self):
        self.control = self.lab.track(Process("sallyport-control", [program("sallyport-control"), "--config", self.config_file],
                                              log=self.lab.directory / "control.log", cores=self.control_cores, environment=self.environment.get("control")))

    def start_dataplane(self):
        self.dataplane = self.lab.track(Process("sallyport-dataplane", [program("sallyport-dataplane"), "--channel", self.channel],
                                                log=self.lab.directory / "dataplane.log", environment=self.environment.get("dataplane")))

    def wait_ready(self, seconds=60):
        def ready():
            self.check_running()
            try:
                if not self.show("version").get("dataplane_attached"):
                    return False
                ports = self.show("ports")
                return ports and all(port["link"] for port in ports)
            except LabError:
                return False
        wait_for(lambda: "the appliance to be ready" + self.logs(), ready, seconds, 0.05)

    def check_running(self):
        for process in (self.control, self.dataplane):
            if process is not None and not process.running():
                raise LabError(f"{process.name} ended with exit code {process.child.returncode}{self.logs()}")

    def logs(self):
        return "".join(f"\n--- {name}.log\n{tail(self.lab.directory / f'{name}.log')}" for name in ("control", "dataplane"))

    def cli(self, *arguments, check=True):
        done = subprocess.run([program("sallyport"), "--socket", self.socket_path, *arguments], capture_output=True, text=True, timeout=30)
        if check and done.returncode != 0:
            raise LabError(f"sallyport {' '.join(arguments)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def show(self, what, *arguments):
        """By the CLI."""
        return patiently(lambda: json.loads(self.cli("show", what, *arguments, "--json")))

    def view(self, what):
        """The same over control's socket: the start of a CLI may take a core for longer than the question does."""
        def ask():
            try:
                return Management(self.socket_path).call(f"show {what}")
            except (Refused, OSError) as error:
                raise LabError(f"show {what}: {error}") from error
        return patiently(ask)

    def counters(self):
        return {counter["name"]: counter["value"] for counter in self.show("counters")}

    def flows(self):
        """Flows of clients: health checks, which have none, are left out."""
        return [flow for flow in self.show("flows")["flows"] if not flow["client"].endswith(":0")]

    def wait_no_flows(self, seconds=20):
        wait_for(lambda: f"all flows to end: {[(f['id'], f['state'], f['service']) for f in self.flows()]}",
                 lambda: not self.flows(), seconds)

    def kill_control(self):
        self.control.kill()

    def stop(self, seconds=15):
        """Stops both as an administrator would; returns their exit codes (dataplane, control)."""
        dataplane = self.dataplane.stop(seconds=seconds) if self.dataplane else None
        control = self.control.stop(seconds=seconds) if self.control else None
        return dataplane, control

    def cpu_seconds(self, process):
        """User and system time of a process so far."""
        fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Nginx:
    """nginx with a configuration text, in a namespace."""

    def __init__(self, lab, name, text, *, namespace=None, cores=None, reachable=None):
        self.directory = lab.directory / name
        self.directory.mkdir(exist_ok=True)
        file = self.directory / "nginx.conf"
        file.write_text(text)
        self.process = lab.track(Process(name, ["nginx", "-p", self.directory, "-c", file, "-g", "daemon off;"],
                                         log=self.directory / "output.log", namespace=namespace, cores=cores))
        def up():
            if not self.process.running():
                raise LabError(f"{name} ended: {tail(self.process.log)}\n{tail(self.directory / 'error.log')}")
            with contextlib.suppress(OSError):
                network.connect(*reachable).close()
                return (self.directory / "nginx.pid").exists() and bool(self.worker_pids())   # both after the sockets listen
        if reachable:
            wait_for(f"{name} to listen", up)

    def stop(self):
        self.process.stop()

    def worker_pids(self):
        children = pathlib.Path(f"/proc/{self.master_pid()}/task/{self.master_pid()}/children").read_text().split()
        return [int(pid) for pid in children]

    def master_pid(self):
        return int((self.directory / "nginx.pid").read_text())


class StandIn(Nginx):
    """nginx in the appliance's place: to develop tests with. Not for results."""

    def __init__(self, lab, config):
        network.kernel_addresses()
        lab.lenient = True
        self.lab, self.config = lab, config
        super().__init__(lab, "stand-in", configuration.nginx_stream(config, lab.directory / "stand-in"),
                         reachable=("client", network.APPLIANCE["client"][0], config.services[0].port))

    def check_running(self):
        if not self.process.running():
            raise LabError("the stand-in ended")

    def logs(self):
        return tail(self.directory / "error.log")

    def stop(self):
        super().stop()
        network.no_kernel_addresses()


class Lab:
    def __init__(self, directory="/run/lab", *, mtu=1500, peer_offloads=None, hugepages_mb=512):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o755)
        self.processes = []
        self.clients = []
        self.lenient = False      # the stand-in ends connections without close_notify
        self.hugepages_before = None
        self.reserve_hugepages(hugepages_mb)
        network.set_up(mtu, best_profile() == "af_packet" if peer_offloads is None else peer_offloads)
        self.certificates = certificates.Certificates(self.directory / "certificates")
        network.hosts([*certificates.SERVICE_NAMES, *certificates.TENANT_NAMES, certificates.PUBLIC_NAME])

    # --- life

    def reserve_hugepages(self, megabytes):
        """So many at least, until the lab is closed."""
        file = pathlib.Path("/proc/sys/vm/nr_hugepages")
        before = int(file.read_text())
        wanted = megabytes // 2
        if before < wanted:
            file.write_text(str(wanted))
            if self.hugepages_before is None:
                self.hugepages_before = before
        got = int(file.read_text())
        if wanted and got < wanted:
            print(f"lab: {got} hugepages of 2 MB instead of {wanted}", file=sys.stderr)

    def track(self, process):
        self.processes.append(process)
        return process

    def close(self):
        """Stops everything that was started, in reverse order."""
        for process in reversed(self.processes):
            with contextlib.suppress(LabError):
                process.stop(seconds=3)
        if self.hugepages_before is not None:
            pathlib.Path("/proc/sys/vm/nr_hugepages").write_text(str(self.hugepages_before))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # --- commands

    def client(self, *command, **options):
        return self.in_namespace("client", *command, **options)

    def in_namespace(self, side, *command, timeout=60, check=False, text=True, **options):
        options.setdefault("stdin", subprocess.DEVNULL) if "input" not in options else None
        done = subprocess.run(["ip", "netns", "exec", side, *map(str, command)], capture_output=True, text=text,
                              errors="replace" if text else None, timeout=timeout, **options)
        if check and done.returncode != 0:
            raise LabError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    @contextlib.contextmanager
    def capture(self, side, file, *filter_words):
        """Writes what passes the interface of a namespace to a file, as long as the block lasts."""
        command = ["ip", "netns", "exec", side, "tcpdump", "-i", "eth0", "-U", "--immediate-mode", "-w", str(file), *filter_words]
        child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            for line in child.stderr:
                if "listening on" in line:
                    break
            else:
                raise LabError(f"tcpdump ended: {shlex.join(command)}")
            yield file
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(10)

    def client_process(self, name, *command, **options):
        """A client that goes on beside; kill_group() ends it with its children, end_clients() all of them."""
        process = self.track(Process(name, command, log=self.directory / f"{name}.log", namespace="client", start_new_session=True, **options))
        self.clients.append(process)
        return process

    def end_clients(self):
        for process in self.clients:
            process.kill_group()
        self.clients.clear()

    def lab_client(self, port, *options, family=4, name="www.example.com", timeout=300, check=True):
        """Runs lab_client against a service; returns what it reports."""
        done = self.client(program("lab_client"), "--connect", self.service(port, family), "--ca", self.certificates.ca,
                           "--name", name, *(["--fin-is-end"] if self.lenient else []), *options, timeout=timeout)
        if done.returncode not in (0, 1):
            raise LabError(f"lab_client: exit code {done.returncode}: {done.stderr}")
        report = json.loads(done.stdout)
        if check and report["ok"] != report["connections"]:
            raise LabError(f"lab_client: {done.stdout}")
        return report

    @staticmethod
    def service(port, family=4):
        v4, v6 = network.APPLIANCE["client"]
        return f"{v4}:{port}" if family == 4 else f"[{v6}]:{port}"

    # --- backends

    def start_web(self, *, cores=None, name="web", tls_port=443, plain_port=80, client_ca=None):
        """nginx with TLS (h2 and http/1.1) and, on another port, plain HTTP; serves files and hashes uploads. With `client_ca` its TLS
        lets in only those with a certificate of that authority."""
        www = self.directory / "www"
        www.mkdir(exist_ok=True)
        for file, size in WEB_SIZES.items():
            self.web_file(file, size)
        upload = self.directory / "upload.sock"
        self.track(Process("upload_hash", [sys.executable, pathlib.Path(__file__).with_name("upload_hash.py"), upload],
                           log=self.directory / "upload_hash.log"))
        certificate, key = self.certificates.backend
        directory = self.directory / name
        listens = ""
        for v4, v6 in network.BACKEND_ADDRESSES[:2]:
            listens += f" listen {v4}:{tls_port} ssl backlog=8192; listen [{v6}]:{tls_port} ssl backlog=8192;"
            listens += f" listen {v4}:{plain_port} backlog=8192; listen [{v6}]:{plain_port} backlog=8192;"
        text = f"""
worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/error.log warn; user root;
events {{ worker_connections 16384; }}
http {{
  access_log off; default_type text/plain; sendfile on; tcp_nopush on; tcp_nodelay on;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  keepalive_requests 1000000000; keepalive_timeout 3600; client_max_body_size 0; http2_max_concurrent_streams 128;
  open_file_cache max=100;
  server {{
   {listens}
    http2 on; server_name {certificates.BACKEND_NAME} _;
    ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
    {f"ssl_verify_client on; ssl_client_certificate {client_ca};" if client_ca else ""}
    ssl_session_cache shared:tls:10m; ssl_session_tickets on;
    root {www};
    location /upload {{ proxy_pass http://unix:{upload}:/; proxy_http_version 1.1; proxy_request_buffering off; proxy_read_timeout 600s; }}
    location /whoami {{ return 200 "$server_addr $server_protocol $ssl_protocol $ssl_cipher $ssl_client_s_dn\\n"; }}
  }}
}}
"""
        wait_for("the upload hash", upload.exists)
        return Nginx(self, name, text, namespace="backend", cores=cores,
                     reachable=("backend", network.BACKEND_ADDRESSES[0][0], tls_port))

    def web_file(self, name, size):
        """A file of the web backend with octets that do not repeat; returns its path."""
        path = self.directory / "www" / name
        if not path.exists() or path.stat().st_size != size:
            if size == 0:
                path.write_bytes(b"")
            else:
                with open(path, "wb") as out:   # ChaCha20's key stream over zeros
                    zeros = subprocess.Popen(["head", "-c", str(size), "/dev/zero"], stdout=subprocess.PIPE)
                    subprocess.run(["openssl", "enc", "-chacha20", "-K", "5a" * 32, "-iv", "00" * 16], stdin=zeros.stdout, stdout=out, check=True)
                    zeros.wait()
        return path

    # --- configurations

    def standard_pools(self):
        trust = {"server_name": certificates.BACKEND_NAME, "trust": str(self.certificates.backend_ca)}
        v4, v6 = network.BACKEND_ADDRESSES[0]
        return [configuration.Pool("web", [f"{v4}:443", f"[{v6}]:443"], **trust),
                configuration.Pool("echo", [f"{v4}:4433", f"[{v6}]:4433"], **trust)]

    def standard_services(self):
        both = [self.certificates.rsa, self.certificates.ecdsa]
        return [configuration.Service("web", 443, "web", both, alpn=("h2", "http/1.1")),
                configuration.Service("echo", 4433, "echo", both)]

    def write_configuration(self, config, name="sallyport.conf"):
        config.public_roots = config.public_roots or self.certificates.roots
        config.state_directory = config.state_directory or self.directory / "state"
        state = pathlib.Path(config.state_directory)
        state.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(LookupError):
            shutil.chown(state, "sallyport", "sallyport")
        path = self.directory / name
        path.write_text(configuration.libconfig(config))
        return path


def best_profile():
    """af_xdp where the kernel has it, else af_packet; SALLYPORT_PROFILE overrides."""
    chosen = os.environ.get("SALLYPORT_PROFILE")
    if chosen:
        return chosen
    try:
        socket.socket(44, socket.SOCK_RAW).close()   # AF_XDP
        return "af_xdp"
    except OSError:
        return "af_packet"


def processor():
    match = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return match.group(1) if match else "unknown"
