#include "dataplane/tcp/keyed_hash.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <set>
#include <vector>

#include "dataplane/tcp/connection_table.h"

/// SipHash-2-4, and what the connection table makes of a tuple with it.
namespace sallyport::tcp::test {
namespace {

std::array<std::uint8_t, 16> counting() {
    std::array<std::uint8_t, 16> octets;
    std::iota(octets.begin(), octets.end(), std::uint8_t{0});
    return octets;
}

template <std::size_t Words>
std::uint64_t hash_of_counting() {
    std::array<std::uint8_t, 8 * Words> octets;
    std::iota(octets.begin(), octets.end(), std::uint8_t{0});
    std::array<std::uint64_t, Words> words;
    if (Words > 0) std::memcpy(words.data(), octets.data(), octets.size());
    return KeyedHash(counting())(words);
}

/// The values of the authors' reference implementation: key and message are octets that count from 0.
TEST(KeyedHash, IsSipHash) {
    EXPECT_EQ(hash_of_counting<0>(), 0x726fdb47dd0e0e31u);
    EXPECT_EQ(hash_of_counting<1>(), 0x93f5f5799a932462u);
    EXPECT_EQ(hash_of_counting<2>(), 0x3f2acc7f57c29bdbu);
}

TEST(ConnectionTable, EachPartOfATupleCounts) {
    const ControlBlockPool blocks(16);
    const ConnectionTable table(16, KeyedHash(counting()), blocks);
    const auto v4 = [](std::uint8_t last) { return IpAddress::from_v4({192, 0, 2, last}); };
    const auto v6 = [](std::uint8_t first, std::uint8_t eighth, std::uint8_t last) {
        IpAddress address = IpAddress::from_v4({192, 0, 2, last});   // but for octets in each of its halves
        address.octets[0] = first;
        address.octets[8] = eighth;
        return address;
    };
    std::vector<Tuple> tuples;
    for (const auto& [local, remote] : std::vector<std::pair<IpAddress, IpAddress>>{
             {v4(1), v4(2)}, {v4(2), v4(1)}, {v4(1), v4(1)}, {v4(2), v4(2)}, {v6(1, 0, 1), v4(2)}, {v6(0, 1, 1), v4(2)}, {v4(1), v6(1, 0, 2)}, {v4(1), v6(0, 1, 2)},
             {v6(1, 0, 1), v6(1, 0, 2)}, {v6(1, 0, 2), v6(1, 0, 1)}, {v6(0, 0, 3), v4(2)}, {IpAddress{}, v4(2)}, {v4(1), IpAddress{}}, {IpAddress{}, IpAddress{}}})
        for (const auto& [near, far] : {std::pair<std::uint16_t, std::uint16_t>{443, 1000}, {1000, 443}, {443, 1001}, {444, 1000}})
            tuples.push_back({{local, near}, {remote, far}});
    std::set<std::uint64_t> hashes;
    for (const Tuple& tuple : tuples) hashes.insert(table.hash(tuple));
    EXPECT_EQ(hashes.size(), tuples.size());
}

}  // namespace
}  // namespace sallyport::tcp::test
