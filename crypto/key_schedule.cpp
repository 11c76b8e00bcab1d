#include "crypto/key_schedule.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <memory>
#include <string_view>
#include <utility>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

namespace sallyport::crypto {
namespace {

/// Fetched once for the process and never freed: a fetch takes a lock and a search through the providers, and a
/// worker may still derive keys while the process's static objects are being destroyed.
struct Algorithms {
    EVP_MAC* hmac = EVP_MAC_fetch(nullptr, OSSL_MAC_NAME_HMAC, nullptr);
    EVP_KDF* tls1_prf = EVP_KDF_fetch(nullptr, OSSL_KDF_NAME_TLS1_PRF, nullptr);
};

const Algorithms& algorithms() noexcept {
    static const Algorithms fetched;
    return fetched;
}

char* digest_name(Hash hash) noexcept {
    // OSSL_PARAM has no form for strings that are only read; libcrypto does not write to them.
    return const_cast<char*>(hash == Hash::sha256 ? "SHA2-256" : "SHA2-384");
}

OSSL_PARAM octets_param(const char* name, std::span<const std::byte> octets) noexcept {
    return OSSL_PARAM_construct_octet_string(name, const_cast<std::byte*>(octets.data()), octets.size());
}

std::expected<void, KeyScheduleError> derive(EVP_KDF* kdf, const OSSL_PARAM* params, std::span<std::byte> out) noexcept {
    if (kdf == nullptr) return std::unexpected(KeyScheduleError::library_failure);
    const std::unique_ptr<EVP_KDF_CTX, decltype(&EVP_KDF_CTX_free)> context(EVP_KDF_CTX_new(kdf), EVP_KDF_CTX_free);
    if (context == nullptr ||
        EVP_KDF_derive(context.get(), reinterpret_cast<unsigned char*>(out.data()), out.size(), params) <= 0) {
        wipe(out.data(), out.size());
        return std::unexpected(KeyScheduleError::library_failure);
    }
    return {};
}

struct Expanded {
    std::string_view label;
    std::span<std::byte> out;
};

/// HKDF-Expand-Label(secret, label, "", out.size()) (RFC 8446 7.1) for each. None is longer than a hash, so that each is the first block of HKDF-Expand
/// (RFC 5869 2.3), T(1) = HMAC-Hash(secret, info | 0x01); the key of that is set up once for all.
std::expected<void, KeyScheduleError> hkdf_expand_labels(const CipherSuite& suite, const TrafficSecret& secret, std::initializer_list<Expanded> all) noexcept {
    constexpr std::string_view kPrefix = "tls13 ";
    const auto raw = [](const std::byte* octets) { return reinterpret_cast<const unsigned char*>(octets); };
    EVP_MAC* const hmac = algorithms().hmac;
    const std::unique_ptr<EVP_MAC_CTX, decltype(&EVP_MAC_CTX_free)> context(hmac != nullptr ? EVP_MAC_CTX_new(hmac) : nullptr, EVP_MAC_CTX_free);
    const std::array params{OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest_name(suite.hash), 0), OSSL_PARAM_construct_end()};
    bool good = context != nullptr && EVP_MAC_init(context.get(), raw(secret.octets().data()), secret.octets().size(), params.data()) == 1;
    bool fresh = true;
    std::array<std::byte, kMaxHashLength> block;
    for (const Expanded& each : all) {
        // struct HkdfLabel { uint16 length; opaque label<7..255>; opaque context<0..255>; }, then the number of the block
        std::array<std::byte, 32> info;
        SALLYPORT_CHECK(kPrefix.size() + each.label.size() + 5 <= info.size() && each.out.size() <= hash_length(suite.hash));
        std::size_t length = 0, got = 0;
        info[length++] = static_cast<std::byte>(each.out.size() >> 8);
        info[length++] = static_cast<std::byte>(each.out.size());
        info[length++] = static_cast<std::byte>(kPrefix.size() + each.label.size());
        for (const std::string_view part : {kPrefix, each.label})
            for (const char c : part) info[length++] = static_cast<std::byte>(c);
        info[length++] = std::byte{0};
        info[length++] = std::byte{1};
        // Without a key it begins again with the one that it has (EVP_MAC_init(3)).
        good = good && (std::exchange(fresh, false) || EVP_MAC_init(context.get(), nullptr, 0, nullptr) == 1) &&
               EVP_MAC_update(context.get(), raw(info.data()), length) == 1 &&
               EVP_MAC_final(context.get(), reinterpret_cast<unsigned char*>(block.data()), &got, block.size()) == 1 && got == hash_length(suite.hash);
        if (good) std::ranges::copy(std::span(block).first(each.out.size()), each.out.begin());
    }
    wipe(block.data(), block.size());
    if (!good) {
        for (const Expanded& each : all) wipe(each.out.data(), each.out.size());
        return std::unexpected(KeyScheduleError::library_failure);
    }
    return {};
}

/// The length of the static IV that the record protection of `suite` needs.
std::size_t iv_length(const CipherSuite& suite) noexcept {
    constexpr std::size_t kGcmSaltLength = 4;  // RFC 5288 3
    return suite.version == Version::tls12 && suite.aead != Aead::chacha20_poly1305 ? kGcmSaltLength : kAeadNonceLength;
}

}  // namespace

std::expected<TrafficKey, KeyScheduleError> derive_traffic_key(const CipherSuite& suite,
                                                              const TrafficSecret& secret) noexcept {
    SALLYPORT_CHECK(suite.version == Version::tls13);
    if (secret.octets().size() != hash_length(suite.hash)) return std::unexpected(KeyScheduleError::wrong_length);

    std::array<std::byte, kMaxKeyLength> key;
    std::array<std::byte, kAeadNonceLength> iv;
    const std::span key_octets = std::span(key).first(key_length(suite.aead));
    const auto derived = hkdf_expand_labels(suite, secret, {{"key", key_octets}, {"iv", iv}});
    std::expected<TrafficKey, KeyScheduleError> result;
    if (derived) {
        result->key.assign(key_octets);
        result->iv.assign(iv);
    } else {
        result = std::unexpected(derived.error());
    }
    wipe(key.data(), key.size());
    wipe(iv.data(), iv.size());
    return result;
}

std::expected<TrafficSecret, KeyScheduleError> next_traffic_secret(const CipherSuite& suite,
                                                                  const TrafficSecret& secret) noexcept {
    SALLYPORT_CHECK(suite.version == Version::tls13);
    if (secret.octets().size() != hash_length(suite.hash)) return std::unexpected(KeyScheduleError::wrong_length);

    std::array<std::byte, kMaxHashLength> next;
    const std::span next_octets = std::span(next).first(hash_length(suite.hash));
    const auto derived = hkdf_expand_labels(suite, secret, {{"traffic upd", next_octets}});
    std::expected<TrafficSecret, KeyScheduleError> result;
    if (derived)
        result->assign(next_octets);
    else
        result = std::unexpected(derived.error());
    wipe(next.data(), next.size());
    return result;
}

std::expected<Tls12Keys, KeyScheduleError> derive_tls12_keys(const CipherSuite& suite,
                                                            std::span<const std::byte> master_secret,
                                                            std::span<const std::byte> client_random,
                                                            std::span<const std::byte> server_random) noexcept {
    SALLYPORT_CHECK(suite.version == Version::tls12);
    constexpr std::size_t kMasterSecretLength = 48;  // RFC 5246 8.1
    constexpr std::size_t kRandomLength = 32;        // RFC 5246 7.4.1.2
    if (master_secret.size() != kMasterSecretLength || client_random.size() != kRandomLength ||
        server_random.size() != kRandomLength)
        return std::unexpected(KeyScheduleError::wrong_length);

    // key_block = PRF(master_secret, "key expansion", server_random + client_random); the seeds are concatenated.
    constexpr std::string_view kLabel = "key expansion";
    const std::array params{
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest_name(suite.hash), 0),
        octets_param(OSSL_KDF_PARAM_SECRET, master_secret),
        octets_param(OSSL_KDF_PARAM_SEED, std::as_bytes(std::span(kLabel))),
        octets_param(OSSL_KDF_PARAM_SEED, server_random),
        octets_param(OSSL_KDF_PARAM_SEED, client_random),
        OSSL_PARAM_construct_end(),
    };
    std::array<std::byte, 2 * (kMaxKeyLength + kAeadNonceLength)> key_block;
    const std::size_t key_octets = key_length(suite.aead);
    const std::size_t iv_octets = iv_length(suite);
    const std::span used = std::span(key_block).first(2 * (key_octets + iv_octets));
    const auto derived = derive(algorithms().tls1_prf, params.data(), used);
    std::expected<Tls12Keys, KeyScheduleError> result;
    if (derived) {
        // An AEAD has no MAC keys: both keys, then both IVs (RFC 5246 6.3).
        result->client_write.key.assign(used.subspan(0, key_octets));
        result->server_write.key.assign(used.subspan(key_octets, key_octets));
        result->client_write.iv.assign(used.subspan(2 * key_octets, iv_octets));
        result->server_write.iv.assign(used.subspan(2 * key_octets + iv_octets, iv_octets));
    } else {
        result = std::unexpected(derived.error());
    }
    wipe(key_block.data(), key_block.size());
    return result;
}

}  // namespace sallyport::crypto
