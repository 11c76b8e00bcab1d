#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "crypto/record_protection.h"

namespace sallyport::crypto {

/// What became of one record that was queued for opening. Written by AeadBatch::flush().
struct OpenResult {
    enum class Status : std::uint8_t {
        pending,
        ok,
        bad_record_mac,       ///< authentication failed: alert bad_record_mac, the connection must close; the pieces are wiped
        no_content_type,      ///< TLS 1.3 plaintext of zeros only: alert unexpected_message (RFC 8446 5.4)
        plaintext_overflow,   ///< content longer than 2^14, or with padding and type than 2^14 + 1 (RFC 8446 5.4): alert
                              ///< record_overflow; the pieces are wiped
    };
    Status status = Status::pending;
    ContentType type = ContentType::application_data;  ///< the inner type on TLS 1.3; any octet but 0 may stand here
    std::uint32_t content_offset = 0;  ///< of the content within the fragment (1.2 AES-GCM: 8, else 0)
    std::uint32_t content_length = 0;  ///< without padding, content type and tag
};

/// Opens and seals records of many connections in one go (IPsec-MB: AES-NI, AVX-512/VAES, chosen at run time; ChaCha20-Poly1305 on more than 2 KB
/// is OpenSSL's, see LongChaCha).
/// An AES key is expanded per flush, for each key once; those of the few busiest connections stay expanded (kKeptKeys). The next record's
/// data are prefetched while one is worked on.
/// One per worker, used by that worker only. Never blocks, never allocates after construction.
/// Its memory is left out of core dumps; key material in it lives from a queued record to the end of flush(), and an expanded key that is
/// kept until forget() or until another takes its place. OpenSSL's own memory holds one from its first long record to the end of flush().
class AeadBatch {
 public:
    static constexpr std::size_t kMaxRecords = 128;
    /// An empty batch takes any one record, however it is split: sealing 2^14 octets in pieces of one octet needs
    /// 2^14 + (2^14 + 29) pieces.
    static constexpr std::size_t kMaxPieces = 1 << 16;

    /// Expanded keys that stay, four of a flow between two TLS peers: those of a few hundred busy ones, with room enough that they do not drive each other out. Among
    /// more keys than that, each of them used seldom, to expand a key again is faster than to fetch it expanded from memory, and none is kept.
    static constexpr std::size_t kKeptKeys = 1024;

    /// Which of IPsec-MB's implementations to use; a test names one that the processor may not choose by itself.
    enum class Instructions : std::uint8_t { best,
                                             sse,
                                             avx2,
                                             avx2_vaes,
                                             avx512 };

    /// Stops the process when memory is lacking, or IPsec-MB's self-test fails, or the processor lacks `instructions`.
    explicit AeadBatch(Instructions instructions = Instructions::best);
    ~AeadBatch();
    AeadBatch(const AeadBatch&) = delete;
    AeadBatch& operator=(const AeadBatch&) = delete;

    /// Whether a record is opened whatever became of those before it.
    enum class After : std::uint8_t {
        anything,
        /// Only while every record of the same `protection` that this flush() opened before it turned out to be application data:
        /// behind a KeyUpdate another key holds, and behind a failure nothing. Else it is left alone: status pending, its
        /// octets untouched, its sequence number given back. So `protection` may not change before flush().
        application_data,
    };

    /// Queues a record for opening in place. `fragment` is what follows the record header, `header.length` octets
    /// in all, in pieces of any length from 1 (split anywhere, also inside nonce and tag). `header` is one that
    /// parse_record_header() returned for `protection`. The piece list is copied; the octets and `result` are borrowed
    /// until flush(). The sequence number of `protection` is taken now, and its key: it may be given another key or be
    /// cleared before flush(). Plaintext is written over the ciphertext, in the same pieces; where the record fails, zeros.
    /// Returns false when the batch is full (flush first); then nothing was taken.
    [[nodiscard]] bool open(RecordProtection& protection, RecordHeader header, std::span<const WritePiece> fragment,
                            OpenResult* result, After after = After::anything) noexcept;

    /// Whether the octet behind the content's last one, in memory, may be overwritten by flush(). With TLS 1.3 the type is
    /// encrypted behind the content: where it can be put there, one call of IPsec-MB does a record that lies in one
    /// piece (a fifth faster at 1400 octets), else the content's end is bounced. Behind the content of a record that was opened in
    /// the same piece there always is such an octet: its padding, type or tag.
    enum class OctetBehind : std::uint8_t { untouched, free };

    /// Queues `content` (at most 2^14 octets, may be empty where the type allows it) to be sealed as one record of `type`
    /// into `record`, whose pieces hold exactly protection.sealed_length(content length) octets. Splits of both lists are
    /// independent. Output must not overlap input. Sequence number (and explicit nonce) are taken now. Borrowing as open().
    /// The sequence number 2^64 - 1 is the last: it clears `protection`, since numbers must not wrap (RFC 8446 5.3).
    /// Sealing cannot fail once queued. Returns false when the batch is full.
    [[nodiscard]] bool seal(RecordProtection& protection, ContentType type, std::span<const ReadPiece> content,
                            std::span<const WritePiece> record,
                            OctetBehind behind = OctetBehind::untouched) noexcept;

    /// Does everything queued, in order: opens and seals may be mixed; a seal may read what an earlier open wrote.
    void flush() noexcept;

    /// Wipes what is kept of the keys of `protection`, which must be told where it is cleared or given another key, and again after a flush()
    /// if records of it were queued then. It need not live any more. Which key a record gets does not depend on it.
    void forget(const RecordProtection& protection) noexcept;

    [[nodiscard]] std::size_t queued() const noexcept;

    struct Counters {
        std::uint64_t opened = 0, sealed = 0, failed = 0, octets = 0, flushes = 0;
        std::uint64_t key_expansions = 0, keys_found = 0;   ///< of AES: expanded, and found expanded
    };
    [[nodiscard]] const Counters& counters() const noexcept;

    /// Whether this processor has what `instructions` needs.
    [[nodiscard]] static bool supported(Instructions instructions) noexcept;

 private:
    friend struct AeadBatchTestAccess;
    struct State;
    /// All memory of this batch but IPsec-MB's own, for the test that looks for keys in it.
    [[nodiscard]] std::span<const std::byte> memory() const noexcept;
    std::unique_ptr<State> state_;
};

}  // namespace sallyport::crypto
