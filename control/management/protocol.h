#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

/// The management protocol: JSON objects, one a line (ended by LF), over a UNIX stream socket. The client asks, control
/// answers, in order; a client may ask again on the same connection.
///   request: {"version": 1, "id": 7, "command": ["show", "flows"], "arguments": {"limit": 10}, "from": "ssh
///   192.0.2.7"}
///            version and arguments may be left out; id (an integer or a short string) too: the answer then has null;
///            from is where the person sits, as the client says: for the audit log, and believed by nobody
///   answer:  {"version": 1, "id": 7, "ok": true, "result": ...}
///        or  {"version": 1, "id": 7, "ok": false, "error": {"code": "unknown_command", "text": "..."}}
/// No octet of JSON text is LF: dump() escapes it inside strings. Pure functions, any thread.
namespace sallyport::management {

constexpr int kProtocolVersion = 1;
/// Longest request line with its LF: a whole configuration of some ten thousand lines fits.
constexpr std::size_t kMaxRequest = 1024 * 1024;
constexpr std::size_t kMaxCommandWords = 16;
constexpr std::size_t kMaxIdLength = 64;     ///< octets of an id that is a string
constexpr std::size_t kMaxFromLength = 128;  ///< octets of from
constexpr std::size_t kMaxNesting = 16;      ///< of JSON arrays and objects

/// Why a request was not done. `code` is for programs and stable; `text` is one line for a person.
/// Codes made here and by the server: bad_request, unsupported_version, too_long, too_big, busy, unknown_command,
/// unknown_argument, bad_argument, forbidden, internal. A handler may use others.
struct Error {
    std::string code;
    std::string text;
};

using Result = std::expected<nlohmann::json, Error>;

struct Request {
    nlohmann::json id;                 ///< integer, string or null; goes back with the answer
    std::vector<std::string> command;  ///< 1 to kMaxCommandWords words, none empty
    nlohmann::json arguments = nlohmann::json::object();
    std::string from{};  ///< where the client says that its person sits; empty: it did not say

    /// The command's words with one space between.
    [[nodiscard]] std::string name() const;
    /// The argument if it is there; the error is bad_argument when it is not an integer from `least` to `most`.
    [[nodiscard]] std::expected<std::uint64_t, Error> number(const std::string& argument, std::uint64_t otherwise,
                                                             std::uint64_t least, std::uint64_t most) const;
    /// The argument, or empty when it is not there; the error is bad_argument when it is no string.
    [[nodiscard]] std::expected<std::string, Error> text(const std::string& argument) const;
    /// The argument, or `otherwise` when it is not there; the error is bad_argument when it is neither true nor false.
    [[nodiscard]] std::expected<bool, Error> flag(const std::string& argument, bool otherwise) const;
};

/// A request that could not be understood, with its id as far as that could be read.
struct BadRequest {
    nlohmann::json id;
    Error error;
};

/// Reads one line without its LF (a CR before it is white space to JSON). Never throws for what a line may hold.
[[nodiscard]] std::expected<Request, BadRequest> parse_request(std::string_view line);

/// The line, LF included. Octets of strings that are not UTF-8 become U+FFFD.
[[nodiscard]] std::string format_request(const Request& request);
[[nodiscard]] std::string format_answer(const nlohmann::json& id, const Result& result);

struct Answer {
    nlohmann::json id;
    Result result;
};
/// Reads one answer line; the error tells what of the protocol it breaks.
[[nodiscard]] std::expected<Answer, std::string> parse_answer(std::string_view line);

}  // namespace sallyport::management
