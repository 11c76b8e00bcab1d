#include "crypto/aead_batch.h"

#include <cstring>
#include <numeric>

#include "reference.h"

namespace sallyport::crypto {

struct AeadBatchTestAccess {
    static std::span<const std::byte> memory(const AeadBatch& batch) { return batch.memory(); }
};

namespace {

using Status = OpenResult::Status;

Octets counting(std::size_t length) {
    Octets octets(length);
    for (std::size_t i = 0; i < length; ++i) octets[i] = static_cast<std::byte>(i);
    return octets;
}

/// A protection with keys that RFC 8448 section 3 derives.
RecordProtection rfc8448(std::string_view traffic_secret, std::uint64_t sequence) {
    const CipherSuite& suite = *find_cipher_suite(0x1301);
    RecordProtection protection;
    protection.install(suite, derive_traffic_key(suite, TrafficSecret(from_hex(traffic_secret))).value(), sequence, 0);
    return protection;
}

struct KnownRecord {
    std::string_view traffic_secret;
    std::uint64_t sequence;
    ContentType type;
    Octets content;
    std::string_view record;
};

std::vector<KnownRecord> rfc8448_records() {
    constexpr std::string_view kClient = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
    constexpr std::string_view kServer = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";
    const Octets close_notify = from_hex("0100");
    return {
        {kClient, 0, ContentType::application_data, counting(50),
         "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b62974e1f5a"
         "6292a2977014bd1e3deae63aeebb21694915e4"},
        {kServer, 1, ContentType::application_data, counting(50),
         "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb501a59a8fcc49c4bf2"
         "e5f0a21c0047c2abf332540dd032e167c2955d"},
        {kClient, 1, ContentType::alert, close_notify, "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3"},
        {kServer, 2, ContentType::alert, close_notify, "1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9"},
    };
}

TEST(AeadBatch, Rfc8448Section3_RecordsOpen) {
    AeadBatch batch;
    for (const KnownRecord& known : rfc8448_records()) {
        RecordProtection protection = rfc8448(known.traffic_secret, known.sequence);
        const Opened opened = open_record(batch, protection, from_hex(known.record));
        EXPECT_EQ(opened.result.status, Status::ok);
        EXPECT_EQ(opened.result.type, known.type);
        EXPECT_EQ(opened.content(), known.content);
        EXPECT_EQ(protection.sequence(), known.sequence + 1);
    }
}

TEST(AeadBatch, Rfc8448Section3_RecordsSeal) {
    AeadBatch batch;
    for (const KnownRecord& known : rfc8448_records()) {
        RecordProtection protection = rfc8448(known.traffic_secret, known.sequence);
        EXPECT_EQ(seal_record(batch, protection, known.type, known.content), from_hex(known.record));
    }
}

class EveryProtection : public testing::TestWithParam<std::uint16_t> {
 protected:
    [[nodiscard]] bool tls13() const { return find_cipher_suite(GetParam())->version == Version::tls13; }
    std::mt19937_64 random_{GetParam()};
    ReferenceKey key_ = ReferenceKey::random(GetParam(), random_, 5);
    AeadBatch batch_;
};

INSTANTIATE_TEST_SUITE_P(AeadBatch, EveryProtection, testing::ValuesIn(kEveryProtection), [](const auto& tested) {
    return std::string(find_cipher_suite(tested.param)->name);
});

class EveryTls13Protection : public EveryProtection {};  // which have padding and an inner type

INSTANTIATE_TEST_SUITE_P(AeadBatch, EveryTls13Protection, testing::Values(0x1301, 0x1302, 0x1303), [](const auto& tested) {
    return std::string(find_cipher_suite(tested.param)->name);
});

TEST_P(EveryProtection, EveryBitOfTheTagFlipped_Fails) {
    const RecordProtection protection = key_.protection();
    const Octets record = reference_seal(key_, ContentType::application_data, counting(100));
    for (std::size_t bit = 0; bit < 8 * kAeadTagLength; ++bit) {
        Octets forged = record;
        forged[record.size() - 1 - bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
        RecordProtection copy = protection;
        const Opened opened = open_record(batch_, copy, forged);
        ASSERT_EQ(opened.result.status, Status::bad_record_mac) << bit;
        ASSERT_EQ(opened.result.content_length, 0u);
    }
    RecordProtection copy = protection;
    EXPECT_EQ(open_record(batch_, copy, record).result.status, Status::ok);
    EXPECT_EQ(batch_.counters().failed, 8 * kAeadTagLength);
}

TEST_P(EveryProtection, EveryOctetOfTheFragmentFlipped_Fails) {
    const RecordProtection protection = key_.protection();
    const Octets record = reference_seal(key_, ContentType::application_data, counting(70), 3);
    for (std::size_t at = kRecordHeaderLength; at < record.size(); ++at) {
        Octets forged = record;
        forged[at] ^= std::byte{0x80};
        RecordProtection copy = protection;
        ASSERT_EQ(open_record(batch_, copy, forged, {7, 20}).result.status, Status::bad_record_mac) << at;
    }
}

TEST_P(EveryProtection, OtherSequenceNumberOrType_Fails) {
    const RecordProtection protection = key_.protection();
    const Octets record = reference_seal(key_, ContentType::application_data, counting(20));
    RecordProtection later = protection;
    ASSERT_EQ(open_record(batch_, later, record).result.status, Status::ok);
    EXPECT_EQ(open_record(batch_, later, record).result.status, Status::bad_record_mac);  // replayed
    if (!tls13()) {
        Octets other = record;
        other[0] = std::byte{22};
        RecordProtection copy = protection;
        EXPECT_EQ(open_record(batch_, copy, other).result.status, Status::bad_record_mac);
    }
}

TEST_P(EveryProtection, TruncatedAnywhere_Fails) {
    const RecordProtection protection = key_.protection();
    const Octets record = reference_seal(key_, ContentType::application_data, counting(40));
    for (std::size_t length = protection.overhead() - (tls13() ? 1 : 0); length < record.size(); ++length) {
        Octets shorter(record.begin(), record.begin() + static_cast<std::ptrdiff_t>(length));
        shorter[4] = static_cast<std::byte>(length - kRecordHeaderLength);
        RecordProtection copy = protection;
        ASSERT_EQ(open_record(batch_, copy, shorter, {9}).result.status, Status::bad_record_mac) << length;
    }
}

TEST_P(EveryProtection, FailedRecord_ItsPiecesHoldNothingOfThePlaintext) {
    for (const std::vector<std::size_t>& split : {std::vector<std::size_t>{}, {1448, 1448, 1000}, {9, 1, 1, 3000}}) {
        RecordProtection protection = key_.protection();
        Octets record = reference_seal(key_, ContentType::application_data, counting(4000));
        record.back() ^= std::byte{1};
        const Opened opened = open_record(batch_, protection, record, split);
        ASSERT_EQ(opened.result.status, Status::bad_record_mac);
        const auto begin = opened.fragment.begin() + opened.result.content_offset;
        EXPECT_TRUE(std::all_of(begin, opened.fragment.end() - kAeadTagLength,
                                [](std::byte octet) { return octet == std::byte{0}; }));
    }
}

TEST_P(EveryProtection, FailedRecord_LeavesItsNeighboursAlone) {
    RecordProtection protection = key_.protection();
    std::array<Octets, 3> records;
    std::array<OpenResult, 3> results;
    for (Octets& record : records) record = reference_seal(key_, ContentType::application_data, counting(300));
    records[1][50] ^= std::byte{4};
    for (std::size_t i = 0; i < records.size(); ++i) {
        const WritePiece piece{records[i].data() + kRecordHeaderLength,
                               static_cast<std::uint32_t>(records[i].size() - kRecordHeaderLength)};
        ASSERT_TRUE(batch_.open(protection, header_of(records[i], protection), {&piece, 1}, &results[i]));
    }
    batch_.flush();
    EXPECT_EQ(results[0].status, Status::ok);
    EXPECT_EQ(results[1].status, Status::bad_record_mac);
    EXPECT_EQ(results[2].status, Status::ok);
    EXPECT_EQ(std::memcmp(records[2].data() + kRecordHeaderLength + results[2].content_offset, counting(300).data(), 300),
              0);
}

TEST_P(EveryProtection, EmptyContent_OpensAndSeals) {
    RecordProtection opener = key_.protection(), sealer = key_.protection();
    const Octets record = reference_seal(key_, ContentType::application_data, {});
    EXPECT_EQ(seal_record(batch_, sealer, ContentType::application_data, {}), record);
    const Opened opened = open_record(batch_, opener, record, {1, 10, 4});
    EXPECT_EQ(opened.result.status, Status::ok);
    EXPECT_EQ(opened.result.type, ContentType::application_data);
    EXPECT_EQ(opened.result.content_length, 0u);
}

TEST_P(EveryProtection, LargestContent_OpensAndSeals) {
    RecordProtection opener = key_.protection(), sealer = key_.protection();
    const Octets content = random_octets(random_, kMaxPlaintextLength);
    const Octets record = reference_seal(key_, ContentType::application_data, content);
    EXPECT_EQ(seal_record(batch_, sealer, ContentType::application_data, content), record);
    const Opened opened = open_record(batch_, opener, record, std::vector<std::size_t>(11, 1448));
    EXPECT_EQ(opened.result.status, Status::ok);
    EXPECT_EQ(opened.content(), content);
}

TEST_P(EveryProtection, ContentOf2To14And1_Overflows) {
    RecordProtection opener = key_.protection();
    const Octets record = reference_seal(key_, ContentType::application_data, counting(kMaxPlaintextLength + 1));
    const Opened opened = open_record(batch_, opener, record, {5000});
    EXPECT_EQ(opened.result.status, Status::plaintext_overflow);
    EXPECT_EQ(opened.result.content_length, 0u);
}

TEST_P(EveryProtection, SealingMoreThan2To14_StopsTheProcess) {
    RecordProtection sealer = key_.protection();
    EXPECT_DEATH((void)seal_record(batch_, sealer, ContentType::application_data, counting(kMaxPlaintextLength + 1)),
                 "check failed");
}

TEST_P(EveryTls13Protection, PaddingOfEveryShortLength_IsRemoved) {
    for (std::size_t padding = 0; padding < 70; ++padding) {
        RecordProtection opener = key_.protection();
        // A content that ends in zeros must keep them.
        Octets content = counting(30);
        content.resize(content.size() + padding % 5);
        const Octets record = reference_seal(key_, ContentType::handshake, content, padding);
        const Opened opened = open_record(batch_, opener, record, {padding, 5, 1, 30});
        ASSERT_EQ(opened.result.status, Status::ok) << padding;
        EXPECT_EQ(opened.result.type, ContentType::handshake);
        EXPECT_EQ(opened.content(), content);
    }
}

TEST_P(EveryTls13Protection, PaddingUpToTheLimit_OpensAndOneOctetMoreOverflows) {
    for (const std::size_t content : {0, 1, 16000}) {
        for (const std::vector<std::size_t>& split : {std::vector<std::size_t>{}, std::vector<std::size_t>(11, 1448)}) {
            const std::size_t padding = kMaxPlaintextLength - content;  // with the type 2^14 + 1 in all
            RecordProtection opener = key_.protection();
            const Opened most =
                open_record(batch_, opener, reference_seal(key_, ContentType::alert, counting(content), padding), split);
            EXPECT_EQ(most.result.status, Status::ok);
            EXPECT_EQ(most.content(), counting(content));
            const Opened more = open_record(
                batch_, opener, reference_seal(key_, ContentType::alert, counting(content), padding + 1), split);
            EXPECT_EQ(more.result.status, Status::plaintext_overflow);
        }
    }
}

TEST_P(EveryTls13Protection, OnlyPadding_HasNoContentType) {
    for (const std::size_t zeros : {0, 1, 16, 1000, 16385}) {
        RecordProtection opener = key_.protection();
        const Opened opened = open_record(batch_, opener, reference_record(key_, 23, Octets(zeros)), {zeros / 3, 8});
        EXPECT_EQ(opened.result.status, Status::no_content_type) << zeros;
    }
}

TEST_P(EveryTls13Protection, UnknownInnerType_IsHandedOn) {
    RecordProtection opener = key_.protection();
    const Opened opened = open_record(batch_, opener, reference_record(key_, 23, from_hex("0102030099")));
    EXPECT_EQ(opened.result.status, Status::ok);
    EXPECT_EQ(static_cast<unsigned>(opened.result.type), 0x99u);
    EXPECT_EQ(opened.content(), from_hex("01020300"));
}

TEST_P(EveryProtection, EverySplitInTwo_OpensAndSeals) {
    const RecordProtection protection = key_.protection();
    const Octets content = random_octets(random_, 45);
    const Octets record = reference_seal(key_, ContentType::application_data, content);
    for (std::size_t at = 1; at < record.size(); ++at) {
        if (at < record.size() - kRecordHeaderLength) {
            RecordProtection opener = protection;
            const Opened opened = open_record(batch_, opener, record, {at});
            ASSERT_EQ(opened.result.status, Status::ok) << at;
            ASSERT_EQ(opened.content(), content) << at;
        }
        RecordProtection sealer = protection;
        Scattered from(content, {at % content.size()});
        Scattered to(Octets(record.size()), {at});
        ASSERT_TRUE(batch_.seal(sealer, ContentType::application_data, from.read_pieces(), to.write_pieces()));
        batch_.flush();
        ASSERT_EQ(to.join(), record) << at;
    }
}

TEST_P(EveryProtection, OctetBehindContent_OnlyWrittenWhenFree) {
    for (const std::size_t length : {0, 1, 64, 241, 3000}) {
        for (const auto behind : {AeadBatch::OctetBehind::untouched, AeadBatch::OctetBehind::free}) {
            RecordProtection sealer = key_.protection();
            Octets content = random_octets(random_, length);
            const Octets expected = reference_seal(key_, ContentType::handshake, content);
            content.push_back(std::byte{0x5a});
            Octets record(expected.size());
            const ReadPiece from{content.data(), static_cast<std::uint32_t>(length)};
            const WritePiece to{record.data(), static_cast<std::uint32_t>(record.size())};
            ASSERT_TRUE(batch_.seal(sealer, ContentType::handshake, {&from, 1}, {&to, 1}, behind));
            batch_.flush();
            EXPECT_EQ(record, expected) << length;
            if (behind == AeadBatch::OctetBehind::untouched) { EXPECT_EQ(content.back(), std::byte{0x5a}); }
        }
    }
}

TEST_P(EveryProtection, PiecesOfNoOctets_AreSkipped) {
    RecordProtection opener = key_.protection(), sealer = key_.protection();
    const Octets content = counting(30);
    const Octets expected = reference_seal(key_, ContentType::application_data, content);
    Octets record(expected.size());
    const std::array<ReadPiece, 4> from{{{nullptr, 0}, {content.data(), 10}, {nullptr, 0}, {content.data() + 10, 20}}};
    const std::array<WritePiece, 4> to{{{nullptr, 0},
                                        {record.data(), 20},
                                        {record.data() + 20, static_cast<std::uint32_t>(record.size() - 20)},
                                        {nullptr, 0}}};
    ASSERT_TRUE(batch_.seal(sealer, ContentType::application_data, from, to));
    batch_.flush();
    EXPECT_EQ(record, expected);
    OpenResult result;
    std::byte* fragment = record.data() + kRecordHeaderLength;
    const auto length = static_cast<std::uint32_t>(record.size() - kRecordHeaderLength);
    const std::array<WritePiece, 4> pieces{{{nullptr, 0}, {fragment, 12}, {nullptr, 0}, {fragment + 12, length - 12}}};
    ASSERT_TRUE(batch_.open(opener, header_of(record, opener), pieces, &result));
    batch_.flush();
    EXPECT_EQ(result.status, Status::ok);
}

TEST_P(EveryProtection, PiecesOfOneOctet_FitAnEmptyBatch) {
    RecordProtection opener = key_.protection(), sealer = key_.protection();
    const Octets content = random_octets(random_, kMaxPlaintextLength);
    const Octets record = reference_seal(key_, ContentType::application_data, content);
    const std::vector<std::size_t> ones(record.size(), 1);
    Scattered from(content, ones), to(Octets(record.size()), ones);
    ASSERT_TRUE(batch_.seal(sealer, ContentType::application_data, from.read_pieces(), to.write_pieces()));
    batch_.flush();
    EXPECT_EQ(to.join(), record);
    EXPECT_EQ(open_record(batch_, opener, record, ones).content(), content);
}

TEST_P(EveryProtection, SequenceNumberExtremes_AgreeWithReference) {
    for (const std::uint64_t sequence :
         {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{0xff}, std::uint64_t{0xffffffff}, std::uint64_t{1} << 32,
          std::uint64_t{1} << 63, ~std::uint64_t{0} - 1, ~std::uint64_t{0}}) {
        key_.sequence = sequence;
        RecordProtection opener = key_.protection(), sealer = key_.protection();
        const Octets record = reference_seal(key_, ContentType::application_data, counting(33));
        EXPECT_EQ(seal_record(batch_, sealer, ContentType::application_data, counting(33)), record);
        EXPECT_EQ(open_record(batch_, opener, record).result.status, Status::ok);
        const bool last = sequence == ~std::uint64_t{0};
        EXPECT_EQ(opener.installed(), !last);
        EXPECT_EQ(sealer.installed(), !last);
    }
    key_.sequence = ~std::uint64_t{0};
    RecordProtection sealer = key_.protection();
    const RecordProtection unused;
    (void)seal_record(batch_, sealer, ContentType::application_data, counting(1));
    EXPECT_EQ(std::memcmp(&sealer, &unused, kMaxKeyLength), 0);
}

TEST_P(EveryProtection, KeyMaterial_IsWipedAfterFlush) {
    const auto holds = [this](const Octets& wanted) {
        const auto memory = AeadBatchTestAccess::memory(batch_);
        return memmem(memory.data(), memory.size(), wanted.data(), wanted.size()) != nullptr;
    };
    RecordProtection protection = key_.protection();
    const Octets content = random_octets(random_, 40);  // short enough for the bounce buffer
    Octets record(protection.sealed_length(content.size()));
    const ReadPiece from{content.data(), 40};
    const WritePiece to{record.data(), static_cast<std::uint32_t>(record.size())};
    for (int i = 0; i < 2; ++i)  // the second makes the key a shared one
        ASSERT_TRUE(batch_.seal(protection, ContentType::application_data, {&from, 1}, {&to, 1}));
    ASSERT_TRUE(holds(key_.key));
    batch_.flush();
    EXPECT_FALSE(holds(key_.key));
    EXPECT_FALSE(holds(Octets(key_.iv.begin(), key_.iv.begin() + 4)));
    EXPECT_FALSE(holds(Octets(content.begin(), content.begin() + 8)));
    ASSERT_TRUE(batch_.seal(protection, ContentType::application_data, {&from, 1}, {&to, 1}));
    batch_.flush();
    EXPECT_EQ(holds(key_.key), key_.suite->aead != Aead::chacha20_poly1305);   // kept from the second flush on
    batch_.forget(protection);
    EXPECT_FALSE(holds(key_.key));
    // Scattered records leave their state between calls in the batch.
    Octets longer = random_octets(random_, 3001);
    Scattered scattered(longer, {777}), sealed(Octets(protection.sealed_length(longer.size())), {999});
    ASSERT_TRUE(batch_.seal(protection, ContentType::application_data, scattered.read_pieces(), sealed.write_pieces()));
    batch_.flush();
    batch_.forget(protection);
    EXPECT_FALSE(holds(key_.key));
    EXPECT_FALSE(holds(Octets(key_.iv.begin(), key_.iv.begin() + 4)));
    // An expanded key begins with the key itself and has much beside it: nothing but counters may be left. So look for
    // any long run of octets that are not zero; pointers, lengths and additional data are short of it.
    std::size_t run = 0, longest = 0;
    for (const std::byte octet : AeadBatchTestAccess::memory(batch_)) {
        run = octet == std::byte{0} ? 0 : run + 1;
        longest = std::max(longest, run);
    }
    EXPECT_LT(longest, 32u);
}

TEST_P(EveryProtection, KeyChangedBetweenQueueingAndFlush_EachRecordHasItsOwn) {
    ReferenceKey next = ReferenceKey::random(GetParam(), random_);
    RecordProtection protection = key_.protection();
    const std::array expected{reference_seal(key_, ContentType::handshake, from_hex("1800000100")),
                              reference_seal(next, ContentType::application_data, counting(9))};
    const std::array contents{from_hex("1800000100"), counting(9)};
    std::array<Octets, 2> records;
    for (std::size_t i = 0; i < 2; ++i) {
        records[i].resize(expected[i].size());
        const ReadPiece from{contents[i].data(), static_cast<std::uint32_t>(contents[i].size())};
        const WritePiece to{records[i].data(), static_cast<std::uint32_t>(records[i].size())};
        const ContentType type = i == 0 ? ContentType::handshake : ContentType::application_data;
        ASSERT_TRUE(batch_.seal(protection, type, {&from, 1}, {&to, 1}));
        if (i == 0) protection.install(*next.suite, next.traffic_key(), 0, ReferenceKey(next).explicit_nonce - 1);
    }
    protection.clear();
    batch_.flush();
    EXPECT_EQ(records, expected);
}

// More connections than keys are kept, of which some come often and some seldom, and change their keys at times: whatever is kept, found,
// pushed out or forgotten, each record has the key that its connection had when it was queued.
TEST(AeadBatch, KeptKeys_AreNeverMixedUp) {
    std::mt19937_64 random(12);
    AeadBatch batch;
    constexpr std::size_t kConnections = 4 * AeadBatch::kKeptKeys;
    std::vector<ReferenceKey> keys;
    std::vector<RecordProtection> protections(kConnections);   // neighbours in memory, as in a table of flows
    for (std::size_t i = 0; i < kConnections; ++i) {
        keys.push_back(ReferenceKey::random(i % 2 == 0 ? 0x1301 : 0x1302, random));
        protections[i].install(*keys[i].suite, keys[i].traffic_key(), 0, 0);
    }
    const Octets content = counting(40);
    const ReadPiece from{content.data(), 40};
    for (int flush = 0; flush < 1000; ++flush) {
        std::vector<Octets> records, expected;
        records.reserve(AeadBatch::kMaxRecords);
        std::vector<std::size_t> chosen(1 + random() % (AeadBatch::kMaxRecords / 2));
        for (std::size_t& i : chosen) i = random() % 3 == 0 ? random() % kConnections : random() % 300;
        // Each once more: a key found or expanded at first must still be there when many others have come between.
        const std::vector<std::size_t> once = chosen;
        chosen.insert(chosen.end(), once.begin(), once.end());
        for (const std::size_t i : chosen) {
            if (random() % 50 == 0) {
                if (random() % 2 == 0) batch.forget(protections[i]);   // else the kept one is of a key that is gone
                keys[i] = ReferenceKey::random(i % 2 == 0 ? 0x1301 : 0x1302, random);
                protections[i].install(*keys[i].suite, keys[i].traffic_key(), 0, 0);
            }
            records.emplace_back(protections[i].sealed_length(content.size()));
            const WritePiece to{records.back().data(), static_cast<std::uint32_t>(records.back().size())};
            ASSERT_TRUE(batch.seal(protections[i], ContentType::application_data, {&from, 1}, {&to, 1}));
            expected.push_back(reference_seal(keys[i], ContentType::application_data, content));
        }
        batch.flush();
        ASSERT_EQ(records, expected) << "flush " << flush;
    }
    EXPECT_GT(batch.counters().keys_found, 4'000u);
    EXPECT_GT(batch.counters().key_expansions, 4'000u);
}

// A key that one record uses is not kept the first time: among very many connections to write it to memory would only cost.
TEST(AeadBatch, KeyUsedOnce_IsNotKept) {
    std::mt19937_64 random(13);
    AeadBatch batch;
    const ReferenceKey key = ReferenceKey::random(0x1301, random);
    RecordProtection protection = key.protection();
    for (const std::uint64_t found : {0u, 0u, 1u, 2u}) {
        (void)seal_record(batch, protection, ContentType::application_data, counting(9));
        EXPECT_EQ(batch.counters().keys_found, found);
    }
    EXPECT_EQ(batch.counters().key_expansions, 2u);
}

TEST(AeadBatch, UninstalledKey_StopsTheProcess) {
    AeadBatch batch;
    RecordProtection protection;
    EXPECT_DEATH((void)seal_record(batch, protection, ContentType::application_data, {}), "check failed");
}

TEST(AeadBatch, Full_TakesNothing) {
    std::mt19937_64 random(11);
    AeadBatch batch;
    ReferenceKey key = ReferenceKey::random(0xc02f, random);
    RecordProtection protection = key.protection();
    std::vector<Octets> records(AeadBatch::kMaxRecords + 1, Octets(protection.sealed_length(0)));
    for (std::size_t i = 0; i < records.size(); ++i) {
        const WritePiece to{records[i].data(), static_cast<std::uint32_t>(records[i].size())};
        EXPECT_EQ(batch.seal(protection, ContentType::application_data, {}, {&to, 1}), i < AeadBatch::kMaxRecords);
    }
    EXPECT_EQ(batch.queued(), AeadBatch::kMaxRecords);
    EXPECT_EQ(protection.sequence(), AeadBatch::kMaxRecords);
    batch.flush();
    EXPECT_EQ(batch.queued(), 0u);
    EXPECT_EQ(batch.counters().sealed, AeadBatch::kMaxRecords);
    EXPECT_EQ(batch.counters().key_expansions, 1u);
    const WritePiece to{records.back().data(), static_cast<std::uint32_t>(records.back().size())};
    EXPECT_TRUE(batch.seal(protection, ContentType::application_data, {}, {&to, 1}));
    batch.flush();
    for (Octets& record : records) EXPECT_EQ(record, reference_seal(key, ContentType::application_data, {}));
}

TEST(AeadBatch, TooManyPieces_TakesNothing) {
    std::mt19937_64 random(12);
    AeadBatch batch;
    ReferenceKey key = ReferenceKey::random(0x1301, random);
    RecordProtection protection = key.protection();
    Scattered record(Octets(protection.sealed_length(kMaxPlaintextLength)), std::vector<std::size_t>(20000, 1));
    const Octets content = counting(kMaxPlaintextLength);
    const ReadPiece from{content.data(), static_cast<std::uint32_t>(content.size())};
    std::size_t taken = 0;
    while (batch.seal(protection, ContentType::application_data, {&from, 1}, record.write_pieces())) ++taken;
    EXPECT_EQ(taken, AeadBatch::kMaxPieces / (1 + content.size() + 22));
    EXPECT_EQ(protection.sequence(), taken);
    batch.flush();
    EXPECT_TRUE(batch.seal(protection, ContentType::application_data, {&from, 1}, record.write_pieces()));
}

TEST(AeadBatch, OpenedThenSealedInOneFlush_SealReadsThePlaintext) {
    std::mt19937_64 random(13);
    AeadBatch batch;
    ReferenceKey in = ReferenceKey::random(0xc030, random), out = ReferenceKey::random(0x1303, random);
    RecordProtection opener = in.protection(), sealer = out.protection();
    const Octets content = random_octets(random, 5000);
    Octets record = reference_seal(in, ContentType::application_data, content);
    const WritePiece fragment{record.data() + 5, static_cast<std::uint32_t>(record.size() - 5)};
    const ReadPiece plaintext{record.data() + 5 + 8, 5000};
    Octets sealed(sealer.sealed_length(5000));
    const WritePiece to{sealed.data(), static_cast<std::uint32_t>(sealed.size())};
    OpenResult result;
    ASSERT_TRUE(batch.open(opener, header_of(record, opener), {&fragment, 1}, &result));
    ASSERT_TRUE(batch.seal(sealer, ContentType::application_data, {&plaintext, 1}, {&to, 1}));
    batch.flush();
    EXPECT_EQ(sealed, reference_seal(out, ContentType::application_data, content));
}

}  // namespace
}  // namespace sallyport::crypto
