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
        plaintext_overflow,   ///< content longer than 2^14: alert record_overflow
    };
    Status status = Status::pending;
    ContentType type = ContentType::application_data;  ///< the inner type on TLS 1.3
    std::uint32_t content_offset = 0;  ///< of the content within the fragment (1.2 AES-GCM: 8, else 0)
    std::uint32_t content_length = 0;  ///< without padding, content type and tag
};

/// Opens and seals records of many connections in one go (IPsec-MB: AES-NI, AVX-512/VAES, chosen at run time).
/// Keys are expanded per flush, for each key once; the next record's key and data are prefetched while one is worked on.
/// One per worker, used by that worker only. Never blocks, never allocates after construction.
class AeadBatch {
 public:
    static constexpr std::size_t kMaxRecords = 128;
    static constexpr std::size_t kMaxPieces = 8192;

    AeadBatch();
    ~AeadBatch();
    AeadBatch(const AeadBatch&) = delete;
    AeadBatch& operator=(const AeadBatch&) = delete;

    /// Queues a record for opening in place. `fragment` is what follows the record header, `header.length` octets
    /// in all, in pieces of any length from 1 (split anywhere, also inside nonce and tag). The piece list is copied; the octets,
    /// `protection` and `result` are borrowed until flush(). The sequence number of `protection` is taken now.
    /// Plaintext is written over the ciphertext, in the same pieces. Returns false when the batch is full (flush first).
    [[nodiscard]] bool open(RecordProtection& protection, RecordHeader header, std::span<const WritePiece> fragment,
                            OpenResult* result) noexcept;

    /// Queues `content` (at most 2^14 octets, may be empty where the type allows it) to be sealed as one record of `type`
    /// into `record`, whose pieces hold exactly protection.sealed_length(content length) octets. Splits of both lists are
    /// independent. Output must not overlap input. Sequence number (and explicit nonce) are taken now. Borrowing as open().
    /// Sealing cannot fail once queued. Returns false when the batch is full.
    [[nodiscard]] bool seal(RecordProtection& protection, ContentType type, std::span<const ReadPiece> content,
                            std::span<const WritePiece> record) noexcept;

    /// Does everything queued, in order: opens and seals may be mixed; a seal may read what an earlier open wrote.
    void flush() noexcept;

    [[nodiscard]] std::size_t queued() const noexcept;

    struct Counters {
        std::uint64_t opened = 0, sealed = 0, failed = 0, octets = 0, flushes = 0, key_expansions = 0;
    };
    [[nodiscard]] const Counters& counters() const noexcept;

 private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace sallyport::crypto
