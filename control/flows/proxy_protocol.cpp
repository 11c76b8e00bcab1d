#include "control/flows/proxy_protocol.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "control/policy/catalogue.h"
#include "crypto/cipher_suite.h"

namespace sallyport::flows {

namespace {

constexpr std::array<std::uint8_t, 12> kSignature = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
constexpr std::uint8_t kVersion2Proxy = 0x21;
constexpr std::uint8_t kTcpOverIpv4 = 0x11, kTcpOverIpv6 = 0x21;
constexpr std::uint8_t kTypeAlpn = 0x01, kTypeAuthority = 0x02, kTypeUniqueId = 0x05, kTypeSsl = 0x20;
constexpr std::uint8_t kSubtypeVersion = 0x21, kSubtypeCommonName = 0x22, kSubtypeCipher = 0x23, kSubtypeSignature = 0x24,
                       kSubtypeKey = 0x25, kSubtypeGroup = 0x26, kSubtypeScheme = 0x27,
                       kSubtypeCertificate = 0x28;
constexpr std::uint8_t kClientSsl = 0x01, kClientCertificateConnection = 0x02, kClientCertificateSession = 0x04;
constexpr std::size_t kTlvHeader = 3, kMaxCommonName = 512;
constexpr std::size_t kMaxUniqueId = 128;

using Octets = std::vector<std::byte>;

void put8(Octets& to, std::uint8_t value) { to.push_back(std::byte{value}); }
void put16(Octets& to, std::size_t value) {
    put8(to, static_cast<std::uint8_t>(value >> 8));
    put8(to, static_cast<std::uint8_t>(value));
}
void put(Octets& to, std::span<const std::byte> octets) { to.insert(to.end(), octets.begin(), octets.end()); }
void put_tlv(Octets& to, std::uint8_t type, std::span<const std::byte> value) {
    put8(to, type);
    put16(to, value.size());
    put(to, value);
}
void put_tlv(Octets& to, std::uint8_t type, std::string_view text) {
    if (!text.empty()) put_tlv(to, type, std::as_bytes(std::span(text.data(), text.size())));
}

}  // namespace

std::vector<std::byte> proxy_header(const SocketAddress& client, const SocketAddress& local,
                                    const handshake::Negotiated& negotiated, const std::string& unique_id,
                                    bool forward_identity) {
    Octets body;
    const bool v4 = client.address.is_v4() && local.address.is_v4();
    for (const SocketAddress* const end : {&client, &local}) {
        const auto octets = std::as_bytes(std::span(end->address.octets));
        put(body, v4 ? octets.subspan(12) : octets);
    }
    put16(body, client.port);
    put16(body, local.port);
    put_tlv(body, kTypeAlpn, negotiated.alpn);
    put_tlv(body, kTypeAuthority, negotiated.server_name);
    put_tlv(body, kTypeUniqueId, std::string_view(unique_id).substr(0, kMaxUniqueId));
    Octets tls;
    const handshake::Identity* const identity = forward_identity ? negotiated.identity.get() : nullptr;
    std::uint8_t flags = kClientSsl;
    if (identity != nullptr) flags |= kClientCertificateSession;
    if (identity != nullptr && !negotiated.resumed) flags |= kClientCertificateConnection;
    put8(tls, flags);
    for (int i = 0; i < 3; ++i) put8(tls, 0);
    put8(tls, identity != nullptr ? 0 : 1);   // "verify": zero only for a certificate that was verified
    put_tlv(tls, kSubtypeVersion, negotiated.version == 0x0304 ? "TLSv1.3" : "TLSv1.2");
    if (const auto* const suite = crypto::find_cipher_suite(negotiated.suite)) put_tlv(tls, kSubtypeCipher, suite->name);
    put_tlv(tls, kSubtypeSignature, negotiated.own_signature);
    put_tlv(tls, kSubtypeKey, negotiated.own_key);
    if (const auto* const group = policy::find_group(negotiated.group)) put_tlv(tls, kSubtypeGroup, group->name);
    put_tlv(tls, kSubtypeScheme, negotiated.signature_scheme);
    if (identity != nullptr) {
        put_tlv(tls, kSubtypeCommonName, std::string_view(identity->common_name).substr(0, kMaxCommonName));
        const std::size_t others = kSignature.size() + 4 + body.size() + kTlvHeader + tls.size();
        if (!identity->certificate.empty() && others + kTlvHeader + identity->certificate.size() <= kMaxProxyHeader)
            put_tlv(tls, kSubtypeCertificate, std::span<const std::byte>(identity->certificate));
    }
    put_tlv(body, kTypeSsl, tls);

    Octets header;
    put(header, std::as_bytes(std::span(kSignature)));
    put8(header, kVersion2Proxy);
    put8(header, v4 ? kTcpOverIpv4 : kTcpOverIpv6);
    put16(header, body.size());
    put(header, body);
    return header;
}

}  // namespace sallyport::flows
