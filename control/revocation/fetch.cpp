#include "control/revocation/fetch.h"

#include <openssl/http.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "control/certificates/openssl.h"
#include "control/revocation/watcher.h"

namespace sallyport::revocation {

namespace {

void free_text(char* text) { OPENSSL_free(text); }
using Text = openssl::Owner<char, free_text>;

struct Url {
    std::string host, port, path;
};

std::expected<Url, std::string> parse(const std::string& url) {
    if (!std::ranges::all_of(url, [](unsigned char c) { return c > 0x20 && c < 0x7f; }))
        return std::unexpected("the URL has octets that are not printable ASCII");
    std::string scheme = url.substr(0, 7);
    std::ranges::transform(scheme, scheme.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
    if (scheme != "http://") return std::unexpected("the URL is not http://; what is fetched is signed, http is what serves it");
    const std::string_view authority = std::string_view(url).substr(7, url.find_first_of("/?#", 7) - 7);
    if (authority.contains('@')) return std::unexpected("the URL has a user name, which would go out in clear");

    std::array<char*, 5> parts{};
    int use_tls = 0;
    int port_number = 0;
    ERR_clear_error();
    const int parsed = OSSL_HTTP_parse_url(url.c_str(), &use_tls, &parts[0], &parts[1], &parts[2], &port_number, &parts[3],
                                           &parts[4], nullptr);
    const Text user(parts[0]), host(parts[1]), port(parts[2]), path(parts[3]), query(parts[4]);
    if (parsed != 1) return std::unexpected("the URL cannot be read: " + openssl::error_queue());
    if (use_tls != 0 || !host || host.get()[0] == '\0' || port_number < 1 || port_number > 65535)
        return std::unexpected("the URL has no host, or a port that is none");
    Url result{.host = host.get(), .port = port.get(), .path = path.get()};
    if (query && query.get()[0] != '\0' && !result.path.contains('?')) result.path += std::string("?") + query.get();
    return result;
}

/// OpenSSL's errors with their data (status line, redirection), which a stranger wrote in part: one printable line, oldest first.
std::string failure() {
    std::string text;
    const char* data = nullptr;
    int flags = 0;
    while (const unsigned long error = ERR_get_error_all(nullptr, nullptr, nullptr, &data, &flags)) {
        const char* reason = ERR_reason_error_string(error);
        if (!text.empty()) text += "; ";
        text += reason != nullptr ? reason : "error " + std::to_string(ERR_GET_REASON(error));
        if ((flags & ERR_TXT_STRING) != 0 && data != nullptr && *data != '\0') text += std::string(" (") + data + ")";
    }
    for (char& c : text)
        if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f) c = '?';
    if (text.size() > 300) text.resize(300);
    return text.empty() ? "no reason given" : text;
}

Octets all_of(BIO* bio, std::size_t most) {
    Octets octets;
    std::array<std::byte, 16384> piece{};
    int length = 0;
    while (octets.size() <= most && (length = BIO_read(bio, piece.data(), static_cast<int>(piece.size()))) > 0)
        octets.insert(octets.end(), piece.begin(), piece.begin() + length);
    return octets;
}

}  // namespace

std::string check_url(const std::string& url) {
    const auto parsed = parse(url);
    return parsed ? "" : parsed.error();
}

std::string host_of(const std::string& url) {
    const auto parsed = parse(url);
    return parsed ? parsed->host + ":" + parsed->port : "";
}

Fetch make_fetch(const configuration::Revocation& settings) {
    // OpenSSL counts whole seconds; 0 would mean for ever.
    const int timeout_s = static_cast<int>(std::max<std::uint32_t>(1, (settings.timeout_ms + 999) / 1000));
    return [timeout_s, max_octets = std::size_t{settings.max_octets}](const std::string& url, std::span<const std::byte> post,
                             const std::string& content_type) -> std::expected<Octets, std::string> {
        const auto parsed = parse(url);
        if (!parsed) return std::unexpected(parsed.error());
        const std::size_t most = post.empty() ? max_octets : std::min(max_octets, kMostOcspOctets);
        ERR_clear_error();
        openssl::Bio request;
        if (!post.empty()) {
            request.reset(BIO_new_mem_buf(post.data(), static_cast<int>(post.size())));
            if (!request) return std::unexpected("out of memory");
        }
        // The proxy "" keeps http_proxy of the environment out. expect_asn1: the answer is read whole, within time and size, as long as its
        // DER says (RFC 5280 4.2.1.13 and RFC 6960 A: DER). No place for a redirection: 3xx is a failure.
        const openssl::Bio answer(OSSL_HTTP_transfer(nullptr, parsed->host.c_str(), parsed->port.c_str(), parsed->path.c_str(),
                                                     0, "", nullptr, nullptr, nullptr, nullptr, nullptr, 0, nullptr,
                                                     request ? content_type.c_str() : nullptr, request.get(), nullptr, 1,
                                                     most, timeout_s, 0));
        if (!answer) return std::unexpected(url + ": " + failure());
        Octets octets = all_of(answer.get(), most);
        ERR_clear_error();
        if (octets.empty()) return std::unexpected(url + ": the answer is empty");
        if (octets.size() > most)
            return std::unexpected(url + ": the answer is longer than " + std::to_string(most) + " octets");
        return octets;
    };
}

}  // namespace sallyport::revocation
