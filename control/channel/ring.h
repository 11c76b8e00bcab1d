#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "control/channel/messages.h"

/// Single-producer single-consumer rings of messages in memory that two processes share. Either side may be broken or hostile:
/// nothing that is read from the shared memory is used before it has been copied and checked.
namespace sallyport::channel {

/// The shared part of one ring. Lies at the start of the ring's memory; the octets follow it.
struct RingHeader {
    alignas(64) std::atomic<std::uint64_t> head;             ///< octets ever written; the producer's
    alignas(64) std::atomic<std::uint64_t> tail;             ///< octets ever read; the consumer's
    alignas(64) std::atomic<std::uint32_t> consumer_sleeps;  ///< 1: the consumer waits for its eventfd
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(sizeof(RingHeader) == 192);

/// Octets of the data of a ring: a power of two. 2 MB hold 64 of the largest messages, or some 8,000 handshake flights.
constexpr std::uint64_t kRingOctets = 2 * 1024 * 1024;
constexpr std::size_t kRingMemory = sizeof(RingHeader) + kRingOctets;

/// A message may not be longer than this, header and payload included.
constexpr std::uint32_t kMaxMessage = kMaxPayload + 1024;
constexpr std::uint32_t kMessageAlignment = 8;

/// Writes messages. One thread.
class RingProducer {
 public:
    RingProducer() noexcept = default;
    /// `memory`: kRingMemory octets, aligned to 64. Goes on where the ring's head stands.
    explicit RingProducer(std::byte* memory) noexcept
        : header_(reinterpret_cast<RingHeader*>(memory)),
          octets_(memory + sizeof(RingHeader)),
          head_(header_->head.load(std::memory_order_relaxed)) {}

    /// Appends one message: header (length is filled in), fixed part, payload. False when the ring has no room, or
    /// when the consumer's index makes no sense (then broken() is true from now on). Not visible before publish().
    [[nodiscard]] bool write(MessageType type, FlowId flow, std::span<const std::byte> fixed,
                             std::span<const std::byte> payload = {}) noexcept {
        const auto length = static_cast<std::uint32_t>(sizeof(MessageHeader) + fixed.size() + payload.size());
        if (length > kMaxMessage || !room_for(aligned(length))) return false;
        const MessageHeader header{length, type, 0, flow};
        std::uint64_t at = head_;
        put(at, std::as_bytes(std::span(&header, 1)));
        put(at + sizeof header, fixed);
        put(at + sizeof header + fixed.size(), payload);
        head_ += aligned(length);
        return true;
    }
    template <typename Fixed>
    [[nodiscard]] bool write(MessageType type, FlowId flow, const Fixed& fixed,
                             std::span<const std::byte> payload = {}) noexcept {
        static_assert(std::is_trivially_copyable_v<Fixed>);
        return write(type, flow, std::as_bytes(std::span(&fixed, 1)), payload);
    }

    /// Makes what was written visible. True when the consumer sleeps and must be woken by its eventfd.
    [[nodiscard]] bool publish() noexcept {
        if (header_ == nullptr || head_ == published_) return false;
        published_ = head_;
        // Sequentially consistent, against the consumer's sleep(): either it sees our head, or we see that it sleeps.
        header_->head.store(head_, std::memory_order_seq_cst);
        if (header_->consumer_sleeps.load(std::memory_order_seq_cst) == 0) return false;
        header_->consumer_sleeps.store(0, std::memory_order_relaxed);
        return true;
    }

    [[nodiscard]] bool broken() const noexcept { return broken_; }
    [[nodiscard]] std::uint64_t used() const noexcept {
        return header_ == nullptr ? 0 : head_ - header_->tail.load(std::memory_order_relaxed);
    }
    [[nodiscard]] static constexpr std::uint64_t aligned(std::uint64_t length) noexcept {
        return (length + kMessageAlignment - 1) & ~std::uint64_t{kMessageAlignment - 1};
    }

 private:
    [[nodiscard]] bool room_for(std::uint64_t octets) noexcept {
        if (header_ == nullptr || broken_) return false;
        if (head_ + octets - tail_ <= kRingOctets) return true;
        const std::uint64_t tail = header_->tail.load(std::memory_order_acquire);
        if (tail - tail_ > head_ - tail_) {  // moved back, or past what we wrote
            broken_ = true;
            return false;
        }
        tail_ = tail;
        return head_ + octets - tail_ <= kRingOctets;
    }
    void put(std::uint64_t at, std::span<const std::byte> octets) noexcept {
        if (octets.empty()) return;
        const std::uint64_t begin = at & (kRingOctets - 1);
        const std::uint64_t first = std::min<std::uint64_t>(octets.size(), kRingOctets - begin);
        std::memcpy(octets_ + begin, octets.data(), first);
        if (first < octets.size()) std::memcpy(octets_, octets.data() + first, octets.size() - first);
    }

    RingHeader* header_ = nullptr;
    std::byte* octets_ = nullptr;
    std::uint64_t head_ = 0;
    std::uint64_t published_ = 0;
    std::uint64_t tail_ = 0;   ///< as last read from the consumer
    bool broken_ = false;
};

/// A message copied out of a ring: its header has been checked, its fixed part and payload have not.
class Message {
 public:
    [[nodiscard]] MessageType type() const noexcept { return header().type; }
    [[nodiscard]] FlowId flow() const noexcept { return header().flow; }
    /// The fixed part, or nullptr when the message is too short for it.
    template <typename Fixed>
    [[nodiscard]] const Fixed* fixed() const noexcept {
        static_assert(std::is_trivially_copyable_v<Fixed> && alignof(Fixed) <= 8);
        if (length_ < sizeof(MessageHeader) + sizeof(Fixed)) return nullptr;
        return reinterpret_cast<const Fixed*>(octets_ + sizeof(MessageHeader));
    }
    /// What follows the fixed part. Call only after fixed<Fixed>() was not null.
    template <typename Fixed>
    [[nodiscard]] std::span<const std::byte> payload() const noexcept {
        constexpr std::size_t kBefore = sizeof(MessageHeader) + sizeof(Fixed);
        return {octets_ + kBefore, length_ - kBefore};
    }

 private:
    friend class RingConsumer;
    [[nodiscard]] const MessageHeader& header() const noexcept { return *reinterpret_cast<const MessageHeader*>(octets_); }
    alignas(8) std::byte octets_[kMaxMessage];
    std::uint32_t length_ = 0;
};

/// Reads messages. One thread.
class RingConsumer {
 public:
    RingConsumer() noexcept = default;
    explicit RingConsumer(std::byte* memory) noexcept
        : header_(reinterpret_cast<RingHeader*>(memory)),
          octets_(memory + sizeof(RingHeader)),
          tail_(header_->tail.load(std::memory_order_relaxed)),
          head_(tail_) {}

    /// Copies the next message into `message`. False when there is none, or when the producer's index or a length makes
    /// no sense (then broken() is true from now on).
    [[nodiscard]] bool read(Message& message) noexcept {
        if (header_ == nullptr || broken_) return false;
        if (head_ == tail_) {
            head_ = header_->head.load(std::memory_order_acquire);
            if (head_ == tail_) return false;
        }
        const std::uint64_t available = head_ - tail_;
        MessageHeader header;
        if (available > kRingOctets || available < sizeof header) return fail();
        get(tail_, std::as_writable_bytes(std::span(&header, 1)));
        const std::uint64_t step = RingProducer::aligned(header.length);
        if (header.length < sizeof header || header.length > kMaxMessage || step > available) return fail();
        get(tail_, std::span(message.octets_, header.length));
        // The copy may have changed under us: what counts is the length that was checked.
        std::memcpy(message.octets_, &header, sizeof header);
        message.length_ = header.length;
        tail_ += step;
        header_->tail.store(tail_, std::memory_order_release);
        return true;
    }

    /// Octets of messages that wait; as the producer's index says, which may be nonsense.
    [[nodiscard]] std::uint64_t used() const noexcept {
        return header_ == nullptr ? 0 : std::min(header_->head.load(std::memory_order_relaxed) - tail_, kRingOctets);
    }

    /// Announces that the consumer is about to wait for its eventfd. False when there is something to read after all.
    [[nodiscard]] bool sleep() noexcept {
        if (header_ == nullptr || broken_) return true;
        header_->consumer_sleeps.store(1, std::memory_order_seq_cst);
        if (header_->head.load(std::memory_order_seq_cst) == tail_) return true;
        header_->consumer_sleeps.store(0, std::memory_order_relaxed);
        return false;
    }

    [[nodiscard]] bool broken() const noexcept { return broken_; }

 private:
    bool fail() noexcept {
        broken_ = true;
        return false;
    }
    void get(std::uint64_t at, std::span<std::byte> to) const noexcept {
        const std::uint64_t begin = at & (kRingOctets - 1);
        const std::uint64_t first = std::min<std::uint64_t>(to.size(), kRingOctets - begin);
        std::memcpy(to.data(), octets_ + begin, first);
        if (first < to.size()) std::memcpy(to.data() + first, octets_, to.size() - first);
    }

    RingHeader* header_ = nullptr;
    std::byte* octets_ = nullptr;
    std::uint64_t tail_ = 0;
    std::uint64_t head_ = 0;   ///< as last read from the producer
    bool broken_ = false;
};

}  // namespace sallyport::channel
