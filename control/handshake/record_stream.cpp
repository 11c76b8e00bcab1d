#include "control/handshake/record_stream.h"

#include <algorithm>

#include "crypto/record_protection.h"

namespace sallyport::handshake {
namespace {

enum class Verdict : std::uint8_t { incomplete, good, bad };

std::uint8_t at(std::span<const std::byte> octets, std::size_t index) { return std::to_integer<std::uint8_t>(octets[index]); }

std::size_t fragment_length(std::span<const std::byte> header) { return static_cast<std::size_t>(at(header, 3)) << 8 | at(header, 4); }

/// Judges as much of a header as is there, so that garbage is refused with its first wrong octet.
Verdict judge(std::span<const std::byte> header, bool hello) {
    using crypto::ContentType;
    if (header.empty()) return Verdict::incomplete;
    const std::uint8_t type = at(header, 0);
    const bool type_good = hello ? type == static_cast<std::uint8_t>(ContentType::handshake)
                                 : type >= static_cast<std::uint8_t>(ContentType::change_cipher_spec) &&
                                       type <= static_cast<std::uint8_t>(ContentType::application_data);
    if (!type_good) return Verdict::bad;
    // The minor version of a record is historical and libssl's to judge (RFC 8446 5.1: legacy_record_version).
    if (header.size() >= 2 && at(header, 1) != 3) return Verdict::bad;
    if (hello && header.size() >= 3 && at(header, 2) > 4) return Verdict::bad;
    if (header.size() < crypto::kRecordHeaderLength) return Verdict::incomplete;
    const std::size_t length = fragment_length(header);
    if (hello) return length > 0 && length <= crypto::kMaxPlaintextLength ? Verdict::good : Verdict::bad;
    // The larger of the two versions' limits; libssl knows which one holds and answers record_overflow.
    return length <= crypto::kMaxTls12CiphertextLength ? Verdict::good : Verdict::bad;
}

}  // namespace

RecordStream::Next RecordStream::take(std::span<const std::byte>& stream) {
    // A record that was given out whole from here is done with.
    if (kept_.size() >= crypto::kRecordHeaderLength && kept_.size() == crypto::kRecordHeaderLength + fragment_length(kept_)) kept_.clear();
    const bool hello = first_ && first_is_hello_;
    const auto bad = [&](std::span<const std::byte> header) {
        return Next{hello ? Kind::not_tls : Kind::malformed, header};
    };
    if (kept_.empty() && stream.size() >= crypto::kRecordHeaderLength) {
        const auto header = stream.first(crypto::kRecordHeaderLength);
        if (judge(header, hello) == Verdict::bad) {
            stream = stream.subspan(header.size());
            return bad(header);
        }
        const std::size_t length = crypto::kRecordHeaderLength + fragment_length(header);
        if (stream.size() >= length) {
            const auto record = stream.first(length);
            stream = stream.subspan(length);
            first_ = false;
            return {Kind::record, record};
        }
    }
    const auto keep = [&](std::size_t wanted) {
        const std::size_t length = std::min(wanted - kept_.size(), stream.size());
        kept_.insert(kept_.end(), stream.begin(), stream.begin() + static_cast<std::ptrdiff_t>(length));
        stream = stream.subspan(length);
        return kept_.size() == wanted;
    };
    if (kept_.size() < crypto::kRecordHeaderLength) {
        const bool whole = keep(crypto::kRecordHeaderLength);
        if (judge(kept_, hello) == Verdict::bad) return bad(kept_);
        if (!whole) return {Kind::more, {}};
    }
    if (!keep(crypto::kRecordHeaderLength + fragment_length(kept_))) return {Kind::more, {}};
    first_ = false;
    return {Kind::record, kept_};
}

}  // namespace sallyport::handshake
