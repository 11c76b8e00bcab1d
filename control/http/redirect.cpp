#include "control/http/redirect.h"

#include <llhttp.h>

#include <algorithm>

#include "control/channel/address.h"
#include "crypto/format.h"

namespace sallyport::http {

namespace {

constexpr std::size_t kMaxName = 253;    // RFC 1035 2.3.4: 255 octets on the wire
constexpr std::size_t kMaxLabel = 63;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_hexadecimal(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
bool same_without_case(std::string_view a, std::string_view b) { return std::ranges::equal(a, b, {}, lower, lower); }

/// RFC 1123 2.1: letters, digits, inner hyphens. No underscore: no certificate can cover such a name. A name whose last label is a number is
/// an IPv4 address, or nothing (RFC 1123 2.1, RFC 3986 3.2.2).
bool is_name_or_v4(std::string_view host) {
    if (host.ends_with('.')) host.remove_suffix(1);
    if (host.empty() || host.size() > kMaxName) return false;
    std::string_view label;
    for (std::string_view rest = host;;) {
        const std::size_t dot = rest.find('.');
        label = rest.substr(0, dot);
        if (label.empty() || label.size() > kMaxLabel || label.front() == '-' || label.back() == '-') return false;
        if (!std::ranges::all_of(label, [](char c) { return is_letter(c) || is_digit(c) || c == '-'; })) return false;
        if (dot == std::string_view::npos) break;
        rest.remove_prefix(dot + 1);
    }
    if (!std::ranges::all_of(label, is_digit)) return true;
    const auto address = IpAddress::parse(host);
    return address && address->is_v4();
}

bool is_v6(std::string_view text) {
    if (!std::ranges::all_of(text, [](char c) { return is_hexadecimal(c) || c == ':' || c == '.'; })) return false;   // no zone (RFC 6874)
    return text.contains(':') && IpAddress::parse(text).has_value();
}

bool is_port(std::string_view text) {   // "port = *DIGIT" (RFC 3986 3.2.3): may be empty
    constexpr unsigned kMaxPort = 65535;
    unsigned value = 0;
    for (const char c : text) {
        if (!is_digit(c)) return false;
        value = value * 10 + static_cast<unsigned>(c - '0');
        if (value > kMaxPort) return false;
    }
    return true;
}

/// Path and query, beginning with "/" or "?" or empty: RFC 3986 3.3 and 3.4, and the few others that browsers leave as they are. No fragment:
/// a request-target has none (RFC 9112 3.2).
bool is_path_and_query(std::string_view text) {
    constexpr std::string_view kOthers = "-._~!$&'()*+,;=:@/?[]{}|^";
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '%') {
            if (text.size() - i < 3 || !is_hexadecimal(text[i + 1]) || !is_hexadecimal(text[i + 2])) return false;
            i += 2;
        } else if (!is_letter(text[i]) && !is_digit(text[i]) && !kOthers.contains(text[i])) {
            return false;
        }
    }
    return true;
}

std::string_view without_space(std::string_view text) {   // OWS around a field's value (RFC 9110 5.6.3)
    const auto space = [](char c) { return c == ' ' || c == '\t'; };
    while (!text.empty() && space(text.front())) text.remove_prefix(1);
    while (!text.empty() && space(text.back())) text.remove_suffix(1);
    return text;
}

}  // namespace

std::string_view host_of(std::string_view authority) {
    if (authority.starts_with('[')) {
        const std::size_t end = authority.find(']');
        if (end == std::string_view::npos || !is_v6(authority.substr(1, end - 1))) return {};
        const std::string_view behind = authority.substr(end + 1);
        return behind.empty() || (behind.front() == ':' && is_port(behind.substr(1))) ? authority.substr(0, end + 1) : std::string_view();
    }
    const std::size_t colon = authority.find(':');
    const std::string_view host = authority.substr(0, colon);
    if (colon != std::string_view::npos && !is_port(authority.substr(colon + 1))) return {};
    return is_name_or_v4(host) ? host : std::string_view();
}

struct RedirectReader::State {
    llhttp_settings_t settings{};
    llhttp_t parser{};
    std::size_t taken = 0;       ///< octets of the head so far
    std::string target, field, value, host;
    unsigned hosts = 0;
    bool complete = false;
    Outcome outcome = Outcome::more;
    std::string_view why;
    std::string location;

    static State& of(llhttp_t* parser) { return *static_cast<State*>(parser->data); }

    State() {
        llhttp_settings_init(&settings);
        settings.on_url = [](llhttp_t* p, const char* at, std::size_t length) {
            of(p).target.append(at, length);
            return 0;
        };
        settings.on_header_field = [](llhttp_t* p, const char* at, std::size_t length) {
            of(p).field.append(at, length);
            return 0;
        };
        settings.on_header_value = [](llhttp_t* p, const char* at, std::size_t length) {
            of(p).value.append(at, length);
            return 0;
        };
        settings.on_header_value_complete = [](llhttp_t* p) {
            State& state = of(p);
            if (same_without_case(state.field, "host")) {
                ++state.hosts;
                state.host = without_space(state.value);
            }
            state.field.clear();
            state.value.clear();
            return 0;
        };
        settings.on_headers_complete = [](llhttp_t* p) -> int {
            of(p).complete = true;
            return HPE_PAUSED;   // a body is not for us
        };
        llhttp_init(&parser, HTTP_REQUEST, &settings);
        parser.data = this;
    }

    Outcome refuse(std::string_view text) {
        why = text;
        return outcome = Outcome::refuse;
    }
    Outcome decide();
};

RedirectReader::Outcome RedirectReader::State::decide() {
    if (llhttp_get_method(&parser) == HTTP_CONNECT) return refuse("CONNECT is not for a redirect");
    const unsigned major = llhttp_get_http_major(&parser), minor = llhttp_get_http_minor(&parser);
    if (major != 1) return refuse("not HTTP/1");
    // "A server MUST respond with 400 to any HTTP/1.1 request message that lacks a Host header field and to any request message that
    // contains more than one" (RFC 9112 3.2).
    if (hosts > 1) return refuse("more than one Host");
    if (hosts == 0 && minor >= 1) return refuse("no Host");
    if (hosts == 1 && host_of(host).empty()) return refuse("Host is no DNS name or address");
    std::string_view authority = host, path = target;
    constexpr std::string_view kScheme = "http://";
    if (!path.starts_with('/')) {   // absolute-form: its authority counts, not Host (RFC 9112 3.2.2)
        if (path.size() < kScheme.size() || !same_without_case(path.substr(0, kScheme.size()), kScheme))
            return refuse("the target is neither a path nor an http URI");
        path.remove_prefix(kScheme.size());
        const std::size_t end = std::min(path.find_first_of("/?#"), path.size());
        authority = path.substr(0, end);
        path.remove_prefix(end);
    }
    const std::string_view name = host_of(authority);
    if (name.empty()) return refuse(authority.empty() ? "no Host" : "the target's host is no DNS name or address");
    if (!is_path_and_query(path)) return refuse("the target has characters that no URI has");
    location = sallyport::format("https://{}{}{}", name, path.starts_with('/') ? "" : "/", path);
    return outcome = Outcome::redirect;
}

RedirectReader::RedirectReader() : state_(std::make_unique<State>()) {}
RedirectReader::~RedirectReader() = default;

RedirectReader::Outcome RedirectReader::feed(std::span<const std::byte> octets) {
    State& state = *state_;
    if (state.outcome != Outcome::more || octets.empty()) return state.outcome;
    const auto some = octets.first(std::min(octets.size(), kMaxHead - state.taken));
    state.taken += some.size();
    const llhttp_errno_t error = llhttp_execute(&state.parser, reinterpret_cast<const char*>(some.data()), some.size());
    if (state.complete) return state.decide();
    if (error != HPE_OK) return state.refuse("not an HTTP request");
    if (state.taken == kMaxHead) return state.refuse("the head is longer than 8 KiB");
    return Outcome::more;
}

std::string RedirectReader::answer(std::chrono::system_clock::time_point now) const {
    const auto date = std::chrono::floor<std::chrono::seconds>(now);
    const bool redirect = state_->outcome == Outcome::redirect;
    // No Strict-Transport-Security: it must not be sent over plain HTTP (RFC 6797 7.2).
    return sallyport::format("HTTP/1.1 {}\r\nDate: {:%a, %d %b %Y %H:%M:%S} GMT\r\n{}{}{}Content-Length: 0\r\nConnection: close\r\n\r\n",
                             redirect ? "308 Permanent Redirect" : "400 Bad Request", date, redirect ? "Location: " : "", state_->location,
                             redirect ? "\r\n" : "");
}

std::string_view RedirectReader::why() const { return state_->why; }
const std::string& RedirectReader::location() const { return state_->location; }

}  // namespace sallyport::http
