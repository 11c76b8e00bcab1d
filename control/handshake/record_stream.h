#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace sallyport::handshake {

/// Cuts a TCP stream into TLS records (RFC 8446 5.1) without looking inside them, so that libssl can be given one at a time:
/// what it is not given it cannot consume, and the first record after the handshake stays where it is.
/// Memory is bounded by one record. Used by one thread.
class RecordStream {
 public:
    enum class Kind : std::uint8_t {
        more,        ///< the octets end inside a record; they have been kept
        record,      ///< `octets` is one whole record
        not_tls,     ///< the stream does not begin with a TLS handshake record (`first_is_hello` only)
        malformed,   ///< `octets` is a header that no record may have: unknown type, other version, too long
    };
    struct Next {
        Kind kind;
        std::span<const std::byte> octets;   ///< borrowed until the next call, or as long as the input
    };

    /// `first_is_hello`: the first record must be a plaintext handshake record, else not_tls.
    explicit RecordStream(bool first_is_hello) : first_is_hello_(first_is_hello) {}

    /// Takes octets from the front of `stream`, at most to the end of one record.
    [[nodiscard]] Next take(std::span<const std::byte>& stream);

 private:
    bool first_is_hello_;
    bool first_ = true;
    std::vector<std::byte> kept_;   ///< the beginning of a record whose end has not come
};

}  // namespace sallyport::handshake
