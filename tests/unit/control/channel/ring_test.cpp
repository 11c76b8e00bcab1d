#include "control/channel/ring.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "control/channel/attachment.h"

namespace sallyport::channel {
namespace {

struct AlignedFree {
    void operator()(std::byte* memory) const { std::free(memory); }
};

class RingTest : public ::testing::Test {
 protected:
    RingTest() : memory_(static_cast<std::byte*>(std::aligned_alloc(64, kRingMemory))) {
        std::memset(memory_.get(), 0, kRingMemory);
    }
    RingHeader& header() { return *reinterpret_cast<RingHeader*>(memory_.get()); }
    std::byte* octets() { return memory_.get() + sizeof(RingHeader); }

    std::unique_ptr<std::byte, AlignedFree> memory_;
    std::unique_ptr<Message> message_ = std::make_unique<Message>();
};

TEST_F(RingTest, Message_WrittenAndPublished_IsReadWhole) {
    RingProducer producer(memory_.get());
    RingConsumer consumer(memory_.get());
    const std::vector<std::byte> payload(1000, std::byte{7});
    ASSERT_TRUE(producer.write(MessageType::stream_octets, FlowId{42}, StreamOctets{Leg::backend, 3, 99}, payload));
    EXPECT_FALSE(consumer.read(*message_)) << "visible before publish()";
    EXPECT_EQ(consumer.used(), 0u);
    (void)producer.publish();
    EXPECT_EQ(consumer.used(), producer.used());
    ASSERT_TRUE(consumer.read(*message_));
    EXPECT_EQ(consumer.used(), 0u);
    EXPECT_EQ(message_->type(), MessageType::stream_octets);
    EXPECT_EQ(message_->flow(), FlowId{42});
    ASSERT_NE(message_->fixed<StreamOctets>(), nullptr);
    EXPECT_EQ(message_->fixed<StreamOctets>()->offset, 99u);
    EXPECT_TRUE(std::ranges::equal(message_->payload<StreamOctets>(), payload));
    EXPECT_FALSE(consumer.read(*message_));
    EXPECT_FALSE(consumer.broken());
}

TEST_F(RingTest, FixedPartShorterThanItsType_IsNull) {
    RingProducer producer(memory_.get());
    RingConsumer consumer(memory_.get());
    ASSERT_TRUE(producer.write(MessageType::handoff, FlowId{1}, LegEvent{}));
    (void)producer.publish();
    ASSERT_TRUE(consumer.read(*message_));
    EXPECT_EQ(message_->fixed<Handoff>(), nullptr);
    EXPECT_NE(message_->fixed<LegEvent>(), nullptr);
}

TEST_F(RingTest, RandomMessages_ManyTimesAround_ArriveInOrder) {
    RingProducer producer(memory_.get());
    RingConsumer consumer(memory_.get());
    std::mt19937 random(1);
    std::uint64_t written = 0, read = 0;
    std::vector<std::byte> payload(kMaxPayload);
    while (read < 20000) {
        while (written < 20000) {
            std::seed_seq seed{written};
            const std::size_t length = std::mt19937(seed)() % (kMaxPayload + 1);
            for (std::size_t i = 0; i < length; ++i) payload[i] = static_cast<std::byte>(written + i);
            if (!producer.write(MessageType::send_octets, FlowId{written}, SendOctets{}, std::span(payload).first(length))) break;
            ++written;
        }
        (void)producer.publish();
        for (std::size_t n = random() % 40; n > 0 && consumer.read(*message_); --n) {
            ASSERT_EQ(message_->flow().value, read);
            const auto got = message_->payload<SendOctets>();
            for (std::size_t i = 0; i < got.size(); i += 97) ASSERT_EQ(got[i], static_cast<std::byte>(read + i));
            ++read;
        }
    }
    EXPECT_FALSE(producer.broken());
    EXPECT_FALSE(consumer.broken());
}

TEST_F(RingTest, FullRing_RefusesAndRecovers) {
    RingProducer producer(memory_.get());
    RingConsumer consumer(memory_.get());
    const std::vector<std::byte> payload(kMaxPayload);
    std::size_t count = 0;
    while (producer.write(MessageType::send_octets, FlowId{1}, SendOctets{}, payload)) ++count;
    EXPECT_GE(count, kRingOctets / kMaxMessage);
    EXPECT_FALSE(producer.broken());
    (void)producer.publish();
    ASSERT_TRUE(consumer.read(*message_));
    EXPECT_TRUE(producer.write(MessageType::send_octets, FlowId{1}, SendOctets{}, payload));
}

TEST_F(RingTest, TooLongMessage_IsRefused) {
    RingProducer producer(memory_.get());
    const std::vector<std::byte> payload(kMaxMessage);
    EXPECT_FALSE(producer.write(MessageType::send_octets, FlowId{1}, SendOctets{}, payload));
    EXPECT_FALSE(producer.broken());
}

TEST_F(RingTest, ProducerThatLiesAboutItsHead_BreaksTheConsumer) {
    for (const std::uint64_t head : {std::uint64_t{1}, std::uint64_t{8}, kRingOctets + 8, ~std::uint64_t{0}}) {
        std::memset(memory_.get(), 0, kRingMemory);
        RingConsumer consumer(memory_.get());
        header().head.store(head);
        EXPECT_FALSE(consumer.read(*message_)) << head;
        EXPECT_TRUE(consumer.broken()) << head;
    }
}

TEST_F(RingTest, ImpossibleLengths_BreakTheConsumer) {
    for (const std::uint32_t length : {0u, 1u, 15u, 200u, kMaxMessage + 1, 0xffffffffu, 0xfffffff8u}) {
        std::memset(memory_.get(), 0, kRingMemory);
        RingConsumer consumer(memory_.get());
        std::memcpy(octets(), &length, sizeof length);
        header().head.store(64);
        EXPECT_FALSE(consumer.read(*message_)) << length;
        EXPECT_TRUE(consumer.broken()) << length;
    }
}

TEST_F(RingTest, ConsumerThatLiesAboutItsTail_BreaksTheProducer) {
    for (const std::uint64_t tail : {kRingOctets * 4, ~std::uint64_t{0}, std::uint64_t{1} << 63}) {
        std::memset(memory_.get(), 0, kRingMemory);
        RingProducer producer(memory_.get());
        const std::vector<std::byte> payload(kMaxPayload);
        header().tail.store(tail);
        while (producer.write(MessageType::send_octets, FlowId{1}, SendOctets{}, payload)) {
        }
        EXPECT_TRUE(producer.broken()) << tail;
    }
}

TEST_F(RingTest, RandomSharedMemory_NeverReadsOutside) {
    std::mt19937_64 random(7);
    for (int round = 0; round < 2000; ++round) {
        for (std::size_t i = 0; i < 4096; i += 8) {
            const std::uint64_t value = random() >> (random() % 64);
            std::memcpy(octets() + i, &value, sizeof value);
        }
        header().tail.store(0);
        header().head.store(random() % 4096);
        RingConsumer consumer(memory_.get());
        while (consumer.read(*message_)) {
        }
    }
}

TEST_F(RingTest, TwoThreads_WithSleepAndWake_LoseNothing) {
    constexpr std::uint64_t kMessages = 200000;
    std::atomic<std::uint32_t> wakes{0};
    std::thread consumer_thread([&] {
        RingConsumer consumer(memory_.get());
        auto message = std::make_unique<Message>();
        for (std::uint64_t next = 0; next < kMessages;) {
            if (consumer.read(*message)) {
                ASSERT_EQ(message->flow().value, next);
                ++next;
                continue;
            }
            ASSERT_FALSE(consumer.broken());
            const std::uint32_t seen = wakes.load();
            if (consumer.sleep()) wakes.wait(seen);
        }
    });
    RingProducer producer(memory_.get());
    for (std::uint64_t i = 0; i < kMessages;) {
        if (producer.write(MessageType::flow_opened, FlowId{i}, FlowOpened{})) ++i;
        if (i % 7 == 0 || i == kMessages || producer.used() > kRingOctets / 2) {
            if (producer.publish()) {
                wakes.fetch_add(1);
                wakes.notify_one();
            }
        }
    }
    consumer_thread.join();
}

TEST(SharedMemory, CreatedAndAttached_IsTheSameMemory) {
    auto created = SharedMemory::create(2);
    ASSERT_TRUE(created) << created.error();
    auto attached = SharedMemory::attach(Descriptor(dup(created->descriptor().get())), 2);
    ASSERT_TRUE(attached) << attached.error();
    RingProducer producer(created->ring_to_control(1));
    RingConsumer consumer(attached->ring_to_control(1));
    ASSERT_TRUE(producer.write(MessageType::flow_opened, FlowId{5}, FlowOpened{}));
    (void)producer.publish();
    auto message = std::make_unique<Message>();
    ASSERT_TRUE(consumer.read(*message));
    EXPECT_EQ(message->flow(), FlowId{5});
}

TEST(SharedMemory, WrongSizeOrUnsealed_IsRefused) {
    auto created = SharedMemory::create(2);
    ASSERT_TRUE(created);
    EXPECT_FALSE(SharedMemory::attach(Descriptor(dup(created->descriptor().get())), 3));
    Descriptor plain(memfd_create("plain", MFD_CLOEXEC));
    ASSERT_EQ(ftruncate(plain.get(), 2 * kRingMemory), 0);
    EXPECT_FALSE(SharedMemory::attach(std::move(plain), 1));
}

TEST(Attachment, FramesAndDescriptors_ArriveTogether) {
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    Attachment left{Descriptor(pair[0])}, right{Descriptor(pair[1])};
    auto memory = SharedMemory::create(1);
    ASSERT_TRUE(memory);
    const std::string large(3'000'000, 'x');
    ASSERT_TRUE(left.send("first"));
    const int fds[] = {memory->descriptor().get()};
    ASSERT_TRUE(left.send(large, fds));
    ASSERT_TRUE(left.send("third"));
    std::vector<Attachment::Frame> frames;
    while (frames.size() < 3) {
        ASSERT_TRUE(left.flush());
        auto frame = right.receive();
        ASSERT_TRUE(frame) << frame.error();
        if (*frame) frames.push_back(std::move(**frame));
    }
    EXPECT_EQ(frames[0].text, "first");
    EXPECT_TRUE(frames[0].descriptors.empty());
    EXPECT_EQ(frames[1].text, large);
    ASSERT_EQ(frames[1].descriptors.size(), 1u);
    EXPECT_TRUE(SharedMemory::attach(std::move(frames[1].descriptors[0]), 1));
    EXPECT_TRUE(frames[2].descriptors.empty());
}

TEST(Attachment, AnnouncedLengthTooLong_IsAnError) {
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    Attachment right{Descriptor(pair[1])};
    const std::uint32_t length = 0xffffffff;
    ASSERT_EQ(write(pair[0], &length, sizeof length), 4);
    EXPECT_FALSE(right.receive());
    close(pair[0]);
}

}  // namespace
}  // namespace sallyport::channel
