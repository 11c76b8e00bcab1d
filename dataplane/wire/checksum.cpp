#include "dataplane/wire/checksum.h"

#include <immintrin.h>
#include <rte_mbuf.h>

#include <algorithm>

namespace sallyport::wire {

Sum sum_octets(std::span<const std::byte> octets) noexcept {
    const std::byte* at = octets.data();
    std::size_t left = octets.size();
    Sum sum = 0;
    if (left >= 64) {
        // 32-bit words summed into 64-bit lanes: no carry is lost before 2^32 words, so none is looked for in the loop.
        const __m256i low = _mm256_set1_epi64x(0xffffffff);
        __m256i even = _mm256_setzero_si256();
        __m256i odd = _mm256_setzero_si256();
        do {
            const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
            const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + 32));
            even = _mm256_add_epi64(even, _mm256_add_epi64(_mm256_and_si256(a, low), _mm256_and_si256(b, low)));
            odd = _mm256_add_epi64(odd, _mm256_add_epi64(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32)));
            at += 64;
            left -= 64;
        } while (left >= 64);
        alignas(32) std::uint64_t lanes[4];
        _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), _mm256_add_epi64(even, odd));
        sum = lanes[0] + lanes[1] + lanes[2] + lanes[3];
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
