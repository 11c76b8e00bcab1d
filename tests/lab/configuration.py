"""Configurations as values, written as the appliance's libconfig text or, for a stand-in, nginx's."""

import dataclasses

from . import network


@dataclasses.dataclass
class Pool:
    name: str
    members: list                 # "ADDRESS:PORT", or (ADDRESS:PORT, {setting: value})
    server_name: str = ""         # empty: plain text
    trust: str = ""
    balance: str = "round_robin"
    health: dict | None = None
    proxy_protocol: bool = False
    versions: tuple = ()
    connect_timeout_ms: int = 0
    names: tuple = ()             # allow list of the members' SANs
    pins: tuple = ()              # "sha256:HEX" of whole certificates
    identity: tuple = ()          # (certificate, key) that the appliance shows to members
    crl: tuple = ()               # files and http URLs


@dataclasses.dataclass
class Service:
    name: str
    port: int
    pool: str
    certificates: list            # (certificate, key) paths
    alpn: tuple = ()
    versions: tuple = ()
    client_auth: dict | None = None
    ech: dict | None = None
    settings: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Configuration:
    services: list
    pools: list
    policy_level: int = 2
    profile: str = "af_xdp"
    cores: tuple = (0,)
    handshake_workers: int = 1
    dataplane: dict = dataclasses.field(default_factory=lambda: {"max_flows": 8192})   # as many as the lab ever has at once
    ports: dict = dataclasses.field(default_factory=dict)       # further settings of both ports
    devices: dict = dataclasses.field(default_factory=dict)     # of the "client" and the "backend" side, in place of the lab's links
    routes: dict = dataclasses.field(default_factory=dict)      # by side: {to, via}
    management: str = "/run/sallyport/control.sock"
    roles: dict = dataclasses.field(default_factory=dict)       # administrators, operators, readers: a group each
    channel: str = "/run/sallyport/channel.sock"
    log_level: str = "info"
    public_roots: str = ""
    state_directory: str = ""
    expiry_alarm_days: int = 1    # certificates of the lab live less than a week
    waivers: tuple = ()           # of {requirement, object, reason, until}
    redirects: dict = dataclasses.field(default_factory=dict)   # name: port
    revocation: dict = dataclasses.field(default_factory=dict)
    tickets: dict = dataclasses.field(default_factory=dict)
    capture: dict = dataclasses.field(default_factory=dict)
    telemetry: dict = dataclasses.field(default_factory=dict)
    flow_log: dict = dataclasses.field(default_factory=dict)
    # All of the lab's clients share an address, and some tests open a thousand connections at once; test_policy_brake.py has its own.
    brake: dict = dataclasses.field(default_factory=lambda: {"connections": 65536, "connections_per_source": 65536,
                                                             "handshakes": 16384, "handshakes_per_source": 16384,
                                                             "cost_per_second": 1_000_000, "burst": 1_000_000})


def value(of):
    """A Python value in libconfig's spelling."""
    if isinstance(of, bool):
        return "true" if of else "false"
    if isinstance(of, int):
        return str(of)
    if isinstance(of, dict):
        return "{ " + " ".join(f"{name} = {value(v)};" for name, v in of.items()) + " }"
    if isinstance(of, (list, tuple)):
        if of and isinstance(of[0], dict):
            return "( " + ", ".join(value(v) for v in of) + " )"
        return "[ " + ", ".join(value(v) for v in of) + " ]"
    return '"' + str(of).replace("\\", "\\\\").replace('"', '\\"') + '"'


def libconfig(c):
    lines = []
    add = lines.append
    add("# Level of OWASP's chapter V9 'Secure Communication' that is enforced: 1, 2 or 3. 'Publicly trusted' means the roots in a directory.")
    add(f"policy = {value({'level': c.policy_level, **({'waivers': list(c.waivers)} if c.waivers else {})})};")
    common = {name: setting for name, setting in (("public_roots", str(c.public_roots)), ("expiry_alarm_days", c.expiry_alarm_days)) if setting}
    if common:
        add(f"certificates = {value(common)};")
    add("")
    add("# The process that touches packets: one worker on each of these cores.")
    add("dataplane = {")
    add(f"    cores = {value(list(c.cores))};")
    for name, setting in c.dataplane.items():
        add(f"    {name} = {value(setting)};")
    add("};")
    add("")
    add("# The process that does handshakes: how many threads, the user that both processes become, and its sockets.")
    add(f"control = {{ handshake_workers = {c.handshake_workers}; user = \"sallyport\"; channel_socket = {value(c.channel)};"
        + (f" state_directory = {value(str(c.state_directory))};" if c.state_directory else "") + " };")
    add(f"management = {value({'socket': c.management, **c.roles})};")
    add(f"log = {{ level = {value(c.log_level)}; }};")
    for name in ("revocation", "tickets", "brake", "capture", "telemetry", "flow_log"):
        if getattr(c, name):
            add(f"{name} = {value(getattr(c, name))};")
    add("")
    add("# A port is a network device and our addresses on it.")
    add("ports = (")
    ports = []
    for side, device in (("client", network.CLIENT_PORT), ("backend", network.BACKEND_PORT)):
        v4, v6 = network.APPLIANCE[side]
        more = "".join(f" {name} = {value(setting)};" for name, setting in c.ports.items())
        if side in c.routes:
            more += f"\n      routes = {value(c.routes[side])};"
        ports.append(f"    {{ name = \"{side}s\"; profile = {value(c.profile)}; device = {value(str(c.devices.get(side, device)))};\n"
                     f"      addresses = {value([v4 + '/24', v6 + '/64'])};{more} }}")
    add(",\n".join(ports))
    add(");")
    add("")
    add("# A pool is what stands behind a service. With `tls`, a member's certificate must chain to `trust` and cover `server_name`.")
    add("pools = (")
    pools = []
    for pool in c.pools:
        members = []
        for member in pool.members:
            address, more = member if isinstance(member, tuple) else (member, {})
            members.append(value({"address": address, **more}))
        text = f"    {{ name = {value(pool.name)};\n      members = ( {(',' + chr(10) + ' ' * 18).join(members)} );"
        if pool.server_name:
            tls = ({"trust": [str(pool.trust)]} if pool.trust else {}) | {"server_name": pool.server_name}
            for name in ("pins", "names", "crl", "versions"):
                if getattr(pool, name):
                    tls[name] = list(getattr(pool, name))
            if pool.identity:
                tls["identity"] = dict(zip(("certificate", "key"), map(str, pool.identity)))
            text += f"\n      tls = {value(tls)};"
        if pool.balance != "round_robin":
            text += f"\n      balance = {value(pool.balance)};"
        if pool.health is not None:
            text += f"\n      health = {value(pool.health)};"
        if pool.proxy_protocol:
            text += "\n      proxy_protocol = true;"
        if pool.connect_timeout_ms:
            text += f"\n      connect_timeout_ms = {pool.connect_timeout_ms};"
        pools.append(text + " }")
    add(",\n".join(pools))
    add(");")
    add("")
    add("# A service is what clients reach: addresses, certificates (RSA and ECDSA side by side), and the pool behind it.")
    add("services = (")
    services = []
    v4, v6 = network.APPLIANCE["client"]
    for service in c.services:
        certificates = ",\n                       ".join(
            value({"certificate": certificate, "key": key}) for certificate, key in service.certificates)
        text = (f"    {{ name = {value(service.name)};\n      listen = {value([f'{v4}:{service.port}', f'[{v6}]:{service.port}'])};\n"
                f"      certificates = ( {certificates} );")
        if service.alpn:
            text += f"\n      alpn = {value(list(service.alpn))};"
        if service.versions:
            text += f"\n      versions = {value(list(service.versions))};"
        if service.client_auth:
            text += f"\n      client_auth = {value(service.client_auth)};"
        if service.ech:
            text += f"\n      ech = {value(service.ech)};"
        for name, setting in service.settings.items():
            text += f"\n      {name} = {value(setting)};"
        services.append(text + f"\n      pool = {value(service.pool)}; }}")
    add(",\n".join(services))
    add(");")
    if c.redirects:
        add("")
        add("# Plain HTTP is answered with a redirect to https, and with nothing else.")
        redirects = [{"name": name, "listen": [f"{v4}:{port}", f"[{v6}]:{port}"]} for name, port in c.redirects.items()]
        add(f"redirects = {value(redirects)};")
    return "\n".join(lines) + "\n"


def nginx_stream(c, directory):
    """The same services by nginx's stream module: one worker, backend verified. It carries no ALPN to the backend."""
    text = [f"load_module /usr/lib/nginx/modules/ngx_stream_module.so; pid {directory}/nginx.pid; error_log {directory}/error.log warn;",
            "worker_processes 1; events { worker_connections 16384; }",
            "stream { access_log off; ssl_session_cache off; ssl_session_tickets on; proxy_connect_timeout 3s; tcp_nodelay on;",
            "  ssl_protocols TLSv1.2 TLSv1.3; ssl_prefer_server_ciphers on; proxy_half_close on;"]
    for pool in c.pools:
        members = " ".join(f"server {m[0] if isinstance(m, tuple) else m};" for m in pool.members)
        text.append(f"  upstream {pool.name} {{ {members} }}")
    by_name = {pool.name: pool for pool in c.pools}
    v4, v6 = network.APPLIANCE["client"]
    for service in c.services:
        pool = by_name[service.pool]
        text.append(f"  server {{ listen {v4}:{service.port} ssl backlog=8192 reuseport; listen [{v6}]:{service.port} ssl backlog=8192 reuseport;")
        text += [f"    ssl_certificate {certificate}; ssl_certificate_key {key};" for certificate, key in service.certificates]
        if service.alpn:
            text.append(f"    ssl_alpn {' '.join(name for name in service.alpn if name != 'h2')};")   # the backend would not know
        if pool.server_name:
            text.append(f"    proxy_ssl on; proxy_ssl_verify on; proxy_ssl_verify_depth 3; proxy_ssl_trusted_certificate {pool.trust};"
                        f" proxy_ssl_name {pool.server_name}; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.2 TLSv1.3;")
        text.append(f"    proxy_pass {service.pool}; }}")
    text.append("}")
    return "\n".join(text) + "\n"
