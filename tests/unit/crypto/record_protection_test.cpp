#include "crypto/record_protection.h"

#include <cstring>
#include <new>

#include "reference.h"

namespace sallyport::crypto {
namespace {

std::expected<RecordHeader, RecordError> parse(std::uint16_t suite, std::string_view header) {
    std::mt19937_64 random(1);
    const RecordProtection protection = ReferenceKey::random(suite, random).protection();
    return parse_record_header(std::span<const std::byte>(from_hex(header)).first<kRecordHeaderLength>(), protection);
}

TEST(ParseRecordHeader, Tls13_LengthsAtTheLimits) {
    ASSERT_TRUE(parse(0x1301, "1703030010"));
    EXPECT_EQ(parse(0x1301, "1703030010")->length, 16);
    EXPECT_EQ(parse(0x1301, "170303000f").error(), RecordError::too_short);
    EXPECT_EQ(parse(0x1303, "1703030000").error(), RecordError::too_short);
    ASSERT_TRUE(parse(0x1301, "1703034100"));
    EXPECT_EQ(parse(0x1301, "1703034100")->length, kMaxTls13CiphertextLength);
    EXPECT_EQ(parse(0x1301, "1703034101").error(), RecordError::record_overflow);
    EXPECT_EQ(parse(0x1301, "170303ffff").error(), RecordError::record_overflow);
}

TEST(ParseRecordHeader, Tls12_LengthsAtTheLimits) {
    EXPECT_TRUE(parse(0xc02f, "1703030018"));
    EXPECT_EQ(parse(0xc02f, "1703030017").error(), RecordError::too_short);
    EXPECT_TRUE(parse(0xcca8, "1703030010"));
    EXPECT_EQ(parse(0xcca8, "170303000f").error(), RecordError::too_short);
    EXPECT_TRUE(parse(0xc02f, "1703034800"));
    EXPECT_EQ(parse(0xc02f, "1703034801").error(), RecordError::record_overflow);
}

TEST(ParseRecordHeader, EveryType) {
    for (unsigned type = 0; type < 256; ++type) {
        char header[11];
        std::snprintf(header, sizeof header, "%02x03030020", type);
        EXPECT_EQ(parse(0x1301, header).has_value(), type == 23) << type;
        EXPECT_EQ(parse(0xc030, header).has_value(), type >= 20 && type <= 23) << type;
        if (type != 23 && type != 20) { EXPECT_EQ(parse(0x1301, header).error(), RecordError::bad_header); }
    }
}

TEST(ParseRecordHeader, Tls13ChangeCipherSpec_OnlyOfOneOctet) {
    ASSERT_TRUE(parse(0x1301, "1403030001"));
    EXPECT_EQ(parse(0x1301, "1403030001")->type, ContentType::change_cipher_spec);
    EXPECT_EQ(parse(0x1301, "1403030000").error(), RecordError::bad_header);
    EXPECT_EQ(parse(0x1301, "1403030002").error(), RecordError::bad_header);
}

TEST(ParseRecordHeader, OtherVersions_AreBad) {
    for (const std::string_view header : {"1703010020", "1703020020", "1703040020", "1702030020", "17fefd0020"}) {
        EXPECT_EQ(parse(0x1301, header).error(), RecordError::bad_header) << header;
        EXPECT_EQ(parse(0xc02f, header).error(), RecordError::bad_header) << header;
    }
}

TEST(RecordProtection, Overhead) {
    std::mt19937_64 random(2);
    EXPECT_EQ(ReferenceKey::random(0x1301, random).protection().overhead(), 5u + 1 + 16);
    EXPECT_EQ(ReferenceKey::random(0x1303, random).protection().overhead(), 5u + 1 + 16);
    EXPECT_EQ(ReferenceKey::random(0xc02f, random).protection().overhead(), 5u + 8 + 16);
    EXPECT_EQ(ReferenceKey::random(0xcca8, random).protection().overhead(), 5u + 16);
}

TEST(RecordProtection, KeyExhausted_AtTheLimitOfAesGcmOnly) {
    std::mt19937_64 random(3);
    for (const std::uint16_t suite : kEveryProtection) {
        const bool gcm = find_cipher_suite(suite)->aead != Aead::chacha20_poly1305;
        EXPECT_FALSE(key_exhausted(ReferenceKey::random(suite, random, 0).protection()));
        EXPECT_FALSE(key_exhausted(ReferenceKey::random(suite, random, kAesGcmRecordLimit - 1).protection()));
        EXPECT_EQ(key_exhausted(ReferenceKey::random(suite, random, kAesGcmRecordLimit).protection()), gcm);
        EXPECT_TRUE(key_exhausted(ReferenceKey::random(suite, random, ~std::uint64_t{0}).protection()));
    }
}

TEST(RecordProtection, Destroyed_KeyAndIvAreWiped) {
    std::mt19937_64 random(4);
    const ReferenceKey key = ReferenceKey::random(0x1302, random, 77);
    alignas(RecordProtection) std::array<std::byte, sizeof(RecordProtection)> memory{};
    auto* protection = new (memory.data()) RecordProtection();
    const auto holds = [&](const Octets& secret) {
        return memmem(memory.data(), memory.size(), secret.data(), secret.size()) != nullptr;
    };
    protection->install(*key.suite, key.traffic_key(), key.sequence, 0);
    EXPECT_TRUE(protection->installed());
    EXPECT_TRUE(holds(key.key));
    EXPECT_TRUE(holds(key.iv));
    protection->~RecordProtection();
    EXPECT_FALSE(holds(key.key));
    EXPECT_FALSE(holds(key.iv));
}

TEST(RecordProtection, InstalledShorterKey_LeavesNothingOfTheLongerOne) {
    std::mt19937_64 random(5);
    const ReferenceKey longer = ReferenceKey::random(0x1302, random), shorter = ReferenceKey::random(0xc02f, random);
    RecordProtection protection = longer.protection();
    protection.install(*shorter.suite, shorter.traffic_key(), 0, 0);
    EXPECT_EQ(memmem(&protection, sizeof protection, longer.key.data() + 16, 16), nullptr);
    EXPECT_EQ(memmem(&protection, sizeof protection, longer.iv.data() + 4, 8), nullptr);
}

TEST(RecordProtection, KeyOfAnotherLength_StopsTheProcess) {
    std::mt19937_64 random(6);
    const ReferenceKey key = ReferenceKey::random(0x1302, random);
    RecordProtection protection;
    EXPECT_DEATH(protection.install(*find_cipher_suite(0x1301), key.traffic_key(), 0, 0), "check failed");
}

}  // namespace
}  // namespace sallyport::crypto
