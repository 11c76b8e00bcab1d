#pragma once

// A second, plain implementation of record protection on OpenSSL's EVP, and buffers split into pieces: what the tests
// of crypto/ compare with.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include "crypto/aead_batch.h"

namespace sallyport::crypto {

using Octets = std::vector<std::byte>;

inline Octets from_hex(std::string_view text) {
    Octets octets;
    int high = -1;
    for (const char c : text) {
        if (c == ' ' || c == '\n') continue;
        const int digit = c <= '9' ? c - '0' : c - 'a' + 10;
        if (high < 0) {
            high = digit;
        } else {
            octets.push_back(static_cast<std::byte>(high << 4 | digit));
            high = -1;
        }
    }
    return octets;
}

inline std::size_t random_up_to(std::mt19937_64& random, std::size_t most) {
    return std::uniform_int_distribution<std::size_t>(0, most)(random);
}

inline Octets random_octets(std::mt19937_64& random, std::size_t length) {
    Octets octets(length);
    for (std::byte& octet : octets) octet = static_cast<std::byte>(random());
    return octets;
}

inline const unsigned char* raw(const std::byte* data) { return reinterpret_cast<const unsigned char*>(data); }
inline unsigned char* raw(std::byte* data) { return reinterpret_cast<unsigned char*>(data); }

/// A key of one direction as both implementations take it.
struct ReferenceKey {
    const CipherSuite* suite;
    Octets key, iv;
    std::uint64_t sequence = 0;
    std::uint64_t explicit_nonce = 0;

    static ReferenceKey random(std::uint16_t suite_id, std::mt19937_64& random, std::uint64_t sequence = 0) {
        const CipherSuite* suite = find_cipher_suite(suite_id);
        const bool salt = suite->version == Version::tls12 && suite->aead != Aead::chacha20_poly1305;
        return {suite, random_octets(random, key_length(suite->aead)), random_octets(random, salt ? 4 : 12), sequence,
                random()};
    }
    [[nodiscard]] TrafficKey traffic_key() const {
        TrafficKey traffic_key;
        traffic_key.key.assign(key);
        traffic_key.iv.assign(iv);
        return traffic_key;
    }
    [[nodiscard]] RecordProtection protection() const {
        RecordProtection made;
        made.install(*suite, traffic_key(), sequence, explicit_nonce);
        return made;
    }
    [[nodiscard]] bool has_explicit_nonce() const { return iv.size() == 4; }
};

inline void append_big_endian(Octets& to, std::uint64_t value, int octets) {
    for (int i = octets - 1; i >= 0; --i) to.push_back(static_cast<std::byte>(value >> (8 * i)));
}

/// Encrypts `plaintext` (on TLS 1.3 the TLSInnerPlaintext) as one whole record, and counts `key` on.
inline Octets reference_record(ReferenceKey& key, std::uint8_t outer_type, const Octets& plaintext) {
    Octets nonce = key.iv;
    Octets record{static_cast<std::byte>(outer_type), std::byte{3}, std::byte{3}};
    append_big_endian(record, plaintext.size() + 16 + (key.has_explicit_nonce() ? 8 : 0), 2);
    Octets additional = record;
    if (key.suite->version == Version::tls12) {
        additional.clear();
        append_big_endian(additional, key.sequence, 8);
        additional.insert(additional.end(), {static_cast<std::byte>(outer_type), std::byte{3}, std::byte{3}});
        append_big_endian(additional, plaintext.size(), 2);
    }
    if (key.has_explicit_nonce()) {
        append_big_endian(nonce, key.explicit_nonce, 8);
        append_big_endian(record, key.explicit_nonce++, 8);
    } else {
        for (int i = 0; i < 8; ++i) nonce[4 + i] ^= static_cast<std::byte>(key.sequence >> (8 * (7 - i)));
    }
    ++key.sequence;

    const EVP_CIPHER* cipher = key.suite->aead == Aead::aes_128_gcm   ? EVP_aes_128_gcm()
                               : key.suite->aead == Aead::aes_256_gcm ? EVP_aes_256_gcm()
                                                                      : EVP_chacha20_poly1305();
    const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(EVP_CIPHER_CTX_new(),
                                                                                  EVP_CIPHER_CTX_free);
    const std::size_t at = record.size();
    record.resize(at + plaintext.size() + 16);
    int length = 0;
    bool good = EVP_EncryptInit_ex(context.get(), cipher, nullptr, raw(key.key.data()), raw(nonce.data())) == 1;
    good = good && EVP_EncryptUpdate(context.get(), nullptr, &length, raw(additional.data()),
                                     static_cast<int>(additional.size())) == 1;
    good = good && EVP_EncryptUpdate(context.get(), raw(record.data() + at), &length, raw(plaintext.data()),
                                     static_cast<int>(plaintext.size())) == 1;
    good = good && EVP_EncryptFinal_ex(context.get(), raw(record.data() + at + length), &length) == 1;
    good = good && EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, 16,
                                       record.data() + at + plaintext.size()) == 1;
    EXPECT_TRUE(good);
    return record;
}

/// As reference_record, from content: adds the type and `padding` zeros on TLS 1.3.
inline Octets reference_seal(ReferenceKey& key, ContentType type, Octets content, std::size_t padding = 0) {
    if (key.suite->version == Version::tls12) return reference_record(key, static_cast<std::uint8_t>(type), content);
    content.push_back(static_cast<std::byte>(type));
    content.resize(content.size() + padding);
    return reference_record(key, 23, content);
}

/// Octets in pieces, each between two guards that must stay as they are.
class Scattered {
 public:
    Scattered(const Octets& octets, const std::vector<std::size_t>& lengths) {
        std::size_t at = 0;
        for (const std::size_t length : lengths) add(octets, at, length);
        if (at < octets.size()) add(octets, at, octets.size() - at);
    }
    /// Splits at random: mostly like packets, sometimes into single octets.
    Scattered(const Octets& octets, std::mt19937_64& random) {
        const std::size_t most = std::array<std::size_t, 6>{1, 3, 17, 200, 1448, 20000}[random_up_to(random, 5)];
        for (std::size_t at = 0; at < octets.size();) add(octets, at, 1 + random_up_to(random, most - 1));
    }
    [[nodiscard]] std::vector<WritePiece> write_pieces() {
        std::vector<WritePiece> pieces;
        for (Octets& part : parts_)
            pieces.push_back({part.data() + kGuard, static_cast<std::uint32_t>(part.size() - 2 * kGuard)});
        return pieces;
    }
    [[nodiscard]] std::vector<ReadPiece> read_pieces() {
        std::vector<ReadPiece> pieces;
        for (const WritePiece& piece : write_pieces()) pieces.push_back({piece.data, piece.length});
        return pieces;
    }
    [[nodiscard]] Octets join() const {
        Octets all;
        for (const Octets& part : parts_) all.insert(all.end(), part.begin() + kGuard, part.end() - kGuard);
        return all;
    }
    [[nodiscard]] bool guards_intact() const {
        const auto is_guard = [](std::byte octet) { return octet == kGuardOctet; };
        return std::ranges::all_of(parts_, [&](const Octets& part) {
            return std::all_of(part.begin(), part.begin() + kGuard, is_guard) &&
                   std::all_of(part.end() - kGuard, part.end(), is_guard);
        });
    }

 private:
    static constexpr std::ptrdiff_t kGuard = 64;
    static constexpr std::byte kGuardOctet{0xa5};
    void add(const Octets& octets, std::size_t& at, std::size_t length) {
        length = std::min(length, octets.size() - at);
        Octets part(kGuard, kGuardOctet);
        const auto from = octets.begin() + static_cast<std::ptrdiff_t>(at);
        part.insert(part.end(), from, from + static_cast<std::ptrdiff_t>(length));
        part.insert(part.end(), kGuard, kGuardOctet);
        parts_.push_back(std::move(part));
        at += length;
    }
    std::vector<Octets> parts_;
};

constexpr std::array<std::uint16_t, 6> kEveryProtection{0x1301, 0x1302, 0x1303, 0xc02f, 0xc030, 0xcca8};

struct Opened {
    OpenResult result;
    Octets fragment;  ///< after opening
    [[nodiscard]] Octets content() const {
        const auto begin = fragment.begin() + result.content_offset;
        return {begin, begin + result.content_length};
    }
};

inline RecordHeader header_of(const Octets& record, const RecordProtection& protection) {
    const auto header =
        parse_record_header(std::span(record).first<kRecordHeaderLength>(), protection);
    EXPECT_TRUE(header.has_value());
    return header.value_or(RecordHeader{ContentType::application_data, 0});
}

/// Opens a whole record, whose fragment is split after `lengths`.
inline Opened open_record(AeadBatch& batch, RecordProtection& protection, const Octets& record,
                          const std::vector<std::size_t>& lengths = {}) {
    Opened opened;
    const RecordHeader header = header_of(record, protection);
    Scattered fragment(Octets(record.begin() + kRecordHeaderLength, record.end()), lengths);
    EXPECT_TRUE(batch.open(protection, header, fragment.write_pieces(), &opened.result));
    EXPECT_EQ(opened.result.status, OpenResult::Status::pending);
    batch.flush();
    EXPECT_TRUE(fragment.guards_intact());
    opened.fragment = fragment.join();
    return opened;
}

inline Octets seal_record(AeadBatch& batch, RecordProtection& protection, ContentType type, const Octets& content) {
    Octets record(protection.sealed_length(content.size()));
    const ReadPiece from{content.data(), static_cast<std::uint32_t>(content.size())};
    const WritePiece to{record.data(), static_cast<std::uint32_t>(record.size())};
    EXPECT_TRUE(batch.seal(protection, type, {&from, 1}, {&to, 1}));
    batch.flush();
    return record;
}

}  // namespace sallyport::crypto
