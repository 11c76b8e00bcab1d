"""A TLS backend over a raw socket, so that a test can cut, delay, spoil and watch what goes over the wire behind the appliance."""

import socket
import ssl

from tests.lab import network
from .tls_client import TlsClient


def context_for(certificate, *, version=None, suites12=""):
    """`certificate`: (certificate, key)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if version:
        context.minimum_version = context.maximum_version = version
    if suites12:
        context.set_ciphers(suites12)
    return context


class RawBackend:
    """Listens at the backends' first IPv4 address; accept() gives the legs of flows in turn, without a thread of its own."""

    def __init__(self, port, context):
        self.context = context
        with network.inside("backend"):
            self.listener = socket.create_server((network.BACKEND_ADDRESSES[0][0], port), backlog=64)
        self.listener.settimeout(30)
        self.member = f"{network.BACKEND_ADDRESSES[0][0]}:{port}"

    def accept(self):
        return BackendLeg(self.listener.accept()[0], self.context)

    def close(self):
        self.listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class BackendLeg(TlsClient):
    """The backend's end of one flow; as a TlsClient in all but that it is the server."""

    def __init__(self, accepted, context):   # not TlsClient's: nothing to connect
        self.attach(accepted, 30)
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
