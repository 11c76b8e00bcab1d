#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace sallyport::tcp {

/// SipHash-2-4 (Aumasson and Bernstein, 2012): the keyed pseudo-random function behind initial sequence numbers, timestamp offsets,
/// ports, SYN cookies and the connection table. Without the key nobody can predict or collide its values.
class KeyedHash {
 public:
    constexpr KeyedHash() noexcept = default;
    explicit KeyedHash(std::span<const std::uint8_t, 16> key) noexcept {
        std::memcpy(&k0_, key.data(), 8);
        std::memcpy(&k1_, key.data() + 8, 8);
    }
    /// Of 64-bit words in memory order; the length takes part, as the algorithm has it.
    template <std::size_t Words>
    [[nodiscard]] std::uint64_t operator()(const std::array<std::uint64_t, Words>& words) const noexcept {
        State state{k0_ ^ 0x736f6d6570736575, k1_ ^ 0x646f72616e646f6d, k0_ ^ 0x6c7967656e657261, k1_ ^ 0x7465646279746573};
        for (const std::uint64_t word : words) state.absorb(word);
        state.absorb(std::uint64_t{(Words * 8) & 0xff} << 56);
        return state.finish();
    }

 private:
    /// Everything inlined, whatever the compiler thinks of its size: left to itself it kept the words in memory, and a hash took several times as long.
    struct State {
        std::uint64_t v0, v1, v2, v3;

        [[gnu::always_inline]] void round() noexcept {
            v0 += v1;
            v1 = std::rotl(v1, 13) ^ v0;
            v0 = std::rotl(v0, 32);
            v2 += v3;
            v3 = std::rotl(v3, 16) ^ v2;
            v0 += v3;
            v3 = std::rotl(v3, 21) ^ v0;
            v2 += v1;
            v1 = std::rotl(v1, 17) ^ v2;
            v2 = std::rotl(v2, 32);
        }
        [[gnu::always_inline]] void absorb(std::uint64_t word) noexcept {
            v3 ^= word;
            round();
            round();
            v0 ^= word;
        }
        [[gnu::always_inline]] std::uint64_t finish() noexcept {
            v2 ^= 0xff;
            for (int i = 0; i < 4; ++i) round();
            return v0 ^ v1 ^ v2 ^ v3;
        }
    };

    std::uint64_t k0_ = 0, k1_ = 0;
};

}  // namespace sallyport::tcp
