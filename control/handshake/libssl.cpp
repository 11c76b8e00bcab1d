#include "control/handshake/libssl.h"

#include <algorithm>

#include "crypto/format.h"

namespace sallyport::handshake {

std::string alert_name(int alert) {
    std::string name = SSL_alert_desc_string_long(alert);
    std::ranges::transform(name, name.begin(), [](char c) { return c == ' ' ? '_' : c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return sallyport::format("{} ({})", name, alert);
}

std::string subject_of(const X509* certificate) {
    return certificate != nullptr ? openssl::name_text(X509_get_subject_name(certificate)) : std::string();
}

std::string printable(std::string_view octets) {
    constexpr std::size_t kLongest = 256;  // a DNS name has at most 253 octets
    std::string text;
    for (const char octet : octets.substr(0, kLongest)) {
        if (octet >= 0x20 && octet < 0x7f)
            text += octet;
        else
            text += sallyport::format("\\x{:02x}", static_cast<unsigned char>(octet));
    }
    if (octets.size() > kLongest) text += "...";
    return text;
}

}  // namespace sallyport::handshake
