#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "tests/bench/generator/pattern.h"

/// The generator's application protocol: HTTP/1.1 (RFC 9112) in as much as a proxy that looks into it would accept. A request names how long the
/// answer's body shall be and where in the pattern it (and the request's own body) begins:
///
///     GET /octets/0000001024/0000b33f HTTP/1.1          POST /octets/0000000000/00000007 HTTP/1.1
///     Host: www.example.com                             Host: www.example.com
///                                                       Content-Length: 0000004000
namespace sallyport::generator {

/// What a head says. Fields that it does not have are 0.
struct Head {
    std::uint16_t status = 0;            ///< of an answer; 0: it is a request
    bool close = false;                  ///< Connection: close
    std::uint64_t content_length = 0;
    std::uint64_t answer_length = 0;     ///< of a request
    std::uint32_t start = 0;             ///< likewise
};

/// Parses a head, its empty line included. The error says what is not understood. Other servers' answers are understood too, unless their
/// length is not told (chunked).
[[nodiscard]] std::expected<Head, const char*> parse_head(std::string_view text);

constexpr std::size_t kLongestRequestHead = 1024;

/// The request of a run: of the same length for every connection.
class RequestText {
 public:
    /// `size`: octets of the whole request; 0: the shortest. `path`: asked for in place of our own, when not empty. The error names the least size, or says that host and path are
    /// too long for kLongestRequestHead.
    [[nodiscard]] static std::expected<RequestText, std::string> make(const std::string& host, std::uint64_t size, std::uint64_t answer_length,
                                                                      const std::string& path = {});
    [[nodiscard]] std::size_t head_length() const noexcept { return text_.size(); }
    [[nodiscard]] std::uint64_t body_length() const noexcept { return body_; }
    /// `to` holds head_length() octets.
    void write(std::uint32_t start, std::span<char> to) const noexcept;

 private:
    std::string text_;
    std::size_t start_at_ = std::string::npos;   ///< of the digits that differ from request to request; npos: none do
    std::uint64_t body_ = 0;
};

/// The head of our own answer; returns its length. `to` holds kLongestAnswerHead.
constexpr std::size_t kLongestAnswerHead = 96;
[[nodiscard]] std::size_t write_answer_head(std::uint64_t content_length, std::span<char> to) noexcept;

/// A message that is being sent: head, then so much of the pattern. The head is made anew for each piece of it.
struct Outgoing {
    std::uint64_t sent = 0, body = 0;
    std::uint32_t head = 0;     ///< length
    std::uint32_t start = 0;    ///< of the body in the pattern

    [[nodiscard]] bool pending() const noexcept { return sent < head + body; }
    [[nodiscard]] std::uint64_t left() const noexcept { return head + body - sent; }
};

/// Messages that arrive on one connection, in whatever pieces.
class Incoming {
 public:
    enum class Step : std::uint8_t {
        more,        ///< everything was taken; the message goes on
        head,        ///< head() is known: call expect_body() before going on
        done,        ///< the message is complete
        malformed,   ///< error() says why
    };
    /// Takes octets from the front of `octets`. Octets of the body that differ from the pattern are added to `mismatched`.
    [[nodiscard]] Step take(std::span<const std::byte>& octets, const Pattern& pattern, std::uint64_t& mismatched);
    [[nodiscard]] const Head& head() const noexcept { return head_; }
    [[nodiscard]] const char* error() const noexcept { return error_; }
    /// After Step::head: the body's length, and whether it is compared with the pattern from `start` on. A body of no octets ends with the next take().
    void expect_body(std::uint64_t length, bool compare, std::uint32_t start) noexcept;
    /// No octet of a message has come yet.
    [[nodiscard]] bool at_rest() const noexcept { return !in_body_ && partial_ == nullptr; }
    void reset() noexcept { *this = Incoming(); }

 private:
    static constexpr std::size_t kLongestHead = 16384;
    Head head_;
    std::unique_ptr<std::string> partial_;   ///< a head whose end has not come
    const char* error_ = "";
    std::uint64_t body_left_ = 0;
    std::uint32_t position_ = 0;             ///< in the pattern
    bool in_body_ = false, compare_ = false;
};

}  // namespace sallyport::generator
