// AeadBatch against OpenSSL's EVP on random lengths, splits and sequence numbers, with each of IPsec-MB's
// implementations that this processor can run.

#include <deque>

#include <intel-ipsec-mb.h>

#include "reference.h"

namespace sallyport::crypto {
namespace {

using Status = OpenResult::Status;

class EveryInstructions : public testing::TestWithParam<AeadBatch::Instructions> {
 protected:
    void SetUp() override {
        if (!AeadBatch::supported(GetParam())) GTEST_SKIP() << "not on this processor";
        batch_ = std::make_unique<AeadBatch>(GetParam());
    }
    std::unique_ptr<AeadBatch> batch_;
};

INSTANTIATE_TEST_SUITE_P(AeadBatch, EveryInstructions,
                         testing::Values(AeadBatch::Instructions::best, AeadBatch::Instructions::sse,
                                         AeadBatch::Instructions::avx2, AeadBatch::Instructions::avx2_vaes, AeadBatch::Instructions::avx512),
                         [](const auto& tested) -> std::string {
                             switch (tested.param) {
                                 case AeadBatch::Instructions::best: return "best";
                                 case AeadBatch::Instructions::sse: return "sse";
                                 case AeadBatch::Instructions::avx2: return "avx2";
                                 case AeadBatch::Instructions::avx2_vaes: return "avx2_vaes";
                                 case AeadBatch::Instructions::avx512: return "avx512";
                             }
                             return {};
                         });

std::size_t random_content_length(std::mt19937_64& random) {
    switch (random_up_to(random, 3)) {
        case 0: return random_up_to(random, 40);
        case 1: return random_up_to(random, 600);
        case 2: return random_up_to(random, 4000);
        default: return random_up_to(random, 8) == 0 ? kMaxPlaintextLength : random_up_to(random, kMaxPlaintextLength);
    }
}

/// One record on its way through a batch.
struct Expected {
    bool sealing;
    bool forged;
    ContentType type;
    Octets content, record;
    std::deque<Scattered> scattered;  ///< of the fragment; or of content and record
    std::vector<WritePiece> to;
    std::vector<ReadPiece> from;
    OpenResult result;
};

TEST_P(EveryInstructions, MixedFlows_AgreeWithReference) {
    std::mt19937_64 random(2026);
    struct Flow {
        ReferenceKey open_key, seal_key;
        RecordProtection opener, sealer;
    };
    std::deque<Flow> flows;
    for (int i = 0; i < 60; ++i) {
        const std::uint64_t sequence = i % 3 == 0 ? 0 : random() >> random_up_to(random, 63);
        Flow& flow = flows.emplace_back(
            Flow{ReferenceKey::random(kEveryProtection[random_up_to(random, 5)], random, sequence),
                 ReferenceKey::random(kEveryProtection[random_up_to(random, 5)], random, sequence), {}, {}});
        flow.opener = flow.open_key.protection();
        flow.sealer = flow.seal_key.protection();
    }
    constexpr std::array kTypes{ContentType::application_data, ContentType::handshake, ContentType::alert};
    for (int round = 0; round < 25; ++round) {
        std::deque<Expected> all(1 + random_up_to(random, AeadBatch::kMaxRecords - 1));
        for (Expected& each : all) {
            Flow& flow = flows[random_up_to(random, random_up_to(random, 1) ? 2 : flows.size() - 1)];
            each.sealing = random_up_to(random, 1) == 0;
            each.type = kTypes[random_up_to(random, 2)];
            each.content = random_octets(random, random_content_length(random));
            // Zeros at the end must not be taken for padding.
            if (random_up_to(random, 3) == 0)
                std::fill(each.content.begin() + static_cast<std::ptrdiff_t>(each.content.size() / 2), each.content.end(), std::byte{0});
            if (each.sealing) {
                each.forged = false;
                each.record = reference_seal(flow.seal_key, each.type, each.content);
                // Sometimes with an octet behind the content, in the same piece, that is free for the type.
                const bool free = random_up_to(random, 1) == 0;
                Octets content = each.content;
                if (free) content.push_back(std::byte{0x5a});
                each.from = each.scattered.emplace_back(content, random).read_pieces();
                if (free && --each.from.back().length == 0 && each.from.size() > 1) {
                    // It fell into a piece of its own, which is not behind the content in memory: no split then.
                    each.scattered.pop_back();
                    each.from = each.scattered.emplace_back(content, std::vector<std::size_t>{}).read_pieces();
                    --each.from.back().length;
                }
                const auto behind =
                    free ? AeadBatch::OctetBehind::free : AeadBatch::OctetBehind::untouched;
                each.to = each.scattered.emplace_back(Octets(each.record.size()), random).write_pieces();
                if (!batch_->seal(flow.sealer, each.type, each.from, each.to, behind)) {
                    batch_->flush();
                    ASSERT_TRUE(batch_->seal(flow.sealer, each.type, each.from, each.to, behind));
                }
                continue;
            }
            const std::size_t padding =
                random_up_to(random, 3) == 0 ? random_up_to(random, kMaxPlaintextLength - each.content.size()) : 0;
            each.record = reference_seal(flow.open_key, each.type, each.content, padding);
            each.forged = random_up_to(random, 9) == 0;
            if (each.forged) each.record[5 + random_up_to(random, each.record.size() - 6)] ^= std::byte{16};
            each.to = each.scattered.emplace_back(Octets(each.record.begin() + 5, each.record.end()), random).write_pieces();
            const RecordHeader header = header_of(each.record, flow.opener);
            if (!batch_->open(flow.opener, header, each.to, &each.result)) {
                batch_->flush();
                ASSERT_TRUE(batch_->open(flow.opener, header, each.to, &each.result));
            }
        }
        batch_->flush();
        for (const Expected& each : all) {
            for (const Scattered& scattered : each.scattered) ASSERT_TRUE(scattered.guards_intact());
            if (each.sealing) {
                ASSERT_EQ(each.scattered[1].join(), each.record);
                Octets content = each.scattered[0].join();
                content.resize(each.content.size());
                ASSERT_EQ(content, each.content);
                continue;
            }
            ASSERT_EQ(each.result.status, each.forged ? Status::bad_record_mac : Status::ok);
            if (each.forged) continue;
            ASSERT_EQ(each.result.type, each.type);
            const Octets fragment = each.scattered[0].join();
            const auto begin = fragment.begin() + each.result.content_offset;
            ASSERT_EQ(Octets(begin, begin + each.result.content_length), each.content);
        }
    }
    EXPECT_GT(batch_->counters().failed, 10u);
}

/// Every length around the block and vector sizes, of each AEAD, linear and split in two.
TEST_P(EveryInstructions, EveryShortLength_AgreesWithReference) {
    std::mt19937_64 random(2027);
    for (const std::uint16_t suite : kEveryProtection) {
        ReferenceKey key = ReferenceKey::random(suite, random, 1000);
        RecordProtection opener = key.protection(), sealer = key.protection();
        for (std::size_t length = 0; length <= 600; length += length < 300 ? 1 : 7) {
            const Octets content = random_octets(random, length);
            const Octets record = reference_seal(key, ContentType::application_data, content);
            ASSERT_EQ(seal_record(*batch_, sealer, ContentType::application_data, content), record) << length;
            const Opened opened = open_record(*batch_, opener, record, {length % 2 == 0 ? record.size() : length / 2 + 1});
            ASSERT_EQ(opened.result.status, Status::ok) << length;
            ASSERT_EQ(opened.content(), content) << length;
        }
    }
}

/// A record whose Poly1305 has a carry that IPsec-MB 2.0 loses in its AVX-512 code: found by a client that refused its tag. The content is a
/// key stream of ChaCha20's.
TEST_P(EveryInstructions, CarryOfPoly1305_IsNotLost) {
    const ReferenceKey key{find_cipher_suite(0x1303), from_hex("878fe1704d49eea3722963c2b7fe1f07a4fb885dfbd9127390bef980e164cb97"), from_hex("3d53bbc73bd635e85e52fbe4"),
                           30253, 0};
    constexpr std::size_t kSkipped = 5, kLength = 16384;
    const Octets stream_key(32, std::byte{0x5a}), zeros(kSkipped + kLength);
    Octets counter = from_hex("fc2a7600"), stream(zeros.size());
    counter.resize(16);
    const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
    int length = 0;
    ASSERT_EQ(EVP_EncryptInit_ex(context.get(), EVP_chacha20(), nullptr, raw(stream_key.data()), raw(counter.data())), 1);
    ASSERT_EQ(EVP_EncryptUpdate(context.get(), raw(stream.data()), &length, raw(zeros.data()), static_cast<int>(zeros.size())), 1);
    const Octets content(stream.begin() + kSkipped, stream.end());
    ReferenceKey reference = key;
    const Octets expected = reference_seal(reference, ContentType::application_data, content);
    std::vector<std::size_t> from_lengths{1072}, to_lengths{434};
    from_lengths.resize(12, 1428);
    to_lengths.resize(12, 1428);
    RecordProtection sealer = key.protection(), opener = key.protection();
    Scattered from(content, from_lengths), to(Octets(expected.size()), to_lengths);
    ASSERT_TRUE(batch_->seal(sealer, ContentType::application_data, from.read_pieces(), to.write_pieces()));
    batch_->flush();
    EXPECT_EQ(to.join(), expected);
    EXPECT_EQ(open_record(*batch_, opener, expected, {429, 1428, 1428, 1428, 1428, 1428, 1428, 1428, 1428, 1428, 1428}).result.status, Status::ok);
}

/// Long records of ChaCha20-Poly1305 are OpenSSL's, as the reference is: IPsec-MB's code without AVX, which short ones have, says the same of both lengths.
TEST_P(EveryInstructions, ChaCha_LongRecords_AreIpsecMbsToo) {
    const std::unique_ptr<IMB_MGR, decltype(&free_mb_mgr)> manager(alloc_mb_mgr(0), free_mb_mgr);
    init_mb_mgr_sse(manager.get());
    std::mt19937_64 random(8439);
    for (const std::size_t length : {1, 2046, 2047, 2048, 2049, 3000, 8191, 16383, 16384}) {
        SCOPED_TRACE(length);
        const ReferenceKey key = ReferenceKey::random(0xcca9, random);   // TLS 1.2: no type behind the content
        const Octets content = random_octets(random, length);
        Octets nonce = key.iv, additional, expected(5 + length + 16);
        append_big_endian(additional, 0, 8);
        for (const std::size_t octet : {std::size_t{23}, std::size_t{3}, std::size_t{3}, length >> 8, length & 255}) additional.push_back(static_cast<std::byte>(octet));
        std::copy(additional.begin() + 8, additional.end(), expected.begin());
        expected[3] = static_cast<std::byte>((length + 16) >> 8);
        expected[4] = static_cast<std::byte>(length + 16);
        chacha20_poly1305_context_data context;
        IMB_CHACHA20_POLY1305_INIT(manager.get(), key.key.data(), &context, nonce.data(), additional.data(), additional.size());
        IMB_CHACHA20_POLY1305_ENC_UPDATE(manager.get(), key.key.data(), &context, expected.data() + 5, content.data(), length);
        IMB_CHACHA20_POLY1305_ENC_FINALIZE(manager.get(), &context, expected.data() + 5 + length, 16);
        RecordProtection sealer = key.protection(), opener = key.protection();
        Scattered from(content, {length / 3}), to(Octets(expected.size()), {7, length / 2});
        ASSERT_TRUE(batch_->seal(sealer, ContentType::application_data, from.read_pieces(), to.write_pieces()));
        batch_->flush();
        EXPECT_EQ(to.join(), expected);
        EXPECT_EQ(open_record(*batch_, opener, expected, {length / 2}).result.status, Status::ok);
        expected[5 + length / 2] ^= std::byte{1};
        RecordProtection again = key.protection();
        EXPECT_EQ(open_record(*batch_, again, expected, {length / 2}).result.status, Status::bad_record_mac);
    }
}

/// The longest record that a header may announce (RFC 5246 6.2.3), in pieces: what the batch keeps for other records stays as it is.
TEST_P(EveryInstructions, ChaCha_LongestRecordInPieces_LeavesOthersAlone) {
    std::mt19937_64 random(5246);
    ReferenceKey longest = ReferenceKey::random(0xcca9, random), other = ReferenceKey::random(0x1301, random);
    RecordProtection opener = longest.protection(), sealer = other.protection();
    const Octets record = reference_record(longest, 23, random_octets(random, kMaxTls12CiphertextLength - kAeadTagLength));
    Scattered fragment(Octets(record.begin() + kRecordHeaderLength, record.end()), {1000, 9000});
    std::array<Octets, 3> contents, sealed;
    const auto seal = [&](std::size_t i) {
        contents[i] = random_octets(random, 600);
        sealed[i].resize(sealer.sealed_length(contents[i].size()));
        const ReadPiece from{contents[i].data(), 600};
        const WritePiece to{sealed[i].data(), static_cast<std::uint32_t>(sealed[i].size())};
        ASSERT_TRUE(batch_->seal(sealer, ContentType::application_data, {&from, 1}, {&to, 1}));
    };
    seal(0);
    OpenResult result;
    ASSERT_TRUE(batch_->open(opener, {ContentType::application_data, static_cast<std::uint16_t>(kMaxTls12CiphertextLength)}, fragment.write_pieces(), &result));
    seal(1);
    seal(2);
    batch_->flush();
    EXPECT_EQ(result.status, OpenResult::Status::plaintext_overflow);
    for (std::size_t i = 0; i < sealed.size(); ++i) EXPECT_EQ(sealed[i], reference_seal(other, ContentType::application_data, contents[i])) << i;
}

}  // namespace
}  // namespace sallyport::crypto
