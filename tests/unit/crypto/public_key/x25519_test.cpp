#include "crypto/public_key/x25519.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace sallyport::crypto {
namespace {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

unsigned char* raw(X25519Octets& octets) { return reinterpret_cast<unsigned char*>(octets.data()); }
const unsigned char* raw(const X25519Octets& octets) { return reinterpret_cast<const unsigned char*>(octets.data()); }

X25519Octets from_hex(std::string_view hex) {
    X25519Octets octets{};
    for (std::size_t i = 0; i < octets.size(); ++i) octets[i] = static_cast<std::byte>(std::stoi(std::string(hex.substr(2 * i, 2)), nullptr, 16));
    return octets;
}

X25519Octets any_octets() {
    X25519Octets octets{};
    EXPECT_EQ(RAND_bytes(raw(octets), static_cast<int>(octets.size())), 1);
    return octets;
}

X25519Octets public_key_by_openssl(const X25519Octets& private_key) {
    const Key key(EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, nullptr, raw(private_key), private_key.size()), EVP_PKEY_free);
    X25519Octets octets{};
    std::size_t length = octets.size();
    EXPECT_EQ(EVP_PKEY_get_raw_public_key(key.get(), raw(octets), &length), 1);
    return octets;
}

/// Nothing where it refuses.
std::optional<X25519Octets> agreed_by_openssl(const X25519Octets& private_key, const X25519Octets& peer) {
    const Key own(EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, nullptr, raw(private_key), private_key.size()), EVP_PKEY_free);
    const Key other(EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, nullptr, raw(peer), peer.size()), EVP_PKEY_free);
    const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(EVP_PKEY_CTX_new(own.get(), nullptr), EVP_PKEY_CTX_free);
    X25519Octets shared{};
    std::size_t length = shared.size();
    if (EVP_PKEY_derive_init(context.get()) != 1 || EVP_PKEY_derive_set_peer(context.get(), other.get()) != 1 || EVP_PKEY_derive(context.get(), raw(shared), &length) != 1)
        return std::nullopt;
    return shared;
}

TEST(X25519, KeysAreMade_PublicOnesAreOpenSslsAndNoneComesTwice) {
    std::set<X25519Octets> seen;
    for (int i = 0; i < 200; ++i) {
        X25519Octets private_key{}, public_key{};
        ASSERT_TRUE(make_x25519_key(private_key, public_key));
        EXPECT_EQ(public_key, public_key_by_openssl(private_key));
        EXPECT_TRUE(seen.insert(private_key).second);
    }
}

TEST(X25519, KeysOfSeveralThreads_AreAllDifferent) {
    std::vector<std::vector<X25519Octets>> made(4);
    std::vector<std::thread> threads;
    for (auto& keys : made)
        threads.emplace_back([&keys] {
            for (int i = 0; i < 50; ++i) {
                X25519Octets public_key{};
                EXPECT_TRUE(make_x25519_key(keys.emplace_back(), public_key));
            }
        });
    for (std::thread& thread : threads) thread.join();
    std::set<X25519Octets> seen;
    for (const auto& keys : made) seen.insert(keys.begin(), keys.end());
    EXPECT_EQ(seen.size(), 4U * 50);
}

TEST(X25519, EveryNumberOfAgreements_EachIsOpenSsls) {
    for (std::size_t count = 1; count <= X25519Agreement::kMost; ++count) {
        for (int round = 0; round < 20; ++round) {
            std::vector<X25519Octets> own(count), peers(count);
            std::vector<X25519Agreement> agreements(count);
            for (std::size_t i = 0; i < count; ++i) {
                own[i] = any_octets();
                peers[i] = any_octets();   // any 32 octets are a public key (RFC 7748 5)
                agreements[i].private_key = &own[i];
                agreements[i].peer = &peers[i];
            }
            agree_x25519(agreements);
            for (std::size_t i = 0; i < count; ++i) {
                EXPECT_TRUE(agreements[i].agreed);
                EXPECT_EQ(agreements[i].shared, agreed_by_openssl(own[i], peers[i])) << i << " of " << count;
            }
        }
    }
}

TEST(X25519, TheRfcsExample_LeadsToItsSecret) {   // RFC 7748 6.1
    const X25519Octets bob = from_hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"),
                       of_alice = from_hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"),
                       of_bob = from_hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"),
                       secret = from_hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    EXPECT_EQ(x25519_public_key(bob), of_bob);
    X25519Agreement agreement;
    agreement.private_key = &bob;
    agreement.peer = &of_alice;
    agree_x25519({&agreement, 1});
    EXPECT_TRUE(agreement.agreed);
    EXPECT_EQ(agreement.shared, secret);
}

/// Coordinates near 0, 2^255 - 19 and 2^255, reduced or not, with the top bit, which is to be ignored (RFC 7748 5), or without: where carries go wrong if they do.
TEST(X25519, PeersAtTheEdges_LeadWhereOpenSslSays) {
    std::size_t refused = 0;
    for (const bool top : {false, true}) {
        for (const bool high : {false, true}) {
            for (unsigned low = 0; low < 600; low += X25519Agreement::kMost) {
                std::array<X25519Octets, X25519Agreement::kMost> own, peers;
                std::array<X25519Agreement, X25519Agreement::kMost> agreements;
                for (unsigned i = 0; i < agreements.size(); ++i) {
                    own[i] = any_octets();
                    peers[i].fill(high ? std::byte{0xff} : std::byte{0});
                    const unsigned value = high ? 0xffff - low - i : low + i;
                    peers[i][0] = static_cast<std::byte>(value);
                    peers[i][1] = static_cast<std::byte>(value >> 8);
                    peers[i][31] = static_cast<std::byte>((high ? 0x7f : 0) | (top ? 0x80 : 0));
                    agreements[i].private_key = &own[i];
                    agreements[i].peer = &peers[i];
                }
                agree_x25519(agreements);
                for (unsigned i = 0; i < agreements.size(); ++i) {
                    const auto expected = agreed_by_openssl(own[i], peers[i]);
                    EXPECT_EQ(agreements[i].agreed, expected.has_value()) << low + i << (high ? " below 2^255" : "");
                    EXPECT_EQ(agreements[i].shared, expected.value_or(X25519Octets{})) << low + i << (high ? " below 2^255" : "");
                    if (!agreements[i].agreed) ++refused;
                }
            }
        }
    }
    EXPECT_EQ(refused, 2U * 5);   // 0, 1, p - 1, p, p + 1 (RFC 7748 7)
}

/// Words of ones, of zeros, of one bit and at random: where a library that keeps numbers in pieces forgets a carry.
TEST(X25519, PeersOfUnlikelyWords_LeadWhereOpenSslSays) {
    std::mt19937_64 random(5);
    for (int round = 0; round < 400; ++round) {
        std::array<X25519Octets, X25519Agreement::kMost> own, peers;
        std::array<X25519Agreement, X25519Agreement::kMost> agreements;
        for (std::size_t i = 0; i < agreements.size(); ++i) {
            own[i] = any_octets();
            std::array<std::uint64_t, 4> words{};
            for (std::uint64_t& word : words) {
                const std::uint64_t choices[] = {0, ~std::uint64_t{0}, random(), std::uint64_t{1} << random() % 64};
                word = choices[random() % 4] - (random() % 4 == 0 ? random() % 32 : 0);
            }
            if (round % 8 == 0) words[2] = words[3] = ~std::uint64_t{0};
            std::memcpy(peers[i].data(), words.data(), peers[i].size());
            agreements[i].private_key = &own[i];
            agreements[i].peer = &peers[i];
        }
        agree_x25519(agreements);
        for (std::size_t i = 0; i < agreements.size(); ++i) {
            const auto expected = agreed_by_openssl(own[i], peers[i]);
            EXPECT_EQ(agreements[i].agreed, expected.has_value()) << round;
            EXPECT_EQ(agreements[i].shared, expected.value_or(X25519Octets{})) << round;
        }
    }
}

TEST(X25519, OtherPeersOfSmallOrder_AreRefusedAndTheirNeighboursNot) {
    for (const char* const hex : {"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800", "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"}) {
        const X25519Octets own = any_octets(), good = any_octets(), bad = from_hex(hex);
        std::array<X25519Agreement, 3> agreements;
        for (auto& agreement : agreements) agreement.private_key = &own;
        agreements[0].peer = agreements[2].peer = &good;
        agreements[1].peer = &bad;
        agree_x25519(agreements);
        EXPECT_FALSE(agreements[1].agreed) << hex;
        EXPECT_TRUE(agreements[0].agreed && agreements[2].agreed);
        EXPECT_EQ(agreements[0].shared, agreed_by_openssl(own, good));
    }
}

}  // namespace
}  // namespace sallyport::crypto
