#include "control/handshake/operation_batch.h"

#include <gtest/gtest.h>
#include <openssl/err.h>

#include <algorithm>
#include <array>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "control/handshake/handshake.h"
#include "control/handshake/libssl.h"
#include "crypto/public_key/multi_buffer.h"
#include "tests/certificates.h"
#include "tests/unit/control/handshake/harness.h"

namespace sallyport::handshake {
namespace {

using crypto::X25519Agreement;
using crypto::X25519Octets;

TEST(Fiber, Work_StopsAndGoesOnWhereItWas) {
    Fiber fiber;
    std::string done;
    fiber.start([&] {
        std::string local = "a";
        done += local;
        fiber.stop();
        local += "b";
        done += local;
        fiber.stop();
        done += "c";
    });
    EXPECT_TRUE(fiber.stopped());
    EXPECT_EQ(done, "a");
    fiber.go_on();
    EXPECT_EQ(done, "aab");
    fiber.go_on();
    EXPECT_EQ(done, "aabc");
    EXPECT_FALSE(fiber.stopped());
    fiber.start([&] { done += "d"; });   // the next piece
    EXPECT_EQ(done, "aabcd");
}

TEST(Fiber, ExceptionInside_IsCaughtInside) {
    Fiber fiber;
    bool caught = false;
    fiber.start([&] {
        try {
            fiber.stop();
            throw std::runtime_error("inside");
        } catch (const std::runtime_error&) {
            caught = true;
        }
    });
    fiber.go_on();
    EXPECT_TRUE(caught);
}

TEST(Fiber, WhatWorkHolds_GoesWithItsEnd) {
    Fiber fiber;
    const auto held = std::make_shared<int>(0);
    fiber.start([held] {});
    EXPECT_EQ(held.use_count(), 1);
}

/// An agreement of two keys that are made here, and what it must lead to.
struct Pair {
    X25519Octets own{}, of_own{}, other{}, of_other{};
    Pair() {
        EXPECT_TRUE(crypto::make_x25519_key(own, of_own));
        EXPECT_TRUE(crypto::make_x25519_key(other, of_other));
    }
    [[nodiscard]] X25519Octets expected() const {
        X25519Agreement agreement;
        agreement.private_key = &other;
        agreement.peer = &of_own;
        crypto::agree_x25519({&agreement, 1});
        return agreement.shared;
    }
};

X25519Octets awaited(const Pair& pair) {
    X25519Agreement agreement;
    agreement.private_key = &pair.own;
    agreement.peer = &pair.of_other;
    EXPECT_TRUE(OperationBatch::await(&agreement));
    EXPECT_TRUE(agreement.agreed);
    return agreement.shared;
}

TEST(OperationBatch, OutsideOfRun_NothingIsDone) {
    X25519Agreement agreement;
    EXPECT_FALSE(OperationBatch::await(&agreement));
}

TEST(OperationBatch, EveryNumberOfPieces_EachGetsItsOwnResultInOneCall) {
    OperationBatch batch;
    for (std::size_t count = 1; count <= OperationBatch::kMost; ++count) {
        const auto before = batch.counts();
        std::vector<Pair> pairs(count);
        std::vector<X25519Octets> results(count);
        for (std::size_t i = 0; i < count; ++i) {
            EXPECT_FALSE(batch.full());
            batch.run(i, [&, i] { results[i] = awaited(pairs[i]); });
            EXPECT_EQ(batch.waiting(), i + 1);
            EXPECT_TRUE(batch.holds(i));
            EXPECT_FALSE(batch.holds(i + 1));
        }
        EXPECT_EQ(batch.full(), count == OperationBatch::kMost);
        std::size_t gone_on = 0;
        batch.finish([&] { ++gone_on; });
        EXPECT_EQ(gone_on, count);
        EXPECT_EQ(batch.waiting(), 0U);
        for (std::size_t i = 0; i < count; ++i) EXPECT_EQ(results[i], pairs[i].expected());
        EXPECT_EQ(batch.counts().operations, before.operations + count);
        EXPECT_EQ(batch.counts().calls, before.calls + 1);
    }
}

TEST(OperationBatch, PiecesThatStopAgain_AreWorkedOutTogetherAgain) {
    OperationBatch batch;
    const Pair pair;
    int ends = 0;
    for (std::size_t i = 0; i < 3; ++i)
        batch.run(i, [&, i] {
            for (std::size_t n = 0; n <= i; ++n) EXPECT_EQ(awaited(pair), pair.expected());
            ++ends;
        });
    batch.finish();
    EXPECT_EQ(ends, 3);
    EXPECT_EQ(batch.counts().operations, 1U + 2 + 3);
    EXPECT_EQ(batch.counts().calls, 3U);
}

TEST(OperationBatch, ErrorsOfOnePiece_AreNotSeenByAnother) {
    OperationBatch batch;
    const Pair pair;
    unsigned long seen = 1;
    batch.run(1, [&] {
        ERR_clear_error();
        (void)awaited(pair);
        seen = ERR_peek_error();
    });
    batch.run(2, [&] {
        (void)awaited(pair);
        ERR_raise(ERR_LIB_USER, 1);
    });
    ERR_raise(ERR_LIB_USER, 2);
    batch.finish();
    EXPECT_EQ(seen, 0U);
    ERR_clear_error();
}

TEST(OperationBatch, SignaturesThatTheLibraryRefuses_AreCounted) {
    if (crypto::multi_buffer() == nullptr) GTEST_SKIP() << "this processor has no AVX-512 IFMA";
    const crypto::P256Scalar key{1, 2, 3, 4};
    for (const std::size_t refused : {0, 3}) {
        std::array<crypto::P256Signature, 5> signatures;
        OperationBatch batch;
        for (std::size_t i = 0; i < signatures.size(); ++i) {
            signatures[i].private_key = &key;
            if (i >= refused) signatures[i].digest.fill(std::byte{1});   // of zeros it makes none
            batch.run(i, [each = &signatures[i]] { EXPECT_TRUE(OperationBatch::await(each)); });
        }
        batch.finish();
        EXPECT_EQ(batch.counts().operations, signatures.size());
        EXPECT_EQ(batch.counts().unmade, refused);
    }
}

struct Side {
    const char* groups;
    int version;
    test::Key key;
};

/// Handshakes of as many clients as there is room for, the servers' pieces in one batch. What was worked out together.
OperationBatch::Counts together(const Side& side) {
    const test::Identity ca = test::make_ca("Test CA");
    configuration::Service service;
    service.name = "web";
    service.certificates = {test::loaded(test::make_leaf({"a.example"}, ca, side.key))};
    service.versions = {configuration::TlsVersion::tls13, configuration::TlsVersion::tls12};
    const auto context = make_server_context({}, service, {.tickets = make_ticket_keys({})});
    const auto clients = test::peer_context({.version = side.version, .groups = side.groups});
    struct Each {
        std::unique_ptr<test::Peer> client;
        std::unique_ptr<ServerHandshake> server;
        test::Octets to_server, to_client;
        Step step = Step::more;
    };
    std::vector<Each> all(OperationBatch::kMost);
    for (Each& each : all) {
        each.client = std::make_unique<test::Peer>(clients.get(), false, "a.example");
        each.server = std::make_unique<ServerHandshake>(context);
        each.to_server = each.client->feed({});
    }
    OperationBatch batch;
    while (std::ranges::any_of(all, [](const Each& each) { return each.step == Step::more; })) {
        for (Each& each : all) {
            if (each.step != Step::more || each.to_server.empty()) continue;
            batch.run(reinterpret_cast<std::uintptr_t>(&each), [&each] {
                each.to_client.clear();
                each.step = each.server->feed(each.to_server, each.to_client);
            });
        }
        batch.finish();
        for (Each& each : all) each.to_server = each.client->done() ? test::Octets{} : each.client->feed(each.to_client);
        if (::testing::Test::HasFailure()) return {};
    }
    for (const Each& each : all) EXPECT_EQ(each.step, Step::done) << each.server->failure().text;
    for (const Each& each : all) EXPECT_FALSE(each.client->failed());
    return batch.counts();
}

TEST(OperationBatch, HandshakesSideBySide_ShareTheirAgreementsAndSignatures) {
    const std::uint64_t all = OperationBatch::kMost, signatures = crypto::multi_buffer() != nullptr ? 1 : 0;
    for (const Side& side : {Side{"X25519", TLS1_3_VERSION, test::Key::p256}, Side{"X25519:P-256", TLS1_2_VERSION, test::Key::p256}, Side{"X25519", TLS1_3_VERSION, test::Key::rsa2048},
                             Side{"X25519", TLS1_2_VERSION, test::Key::rsa2048}, Side{"X25519MLKEM768", TLS1_3_VERSION, test::Key::p256}}) {   // of that, the half that is X25519
        SCOPED_TRACE(side.groups);
        const auto counts = together(side);
        EXPECT_EQ(counts.operations, all * (1 + signatures));
        EXPECT_EQ(counts.calls, 1 + signatures);
    }
}

TEST(OperationBatch, HandshakesWithOtherKeys_ShareTheirAgreements) {
    for (const test::Key key : {test::Key::p384, test::Key::ed25519}) {
        const auto counts = together({"X25519", TLS1_3_VERSION, key});
        EXPECT_EQ(counts.operations, OperationBatch::kMost);
        EXPECT_EQ(counts.calls, 1U);
    }
}

}  // namespace
}  // namespace sallyport::handshake
