#include "crypto/key_schedule.h"

#include <openssl/hmac.h>

#include "reference.h"

namespace sallyport::crypto {
namespace {

Octets hmac(Hash hash, const Octets& key, const Octets& message) {
    Octets mac(hash_length(hash));
    unsigned length = 0;
    EXPECT_NE(HMAC(hash == Hash::sha256 ? EVP_sha256() : EVP_sha384(), key.data(), static_cast<int>(key.size()),
                   raw(message.data()), message.size(), raw(mac.data()), &length),
              nullptr);
    return mac;
}

void append(Octets& to, std::string_view text) {
    for (const char c : text) to.push_back(static_cast<std::byte>(c));
}

/// HKDF-Expand-Label with its one block written out (RFC 5869 2.3, RFC 8446 7.1): no label asks for more.
Octets expand_label(Hash hash, const Octets& secret, std::string_view label, std::size_t length) {
    Octets info;
    append_big_endian(info, length, 2);
    append_big_endian(info, 6 + label.size(), 1);
    append(info, "tls13 ");
    append(info, label);
    info.push_back(std::byte{0});
    info.push_back(std::byte{1});
    Octets block = hmac(hash, secret, info);
    block.resize(length);
    return block;
}

/// PRF of TLS 1.2 (RFC 5246 5).
Octets prf(Hash hash, const Octets& secret, const Octets& seed, std::size_t length) {
    Octets out;
    for (Octets a = seed; out.size() < length;) {
        a = hmac(hash, secret, a);
        Octets message = a;
        message.insert(message.end(), seed.begin(), seed.end());
        const Octets block = hmac(hash, secret, message);
        out.insert(out.end(), block.begin(), block.end());
    }
    out.resize(length);
    return out;
}

template <std::size_t N>
Octets octets(const Secret<N>& secret) {
    return {secret.octets().begin(), secret.octets().end()};
}

TEST(KeySchedule, Rfc8448Section3_ApplicationKeys) {
    const CipherSuite& suite = *find_cipher_suite(0x1301);
    const TrafficSecret client(from_hex("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"));
    const auto client_key = derive_traffic_key(suite, client);
    ASSERT_TRUE(client_key);
    EXPECT_EQ(octets(client_key->key), from_hex("17422dda596ed5d9acd890e3c63f5051"));
    EXPECT_EQ(octets(client_key->iv), from_hex("5b78923dee08579033e523d9"));

    const TrafficSecret server(from_hex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643"));
    const auto server_key = derive_traffic_key(suite, server);
    ASSERT_TRUE(server_key);
    EXPECT_EQ(octets(server_key->key), from_hex("9f02283b6c9c07efc26bb9f2ac92e356"));
    EXPECT_EQ(octets(server_key->iv), from_hex("cf782b88dd83549aadf1e984"));
}

TEST(KeySchedule, Rfc8448Section3_HandshakeKeys) {
    const TrafficSecret server(from_hex("b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38"));
    const auto key = derive_traffic_key(*find_cipher_suite(0x1301), server);
    ASSERT_TRUE(key);
    EXPECT_EQ(octets(key->key), from_hex("3fce516009c21727d0f2e4e86ee403bc"));
    EXPECT_EQ(octets(key->iv), from_hex("5d313eb2671276ee13000b30"));
}

TEST(KeySchedule, KeyUpdateChain_AgreesWithHmac) {
    std::mt19937_64 random(7);
    for (const std::uint16_t id : {0x1301, 0x1302, 0x1303}) {
        const CipherSuite& suite = *find_cipher_suite(id);
        Octets expected = random_octets(random, hash_length(suite.hash));
        TrafficSecret secret(expected);
        for (int generation = 0; generation < 20; ++generation) {
            const auto key = derive_traffic_key(suite, secret);
            ASSERT_TRUE(key);
            EXPECT_EQ(octets(key->key), expand_label(suite.hash, expected, "key", key_length(suite.aead)));
            EXPECT_EQ(octets(key->iv), expand_label(suite.hash, expected, "iv", 12));
            const auto next = next_traffic_secret(suite, secret);
            ASSERT_TRUE(next);
            expected = expand_label(suite.hash, expected, "traffic upd", expected.size());
            EXPECT_EQ(octets(*next), expected);
            secret = *next;
        }
    }
}

TEST(KeySchedule, Tls12KeyBlock_AgreesWithHmac) {
    std::mt19937_64 random(8);
    for (const std::uint16_t id : {0xc02b, 0xc02c, 0xc02f, 0xc030, 0xcca8, 0xcca9}) {
        const CipherSuite& suite = *find_cipher_suite(id);
        const Octets master = random_octets(random, 48);
        const Octets client = random_octets(random, 32), server = random_octets(random, 32);
        const auto keys = derive_tls12_keys(suite, master, client, server);
        ASSERT_TRUE(keys);
        Octets seed;
        append(seed, "key expansion");
        seed.insert(seed.end(), server.begin(), server.end());
        seed.insert(seed.end(), client.begin(), client.end());
        const std::size_t key = key_length(suite.aead), iv = suite.aead == Aead::chacha20_poly1305 ? 12 : 4;
        const Octets block = prf(suite.hash, master, seed, 2 * (key + iv));
        Octets joined;
        for (const Octets& part : {octets(keys->client_write.key), octets(keys->server_write.key),
                                   octets(keys->client_write.iv), octets(keys->server_write.iv)})
            joined.insert(joined.end(), part.begin(), part.end());
        EXPECT_EQ(joined, block);
        EXPECT_EQ(keys->client_write.iv.octets().size(), iv);
    }
}

TEST(KeySchedule, WrongLengths_AreRefused) {
    const Octets octets_48(48), octets_32(32), octets_31(31);
    const TrafficSecret secret_48(octets_48), secret_32(octets_32), none;
    EXPECT_EQ(derive_traffic_key(*find_cipher_suite(0x1301), secret_48).error(), KeyScheduleError::wrong_length);
    EXPECT_EQ(derive_traffic_key(*find_cipher_suite(0x1302), secret_32).error(), KeyScheduleError::wrong_length);
    EXPECT_EQ(next_traffic_secret(*find_cipher_suite(0x1303), none).error(), KeyScheduleError::wrong_length);
    const CipherSuite& tls12 = *find_cipher_suite(0xc02f);
    EXPECT_EQ(derive_tls12_keys(tls12, octets_32, octets_32, octets_32).error(), KeyScheduleError::wrong_length);
    EXPECT_EQ(derive_tls12_keys(tls12, octets_48, octets_31, octets_32).error(), KeyScheduleError::wrong_length);
    EXPECT_EQ(derive_tls12_keys(tls12, octets_48, octets_32, octets_48).error(), KeyScheduleError::wrong_length);
}

}  // namespace
}  // namespace sallyport::crypto
