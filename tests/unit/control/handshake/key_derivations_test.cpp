// The provider's TLS13-KDF and TLS1-PRF beside OpenSSL's own, with the same parameters.

#include <gtest/gtest.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>

#include <list>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "control/handshake/libssl.h"

namespace sallyport::handshake {
namespace {

using Octets = std::vector<unsigned char>;
using Kdf = openssl::Owner<EVP_KDF, EVP_KDF_free>;
using Derivation = openssl::Owner<EVP_KDF_CTX, EVP_KDF_CTX_free>;

constexpr const char* kOurs = "provider=sallyport";
constexpr const char* kOpenSslsOwn = "provider=default";

/// Parameters with what they point to.
class Params {
 public:
    Params& octets(const char* name, const Octets& value) {
        Octets& kept = octets_.emplace_back(value);
        if (kept.empty()) kept.reserve(1);   // a parameter without an address is none
        all_.push_back(OSSL_PARAM_construct_octet_string(name, kept.data(), kept.size()));
        return *this;
    }
    Params& text(const char* name, const std::string& value) {
        std::string& kept = texts_.emplace_back(value);
        all_.push_back(OSSL_PARAM_construct_utf8_string(name, kept.data(), 0));
        return *this;
    }
    Params& number(const char* name, int value) {
        numbers_.push_back(value);
        all_.push_back(OSSL_PARAM_construct_int(name, &numbers_.back()));
        return *this;
    }
    [[nodiscard]] std::vector<OSSL_PARAM> list() const {
        auto list = all_;
        list.push_back(OSSL_PARAM_construct_end());
        return list;
    }

 private:
    std::list<Octets> octets_;
    std::list<std::string> texts_;
    std::list<int> numbers_;
    std::vector<OSSL_PARAM> all_;
};

Derivation derivation(const char* name, const char* properties) {
    const Kdf kdf(EVP_KDF_fetch(nullptr, name, properties));
    EXPECT_TRUE(kdf) << name << " " << properties;
    return Derivation(EVP_KDF_CTX_new(kdf.get()));
}

/// Nothing where it is refused.
std::optional<Octets> derived(EVP_KDF_CTX* context, std::size_t length, const OSSL_PARAM* params) {
    Octets out(length);
    if (EVP_KDF_derive(context, out.data(), out.size(), params) != 1) return std::nullopt;
    return out;
}

std::optional<Octets> derived(const char* name, const char* properties, const Params& params, std::size_t length) {
    return derived(derivation(name, properties).get(), length, params.list().data());
}

class KeyDerivations : public testing::TestWithParam<const char*> {
 protected:
    Octets some(std::size_t length) {
        Octets octets(length);
        for (auto& octet : octets) octet = static_cast<unsigned char>(random());
        return octets;
    }
    [[nodiscard]] std::size_t hash() const { return std::string_view(GetParam()).ends_with("256") ? 32 : 48; }
    std::size_t up_to(std::size_t most) { return random() % (most + 1); }
    /// Both give the same, be it a refusal.
    void expect_same(const char* name, const Params& params, std::size_t length) {
        const auto ours = derived(name, kOurs, params, length);
        EXPECT_EQ(ours, derived(name, kOpenSslsOwn, params, length)) << name << " " << length;
        EXPECT_TRUE(ours);
    }
    std::mt19937 random{17};
};

const Octets kPrefix{'t', 'l', 's', '1', '3', ' '};
const Octets kDerived{'d', 'e', 'r', 'i', 'v', 'e', 'd'};

TEST_P(KeyDerivations, WithoutProperties_AreOurs) {
    for (const char* const name : {"TLS13-KDF", "TLS1-PRF"}) {
        const Kdf kdf(EVP_KDF_fetch(nullptr, name, nullptr));
        ASSERT_TRUE(kdf);
        EXPECT_STREQ(OSSL_PROVIDER_get0_name(EVP_KDF_get0_provider(kdf.get())), "sallyport");
    }
}

TEST_P(KeyDerivations, Tls13Expand_IsOpenSsls) {
    for (int round = 0; round < 200; ++round) {
        Params params;
        params.number(OSSL_KDF_PARAM_MODE, EVP_KDF_HKDF_MODE_EXPAND_ONLY).text(OSSL_KDF_PARAM_DIGEST, GetParam()).octets(OSSL_KDF_PARAM_KEY, some(hash()));
        params.octets(OSSL_KDF_PARAM_PREFIX, kPrefix).octets(OSSL_KDF_PARAM_LABEL, some(1 + up_to(100)));
        if (random() % 2 == 0) params.octets(OSSL_KDF_PARAM_DATA, some(hash()));
        expect_same("TLS13-KDF", params, 1 + up_to(200));
    }
}

TEST_P(KeyDerivations, Tls13Extract_IsOpenSsls) {
    for (const bool with_salt : {false, true})
        for (const bool with_key : {false, true})
            for (const std::size_t key_length : {32, 48, 1120}) {   // of an agreement on a curve, and of a hybrid with ML-KEM's
                Params params;
                params.text(OSSL_KDF_PARAM_MODE, "EXTRACT_ONLY").text(OSSL_KDF_PARAM_DIGEST, GetParam());
                params.octets(OSSL_KDF_PARAM_PREFIX, kPrefix).octets(OSSL_KDF_PARAM_LABEL, kDerived);
                if (with_salt) params.octets(OSSL_KDF_PARAM_SALT, some(hash()));
                if (with_key) params.octets(OSSL_KDF_PARAM_KEY, some(key_length));
                expect_same("TLS13-KDF", params, hash());
            }
}

TEST_P(KeyDerivations, Tls1Prf_IsOpenSsls) {
    for (int round = 0; round < 200; ++round) {
        Params params;
        params.text(OSSL_KDF_PARAM_DIGEST, GetParam()).octets(OSSL_KDF_PARAM_SECRET, some(1 + up_to(round % 2 == 0 ? 64 : 300)));
        for (std::size_t seeds = 1 + up_to(4); seeds > 0; --seeds) params.octets(OSSL_KDF_PARAM_SEED, some(1 + up_to(70)));
        expect_same("TLS1-PRF", params, 1 + up_to(200));
    }
}

TEST_P(KeyDerivations, WhatWasSetBefore_CountsUntilItIsSetAnew) {
    const Octets secret = some(48), first = some(13), second = some(64);
    Params both, set, rest;
    both.text(OSSL_KDF_PARAM_DIGEST, GetParam()).octets(OSSL_KDF_PARAM_SECRET, secret).octets(OSSL_KDF_PARAM_SEED, first).octets(OSSL_KDF_PARAM_SEED, second);
    rest.octets(OSSL_KDF_PARAM_SEED, first).octets(OSSL_KDF_PARAM_SEED, second);
    set.text(OSSL_KDF_PARAM_DIGEST, GetParam()).octets(OSSL_KDF_PARAM_SECRET, secret).octets(OSSL_KDF_PARAM_SEED, some(10));
    const auto wanted = derived("TLS1-PRF", kOpenSslsOwn, both, 40);
    ASSERT_TRUE(wanted);

    const Derivation ours = derivation("TLS1-PRF", kOurs);
    ASSERT_EQ(EVP_KDF_CTX_set_params(ours.get(), set.list().data()), 1);
    const Derivation copy(EVP_KDF_CTX_dup(ours.get()));
    ASSERT_TRUE(copy);
    EXPECT_EQ(derived(ours.get(), 40, rest.list().data()), wanted);
    EXPECT_NE(derived(ours.get(), 40, nullptr), wanted);   // what a call says is for that call
    EVP_KDF_CTX_reset(ours.get());
    EXPECT_EQ(derived(ours.get(), 40, rest.list().data()), std::nullopt);
    EXPECT_EQ(derived(copy.get(), 40, rest.list().data()), wanted);
}

TEST_P(KeyDerivations, WhatIsMissingOrUnknown_IsRefused) {
    const auto tls13 = [this](const char* digest, int mode, bool key, std::size_t label, std::size_t length) {
        Params params;
        params.number(OSSL_KDF_PARAM_MODE, mode).octets(OSSL_KDF_PARAM_PREFIX, kPrefix).octets(OSSL_KDF_PARAM_LABEL, some(label));
        if (digest != nullptr) params.text(OSSL_KDF_PARAM_DIGEST, digest);
        if (key) params.octets(OSSL_KDF_PARAM_KEY, some(hash()));
        return derived("TLS13-KDF", kOurs, params, length).has_value();
    };
    EXPECT_TRUE(tls13(GetParam(), EVP_KDF_HKDF_MODE_EXPAND_ONLY, true, 10, 255 * hash()));
    EXPECT_FALSE(tls13(GetParam(), EVP_KDF_HKDF_MODE_EXPAND_ONLY, true, 10, 255 * hash() + 1));
    EXPECT_FALSE(tls13(GetParam(), EVP_KDF_HKDF_MODE_EXPAND_ONLY, true, 250, 32));
    EXPECT_FALSE(tls13(GetParam(), EVP_KDF_HKDF_MODE_EXPAND_ONLY, false, 10, 32));
    EXPECT_FALSE(tls13(GetParam(), EVP_KDF_HKDF_MODE_EXTRACT_AND_EXPAND, true, 10, 32));
    EXPECT_FALSE(tls13(GetParam(), EVP_KDF_HKDF_MODE_EXTRACT_ONLY, true, 10, hash() - 1));
    EXPECT_FALSE(tls13(nullptr, EVP_KDF_HKDF_MODE_EXPAND_ONLY, true, 10, 32));
    EXPECT_FALSE(tls13("SHA1", EVP_KDF_HKDF_MODE_EXPAND_ONLY, true, 10, 32));

    const auto prf = [this](bool secret, int seeds) {
        Params params;
        params.text(OSSL_KDF_PARAM_DIGEST, GetParam());
        if (secret) params.octets(OSSL_KDF_PARAM_SECRET, some(48));
        for (int seed = 0; seed < seeds; ++seed) params.octets(OSSL_KDF_PARAM_SEED, some(13));
        return derived("TLS1-PRF", kOurs, params, 12).has_value();
    };
    EXPECT_TRUE(prf(true, 8));
    EXPECT_FALSE(prf(true, 9));
    EXPECT_FALSE(prf(true, 0));
    EXPECT_FALSE(prf(false, 2));
}

INSTANTIATE_TEST_SUITE_P(Hashes, KeyDerivations, testing::Values("SHA2-256", "SHA2-384"), [](const auto& each) { return std::string(each.param).substr(5); });

}  // namespace
}  // namespace sallyport::handshake
