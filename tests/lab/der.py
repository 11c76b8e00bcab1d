"""As much of DER (X.690) as the lab needs to make OCSP answers and CRLs that no honest tool would make."""

import base64
import re

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OBJECT, ENUMERATED = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0a
SEQUENCE, SET, UTC_TIME, GENERALIZED_TIME = 0x30, 0x31, 0x17, 0x18


def tlv(tag, *parts):
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def sequence(*parts):
    return tlv(SEQUENCE, *parts)


def explicit(number, *parts):
    return tlv(0xa0 | number, *parts)


def integer(value):
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))   # one bit more than the value: the sign


def bits(octets):
    return tlv(BIT_STRING, b"\0" + octets)


def oid(text):
    first, second, *rest = map(int, text.split("."))
    out = bytearray([first * 40 + second])
    for arc in rest:
        group = [arc & 0x7f]
        while arc := arc >> 7:
            group.append(0x80 | (arc & 0x7f))
        out += bytes(reversed(group))
    return tlv(OBJECT, bytes(out))


def generalized_time(when):
    return tlv(GENERALIZED_TIME, when.strftime("%Y%m%d%H%M%SZ").encode())


def utc_time(when):
    """For years up to 2049 (RFC 5280 4.1.2.5)."""
    return tlv(UTC_TIME, when.strftime("%y%m%d%H%M%SZ").encode())


def content(octets):
    """What is inside the first element."""
    start, end = _span(octets, 0)
    return octets[start:end]


def children(octets):
    """The elements inside the first element, whole."""
    start, end = _span(octets, 0)
    found = []
    while start < end:
        after = _span(octets, start)[1]
        found.append(octets[start:after])
        start = after
    return found


def _span(octets, at):
    length = octets[at + 1]
    start = at + 2
    if length & 0x80:
        count = length & 0x7f
        length = int.from_bytes(octets[start:start + count], "big")
        start += count
    if start + length > len(octets):
        raise ValueError("an element ends beyond what there is")
    return start, start + length


def from_pem(text):
    """The first certificate of a PEM text."""
    match = re.search(r"-----BEGIN [A-Z0-9 ]+-----(.*?)-----END", text, re.DOTALL)
    return base64.b64decode(match.group(1))


class CertificateFields:
    """Fields of a certificate (RFC 5280 4.1) as they are encoded."""

    def __init__(self, octets):
        fields = children(children(octets)[0])
        if fields[0][0] == 0xa0:   # version
            fields = fields[1:]
        self.serial, _, self.issuer, _, self.subject, public_key = fields[:6]
        self.key_bits = content(children(public_key)[1])[1:]
