// Fuzzes parse_record_header() and AeadBatch::open(): what a peer can send to a connection whose keys are known.
//
// Input: one octet that chooses the suite, and whether to forge; one that chooses the split; then octets that are
//   - forging: a record header and fragment as from the network (they never authenticate, or nearly never);
//   - else:    a TLSInnerPlaintext (1.3) or plaintext (1.2) that is encrypted properly first, so that what lies behind
//              the authentication is reached too.
// Checks: no more than the pieces is touched (each has memory of its own), and every outcome is consistent.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include <openssl/evp.h>

#include "crypto/aead_batch.h"
#include "crypto/check.h"

namespace sallyport::crypto {
namespace {

constexpr std::uint16_t kSuites[] = {0x1301, 0x1302, 0x1303, 0xc02f, 0xc030, 0xcca8};

RecordProtection make_protection(const CipherSuite& suite) {
    std::array<std::byte, kMaxKeyLength> key;
    key.fill(std::byte{0x11});
    const bool salt = suite.version == Version::tls12 && suite.aead != Aead::chacha20_poly1305;
    TrafficKey traffic_key;
    traffic_key.key.assign(std::span(key).first(key_length(suite.aead)));
    traffic_key.iv.assign(std::span(key).first(salt ? 4 : 12));
    RecordProtection protection;
    protection.install(suite, traffic_key, 0, 1);
    return protection;
}

const unsigned char* raw(const std::byte* data) { return reinterpret_cast<const unsigned char*>(data); }
unsigned char* raw(std::byte* data) { return reinterpret_cast<unsigned char*>(data); }

/// A record of sequence number 0 with exactly this plaintext, padding and type included, sealed with EVP.
std::vector<std::byte> encrypt(const CipherSuite& suite, std::span<const std::byte> plaintext) {
    const bool tls12 = suite.version == Version::tls12;
    const bool explicit_nonce = tls12 && suite.aead != Aead::chacha20_poly1305;
    const std::size_t at = kRecordHeaderLength + (explicit_nonce ? 8 : 0);
    std::vector<std::byte> record(at + plaintext.size() + kAeadTagLength);
    const std::size_t fragment = record.size() - kRecordHeaderLength;
    const auto put_header = [](std::byte* to, std::size_t length) {
        to[0] = std::byte{23};
        to[1] = to[2] = std::byte{3};
        to[3] = static_cast<std::byte>(length >> 8);
        to[4] = static_cast<std::byte>(length);
    };
    put_header(record.data(), fragment);
    std::array<std::byte, 13> additional{};
    put_header(additional.data() + 8, tls12 ? plaintext.size() : fragment);
    std::array<std::byte, kMaxKeyLength> key;
    key.fill(std::byte{0x11});
    std::array<std::byte, kAeadNonceLength> nonce;
    nonce.fill(std::byte{0x11});
    if (explicit_nonce) std::ranges::fill(std::span(nonce).last<8>(), std::byte{0});  // as in the record

    const EVP_CIPHER* cipher = suite.aead == Aead::aes_128_gcm   ? EVP_aes_128_gcm()
                               : suite.aead == Aead::aes_256_gcm ? EVP_aes_256_gcm()
                                                                 : EVP_chacha20_poly1305();
    const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(EVP_CIPHER_CTX_new(),
                                                                                  EVP_CIPHER_CTX_free);
    int length = 0;
    const std::span used = tls12 ? std::span(additional) : std::span(additional).last(kRecordHeaderLength);
    bool good = EVP_EncryptInit_ex(context.get(), cipher, nullptr, raw(key.data()), raw(nonce.data())) == 1;
    good &= EVP_EncryptUpdate(context.get(), nullptr, &length, raw(used.data()), static_cast<int>(used.size())) == 1;
    good &= EVP_EncryptUpdate(context.get(), raw(record.data() + at), &length, raw(plaintext.data()),
                              static_cast<int>(plaintext.size())) == 1;
    good &= EVP_EncryptFinal_ex(context.get(), raw(record.data() + at + length), &length) == 1;
    good &= EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, kAeadTagLength,
                                record.data() + at + plaintext.size()) == 1;
    SALLYPORT_CHECK(good);
    return record;
}

/// What opening must say about a plaintext that authenticates.
void check_opened(const CipherSuite& suite, std::span<const std::byte> plaintext, const OpenResult& result,
                  std::span<const std::byte> fragment) {
    using Status = OpenResult::Status;
    std::size_t content = plaintext.size();
    if (suite.version == Version::tls13) {
        if (plaintext.size() > kMaxPlaintextLength + 1) {
            SALLYPORT_CHECK(result.status == Status::plaintext_overflow);
            return;
        }
        while (content > 0 && plaintext[content - 1] == std::byte{0}) --content;
        if (content == 0) {
            SALLYPORT_CHECK(result.status == Status::no_content_type);
            return;
        }
        --content;
        SALLYPORT_CHECK(result.type == static_cast<ContentType>(plaintext[content]));
    } else if (content > kMaxPlaintextLength) {
        SALLYPORT_CHECK(result.status == Status::plaintext_overflow);
        return;
    }
    SALLYPORT_CHECK(result.status == Status::ok);
    SALLYPORT_CHECK(result.content_length == content);
    SALLYPORT_CHECK(std::ranges::equal(fragment.subspan(result.content_offset, content), plaintext.first(content)));
}

void run(std::span<const std::byte> input) {
    static AeadBatch batch;
    if (input.size() < 2) return;
    const auto choice = std::to_integer<unsigned>(input[0]);
    const CipherSuite& suite = *find_cipher_suite(kSuites[choice % std::size(kSuites)]);
    const bool forging = choice >= 128;
    auto split = std::to_integer<std::size_t>(input[1]);
    input = input.subspan(2).first(std::min<std::size_t>(input.size() - 2, kMaxTls12CiphertextLength + 100));

    RecordProtection protection = make_protection(suite);
    const std::vector<std::byte> record =
        forging ? std::vector<std::byte>(input.begin(), input.end()) : encrypt(suite, input);
    if (record.size() < kRecordHeaderLength) return;
    const auto header = parse_record_header(std::span(record).first<kRecordHeaderLength>(), protection);
    if (!header) return;
    const std::size_t most =
        suite.version == Version::tls13 ? kMaxTls13CiphertextLength : kMaxTls12CiphertextLength;
    SALLYPORT_CHECK(header->length <= most);
    if (record.size() - kRecordHeaderLength < header->length) return;  // more octets to come
    if (suite.version == Version::tls13 && header->type == ContentType::change_cipher_spec) {
        SALLYPORT_CHECK(header->length == 1);
        return;
    }

    std::vector<std::unique_ptr<std::byte[]>> memory;
    std::vector<WritePiece> pieces;
    for (std::size_t at = 0; at < header->length;) {
        split = (split * 5 + 3) % 256;
        const std::size_t length = std::min<std::size_t>(header->length - at, split < 128 ? split % 33 + 1 : split * 12);
        memory.push_back(std::make_unique<std::byte[]>(length));
        std::memcpy(memory.back().get(), record.data() + kRecordHeaderLength + at, length);
        pieces.push_back({memory.back().get(), static_cast<std::uint32_t>(length)});
        at += length;
    }
    OpenResult result;
    SALLYPORT_CHECK(batch.open(protection, *header, pieces, &result));
    batch.flush();
    SALLYPORT_CHECK(protection.sequence() == 1);
    SALLYPORT_CHECK(result.content_offset + result.content_length <= header->length);
    std::vector<std::byte> fragment;
    for (const WritePiece& piece : pieces) fragment.insert(fragment.end(), piece.data, piece.data + piece.length);
    if (!forging) check_opened(suite, input, result, fragment);
    if (result.status == OpenResult::Status::bad_record_mac)
        SALLYPORT_CHECK(std::all_of(fragment.begin() + result.content_offset, fragment.end() - kAeadTagLength,
                                    [](std::byte octet) { return octet == std::byte{0}; }));
}

}  // namespace
}  // namespace sallyport::crypto

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    sallyport::crypto::run(std::as_bytes(std::span(data, size)));
    return 0;
}
