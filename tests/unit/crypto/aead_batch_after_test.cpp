#include "crypto/aead_batch.h"

#include <random>

#include "reference.h"

/// Several records of one connection in one batch, of which a KeyUpdate may be one.
namespace sallyport::crypto {
namespace {

using Status = OpenResult::Status;

class AeadBatchAfter : public testing::TestWithParam<std::uint16_t> {
 protected:
    /// Seals `types` in a row, spoils one, opens all of them in one flush, each only after application data.
    void run(const std::vector<ContentType>& types, std::size_t spoilt = ~std::size_t{0}) {
        std::mt19937_64 random(GetParam());
        const ReferenceKey key = ReferenceKey::random(GetParam(), random, 5);
        RecordProtection write = key.protection();
        read_ = key.protection();
        for (std::size_t i = 0; i < types.size(); ++i) {
            records_.push_back(seal_record(batch_, write, types[i], Octets(100 + i, static_cast<std::byte>(i))));
            if (i == spoilt) records_.back().back() ^= std::byte{1};
        }
        fragments_.reserve(records_.size());
        results_.resize(records_.size());
        for (std::size_t i = 0; i < records_.size(); ++i) {
            fragments_.emplace_back(records_[i].begin() + kRecordHeaderLength, records_[i].end());
            const WritePiece piece{fragments_[i].data(), static_cast<std::uint32_t>(fragments_[i].size())};
            ASSERT_TRUE(batch_.open(read_, header_of(records_[i], read_), {&piece, 1}, &results_[i], AeadBatch::After::application_data));
        }
        ASSERT_EQ(read_.sequence(), 5 + records_.size());
        batch_.flush();
    }
    void expect_untouched_from(std::size_t first) {
        for (std::size_t i = first; i < records_.size(); ++i) {
            EXPECT_EQ(results_[i].status, Status::pending) << i;
            EXPECT_EQ(fragments_[i], Octets(records_[i].begin() + kRecordHeaderLength, records_[i].end())) << i;
        }
        EXPECT_EQ(read_.sequence(), 5 + first);
    }

    AeadBatch batch_;
    RecordProtection read_;
    std::vector<Octets> records_, fragments_;
    std::vector<OpenResult> results_;
};

INSTANTIATE_TEST_SUITE_P(Crypto, AeadBatchAfter, testing::ValuesIn(kEveryProtection),
                         [](const auto& tested) { return std::string(find_cipher_suite(tested.param)->name); });

constexpr auto kData = ContentType::application_data;

TEST_P(AeadBatchAfter, ApplicationDataOnly_AllOpen) {
    run({kData, kData, kData, kData});
    for (const OpenResult& result : results_) EXPECT_EQ(result.status, Status::ok);
    EXPECT_EQ(read_.sequence(), 9u);
}

TEST_P(AeadBatchAfter, HandshakeInTheMiddle_LaterOnesLeftAlone) {
    run({kData, ContentType::handshake, kData, kData});
    EXPECT_EQ(results_[0].status, Status::ok);
    EXPECT_EQ(results_[1].status, Status::ok);
    EXPECT_EQ(results_[1].type, ContentType::handshake);
    expect_untouched_from(2);
    // Under the same key they open afterwards: nothing was lost with the sequence number.
    const Opened third = open_record(batch_, read_, records_[2]);
    EXPECT_EQ(third.result.status, Status::ok);
    EXPECT_EQ(third.content(), Octets(102, std::byte{2}));
}

TEST_P(AeadBatchAfter, FailureInTheMiddle_LaterOnesLeftAlone) {
    run({kData, kData, kData, kData}, 1);
    EXPECT_EQ(results_[0].status, Status::ok);
    EXPECT_EQ(results_[1].status, Status::bad_record_mac);
    expect_untouched_from(2);
}

TEST_P(AeadBatchAfter, StoppedKey_DoesNotStopOthersOrTheNextFlush) {
    std::mt19937_64 random(7);
    const ReferenceKey other_key = ReferenceKey::random(GetParam(), random, 0);
    RecordProtection other_write = other_key.protection(), other_read = other_key.protection();
    const Octets other = seal_record(batch_, other_write, kData, Octets(50, std::byte{9}));
    run({ContentType::alert, kData});
    expect_untouched_from(1);
    EXPECT_EQ(open_record(batch_, other_read, other).result.status, Status::ok);
    EXPECT_EQ(open_record(batch_, read_, records_[1]).result.status, Status::ok);
}

}  // namespace
}  // namespace sallyport::crypto
