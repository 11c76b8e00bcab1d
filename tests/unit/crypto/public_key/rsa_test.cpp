#include "crypto/public_key/rsa.h"

#include <gtest/gtest.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>

#include <map>
#include <memory>
#include <vector>

#include "crypto/public_key/multi_buffer.h"

namespace sallyport::crypto {
namespace {

using Octets = std::vector<std::byte>;
using Key = std::shared_ptr<EVP_PKEY>;

unsigned char* raw(Octets& octets) { return reinterpret_cast<unsigned char*>(octets.data()); }
const unsigned char* raw(const Octets& octets) { return reinterpret_cast<const unsigned char*>(octets.data()); }

/// Two keys of each length, made once: that takes long.
const Key& key_of(int bits, int which = 0) {
    static std::map<std::pair<int, int>, Key> keys;
    Key& key = keys[{bits, which}];
    if (!key) key.reset(EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", static_cast<std::size_t>(bits)), EVP_PKEY_free);
    return key;
}

Octets number(const EVP_PKEY* key, const char* name) {
    BIGNUM* value = nullptr;
    EXPECT_EQ(EVP_PKEY_get_bn_param(key, name, &value), 1) << name;
    Octets octets(static_cast<std::size_t>(BN_num_bytes(value)));
    BN_bn2bin(value, raw(octets));
    BN_clear_free(value);
    return octets;
}

struct Numbers {
    explicit Numbers(const EVP_PKEY* key)
        : n(number(key, OSSL_PKEY_PARAM_RSA_N)),
          p(number(key, OSSL_PKEY_PARAM_RSA_FACTOR1)),
          q(number(key, OSSL_PKEY_PARAM_RSA_FACTOR2)),
          dp(number(key, OSSL_PKEY_PARAM_RSA_EXPONENT1)),
          dq(number(key, OSSL_PKEY_PARAM_RSA_EXPONENT2)),
          q_inverse(number(key, OSSL_PKEY_PARAM_RSA_COEFFICIENT1)) {}
    [[nodiscard]] std::optional<RsaPrivateKey> make() const { return RsaPrivateKey::make({n, p, q, dp, dq, q_inverse}); }
    Octets n, p, q, dp, dq, q_inverse;
};

/// Below any modulus of that length.
Octets any_input(std::size_t length) {
    Octets octets(length);
    RAND_bytes(raw(octets), static_cast<int>(length));
    octets[0] = std::byte{0};
    return octets;
}

Octets by_openssl(EVP_PKEY* key, const Octets& input) {
    const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(EVP_PKEY_CTX_new(key, nullptr), EVP_PKEY_CTX_free);
    Octets output(input.size());
    std::size_t length = output.size();
    EXPECT_TRUE(EVP_PKEY_sign_init(context.get()) == 1 && EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_NO_PADDING) == 1 &&
                EVP_PKEY_sign(context.get(), raw(output), &length, raw(input), input.size()) == 1);
    return output;
}

class Rsa : public testing::TestWithParam<int> {
 protected:
    void SetUp() override {
        if (multi_buffer() == nullptr) GTEST_SKIP() << "this processor has no AVX-512 IFMA";
    }
};

TEST_P(Rsa, EveryNumberOfOperations_EachIsOpenSsls) {
    const auto length = static_cast<std::size_t>(GetParam()) / 8;
    const std::optional<RsaPrivateKey> keys[] = {Numbers(key_of(GetParam(), 0).get()).make(), Numbers(key_of(GetParam(), 1).get()).make()};
    ASSERT_TRUE(keys[0] && keys[1]);
    EXPECT_EQ(keys[0]->length(), length);
    for (std::size_t count = 1; count <= RsaPrivateKey::kLanes; ++count) {
        std::vector<Octets> inputs, outputs(count, Octets(length));
        std::vector<RsaOperation> operations(count);
        for (std::size_t i = 0; i < count; ++i) inputs.push_back(any_input(length));
        for (std::size_t i = 0; i < count; ++i) operations[i] = {&*keys[i % 2], inputs[i], outputs[i]};
        rsa_private(operations);
        for (std::size_t i = 0; i < count; ++i) {
            EXPECT_TRUE(operations[i].done);
            EXPECT_EQ(outputs[i], by_openssl(key_of(GetParam(), static_cast<int>(i % 2)).get(), inputs[i])) << i << " of " << count;
        }
    }
}

TEST_P(Rsa, ResultThatDoesNotLeadBack_IsWiped) {
    const auto length = static_cast<std::size_t>(GetParam()) / 8;
    Numbers numbers(key_of(GetParam()).get());
    const auto good = numbers.make();
    numbers.dp.back() ^= std::byte{2};   // what a fault in one half would do: the difference of both results has a prime in it
    const auto bad = numbers.make();
    const Octets input = any_input(length);
    Octets outputs[2] = {Octets(length), Octets(length)};
    RsaOperation operations[] = {{&*good, input, outputs[0]}, {&*bad, input, outputs[1]}};
    rsa_private(operations);
    EXPECT_TRUE(operations[0].done);
    EXPECT_FALSE(operations[1].done);
    EXPECT_EQ(outputs[1], Octets(length));
}

INSTANTIATE_TEST_SUITE_P(Bits, Rsa, testing::Values(2048, 3072, 4096));

TEST(RsaPrivateKey, OtherLengths_AreRefused) {
    EXPECT_FALSE(Numbers(key_of(2560).get()).make());
    Numbers numbers(key_of(2048).get());
    numbers.p.pop_back();   // shorter than the other
    EXPECT_FALSE(numbers.make());
    Numbers longer(key_of(2048).get());
    longer.dq.insert(longer.dq.begin(), 200, std::byte{1});
    EXPECT_FALSE(longer.make());
}

TEST(RsaPrivateKey, LeadingZeros_ChangeNothing) {
    Numbers numbers(key_of(2048).get());
    for (Octets* each : {&numbers.n, &numbers.p, &numbers.dp}) each->insert(each->begin(), std::byte{0});
    EXPECT_TRUE(numbers.make());
}

}  // namespace
}  // namespace sallyport::crypto
