#include "control/channel/address.h"

#include <arpa/inet.h>

#include <charconv>
#include <cstring>

namespace sallyport {

namespace {

std::unexpected<std::string> bad(std::string_view text, std::string_view why) {
    return std::unexpected("'" + std::string(text) + "' " + std::string(why));
}

}  // namespace

std::expected<IpAddress, std::string> IpAddress::parse(std::string_view text) {
    const std::string terminated(text);
    std::array<std::uint8_t, 4> v4{};
    if (inet_pton(AF_INET, terminated.c_str(), v4.data()) == 1) return from_v4(v4);
    IpAddress address;
    if (inet_pton(AF_INET6, terminated.c_str(), address.octets.data()) != 1)
        return bad(text, "is not an IPv4 or IPv6 address");
    if (address.is_v4()) return bad(text, "is an IPv4-mapped address; write it as IPv4");
    return address;
}

std::string IpAddress::to_string() const {
    char text[INET6_ADDRSTRLEN];
    if (is_v4())
        inet_ntop(AF_INET, octets.data() + 12, text, sizeof text);
    else
        inet_ntop(AF_INET6, octets.data(), text, sizeof text);
    return text;
}

std::expected<SocketAddress, std::string> SocketAddress::parse(std::string_view text) {
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos) return bad(text, "has no port; write ADDRESS:PORT");
    std::string_view host = text.substr(0, colon);
    const std::string_view port = text.substr(colon + 1);
    const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
    if (bracketed) host = host.substr(1, host.size() - 2);
    SocketAddress result;
    const auto address = IpAddress::parse(host);
    if (!address) return bad(text, "is not ADDRESS:PORT or [IPV6-ADDRESS]:PORT");
    result.address = *address;
    if (bracketed == result.address.is_v4()) return bad(text, "is not ADDRESS:PORT or [IPV6-ADDRESS]:PORT");
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), result.port);
    if (error != std::errc() || end != port.data() + port.size() || result.port == 0)
        return bad(text, "has no port from 1 to 65535");
    return result;
}

std::string SocketAddress::to_string() const {
    if (address.is_v4()) return address.to_string() + ":" + std::to_string(port);
    return "[" + address.to_string() + "]:" + std::to_string(port);
}

std::expected<IpPrefix, std::string> IpPrefix::parse(std::string_view text) {
    const auto slash = text.find('/');
    if (slash == std::string_view::npos) return bad(text, "has no prefix length; write ADDRESS/LENGTH");
    const auto address = IpAddress::parse(text.substr(0, slash));
    if (!address) return std::unexpected(address.error());
    const std::string_view digits = text.substr(slash + 1);
    IpPrefix result{*address, 0};
    const unsigned most = result.address.is_v4() ? 32 : 128;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), result.length);
    if (error != std::errc() || end != digits.data() + digits.size() || result.length > most)
        return bad(text, "has no prefix length from 0 to " + std::to_string(most));
    return result;
}

std::string IpPrefix::to_string() const { return address.to_string() + "/" + std::to_string(length); }

}  // namespace sallyport
