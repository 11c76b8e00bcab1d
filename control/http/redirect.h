#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

/// The little of HTTP/1 (RFC 9112) that a listener for plain HTTP needs: one request's head in, one answer out.
namespace sallyport::http {

/// Octets of a request's head, request line included, that are read at most.
constexpr std::size_t kMaxHead = 8 * 1024;

/// Reads one request's head and answers it with 308 Permanent Redirect (RFC 9110 15.4.9) to the same host, path and query over https, or
/// with 400. Nothing of a request is repeated that has not been checked octet by octet: the host is a DNS name or an address, the path
/// and query are characters of a URI. A port in the request is that of plain HTTP, and is left out.
/// Used by one thread. Does no I/O; never throws but std::bad_alloc; holds at most kMaxHead octets of a request.
class RedirectReader {
 public:
    enum class Outcome : unsigned char {
        more,       ///< the head is not complete
        redirect,   ///< answer() is the redirect
        refuse,     ///< answer() is 400, why() says what was wrong
    };

    RedirectReader();
    ~RedirectReader();
    RedirectReader(const RedirectReader&) = delete;
    RedirectReader& operator=(const RedirectReader&) = delete;

    /// Takes the next octets, split anyhow. After another outcome than `more` everything is ignored: a body, a second request.
    [[nodiscard]] Outcome feed(std::span<const std::byte> octets);
    /// The whole answer; the connection is to be closed after it. Precondition: an outcome other than `more`. `now` is for Date (RFC 9110 6.6.1).
    [[nodiscard]] std::string answer(std::chrono::system_clock::time_point now) const;
    /// For a person; empty unless refused. Nothing of the request is in it.
    [[nodiscard]] std::string_view why() const;
    /// Where the redirect leads; empty unless there is one.
    [[nodiscard]] const std::string& location() const;

 private:
    struct State;
    std::unique_ptr<State> state_;
};

/// The host of an authority (RFC 3986 3.2) without its port, as it stands in a URI: a DNS name, an IPv4 address, or an IPv6 address in
/// brackets. Empty when it is none, or has user information or a bad port.
[[nodiscard]] std::string_view host_of(std::string_view authority);

}  // namespace sallyport::http
