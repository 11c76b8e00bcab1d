#include "dataplane/wire/checksum.h"

#include <immintrin.h>
#include <rte_mbuf.h>

#include <algorithm>

namespace sallyport::wire {

Sum sum_octets(std::span<const std::byte> octets) noexcept {
    const std::byte* at = octets.data();
    std::size_t left = octets.size();
    Sum sum = 0;
    if (left >= 32) {
        // 32-bit words summed into 64-bit lanes: no carry is lost before 2^32 words, so none is looked for in the loop.
        const __m256i low = _mm256_set1_epi64x(0xffffffff);
        __m256i even = _mm256_setzero_si256();
        __m256i odd = _mm256_setzero_si256();
        const auto add = [&](__m256i words) {
            even = _mm256_add_epi64(even, _mm256_and_si256(words, low));
            odd = _mm256_add_epi64(odd, _mm256_srli_epi64(words, 32));
        };
        const auto load = [&at](std::size_t offset) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + offset)); };
        for (; left >= 128; at += 128, left -= 128) {
            add(load(0));
            add(load(32));
            add(load(64));
            add(load(96));
        }
        for (; left >= 32; at += 32, left -= 32) add(load(0));
        // Those words that are left, of eight: which differs from packet to packet, so that a loop's end would not be foreseen.
        const __m256i wanted = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(left / 4)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        add(_mm256_maskload_epi32(reinterpret_cast<const int*>(at), wanted));
        at += left & ~std::size_t{3};
        left &= 3;
        const __m256i both = _mm256_add_epi64(even, odd);
        const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
        sum = static_cast<Sum>(_mm_cvtsi128_si64(half)) + static_cast<Sum>(_mm_extract_epi64(half, 1));
    }
    for (; left >= 4; at += 4, left -= 4) {
        std::uint32_t word;
        std::memcpy(&word, at, sizeof word);
        sum += word;
    }
    if (left > 0) {
        std::uint32_t word = 0;
        std::memcpy(&word, at, left);
        sum += word;
    }
    return sum;
}

Sum sum_mbuf(const rte_mbuf* packet, std::uint32_t offset, std::uint32_t length) noexcept {
    Sum sum = 0;
    bool odd = false;  // whether the octets summed so far are an odd number
    for (; length > 0 && packet != nullptr; packet = packet->next) {
        if (offset >= packet->data_len) {
            offset -= packet->data_len;
            continue;
        }
        const std::uint32_t here = std::min(length, packet->data_len - offset);
        const Sum part = sum_octets({rte_pktmbuf_mtod_offset(packet, const std::byte*, offset), here});
        // Data that begins in the middle of a 16-bit word contributes with its octets exchanged (RFC 1071 2(B)).
        sum += odd ? __builtin_bswap16(fold(part)) : part;
        odd ^= (here & 1) != 0;
        length -= here;
        offset = 0;
    }
    return sum;
}

}  // namespace sallyport::wire
