#include "crypto/gcm_functions.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <numeric>
#include <type_traits>
#include <vector>

template <typename Pointer>
using Function = std::remove_pointer_t<Pointer>;

// The library exports them, but its header does not have them. Weak: a later version may do without, and a manager's functions are taken then.
extern "C" {
[[gnu::weak]] Function<aes_gcm_pre_t> aes_gcm_pre_128_vaes_avx2, aes_gcm_pre_256_vaes_avx2;
[[gnu::weak]] Function<aes_gcm_enc_dec_t> aes_gcm_enc_128_vaes_avx2, aes_gcm_enc_256_vaes_avx2, aes_gcm_dec_128_vaes_avx2, aes_gcm_dec_256_vaes_avx2;
[[gnu::weak]] Function<aes_gcm_init_t> aes_gcm_init_128_vaes_avx2, aes_gcm_init_256_vaes_avx2;
[[gnu::weak]] Function<aes_gcm_enc_dec_update_t> aes_gcm_enc_128_update_vaes_avx2, aes_gcm_enc_256_update_vaes_avx2, aes_gcm_dec_128_update_vaes_avx2,
    aes_gcm_dec_256_update_vaes_avx2;
[[gnu::weak]] Function<aes_gcm_enc_dec_finalize_t> aes_gcm_enc_128_finalize_vaes_avx2, aes_gcm_enc_256_finalize_vaes_avx2, aes_gcm_dec_128_finalize_vaes_avx2,
    aes_gcm_dec_256_finalize_vaes_avx2;
}

namespace sallyport::crypto {
namespace {

constexpr GcmFunctionsByKey kVaes{
    {aes_gcm_pre_128_vaes_avx2, aes_gcm_enc_128_vaes_avx2, aes_gcm_dec_128_vaes_avx2, aes_gcm_init_128_vaes_avx2, aes_gcm_enc_128_update_vaes_avx2,
     aes_gcm_dec_128_update_vaes_avx2, aes_gcm_enc_128_finalize_vaes_avx2, aes_gcm_dec_128_finalize_vaes_avx2},
    {aes_gcm_pre_256_vaes_avx2, aes_gcm_enc_256_vaes_avx2, aes_gcm_dec_256_vaes_avx2, aes_gcm_init_256_vaes_avx2, aes_gcm_enc_256_update_vaes_avx2,
     aes_gcm_dec_256_update_vaes_avx2, aes_gcm_enc_256_finalize_vaes_avx2, aes_gcm_dec_256_finalize_vaes_avx2}};

bool complete(const GcmFunctions& functions) noexcept {
    return functions.expand && functions.seal && functions.open && functions.init && functions.seal_update && functions.open_update &&
           functions.seal_finalize && functions.open_finalize;
}

/// What functions make of some octets: sealed in one call, sealed in two pieces, opened again; and all tags.
std::vector<std::uint8_t> made_of(const GcmFunctions& functions, const std::vector<std::uint8_t>& octets) noexcept {
    alignas(64) gcm_key_data key;
    alignas(64) gcm_context_data context;
    std::array<std::uint8_t, 32> secret;
    std::iota(secret.begin(), secret.end(), std::uint8_t{7});
    const std::array<std::uint8_t, 12> nonce{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    const std::array<std::uint8_t, 13> additional{13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1};
    constexpr std::size_t kTag = 16;
    const std::size_t length = octets.size(), first = length / 3;
    std::vector<std::uint8_t> made(3 * (length + kTag));
    std::uint8_t *whole = made.data(), *pieces = whole + length + kTag, *opened = pieces + length + kTag;
    functions.expand(secret.data(), &key);
    functions.seal(&key, &context, whole, octets.data(), length, nonce.data(), additional.data(), additional.size(), whole + length, kTag);
    functions.init(&key, &context, nonce.data(), additional.data(), additional.size());
    functions.seal_update(&key, &context, pieces, octets.data(), first);
    functions.seal_update(&key, &context, pieces + first, octets.data() + first, length - first);
    functions.seal_finalize(&key, &context, pieces + length, kTag);
    functions.init(&key, &context, nonce.data(), additional.data(), additional.size());
    functions.open_update(&key, &context, opened, whole, first);
    functions.open_update(&key, &context, opened + first, whole + first, length - first);
    functions.open_finalize(&key, &context, opened + length, kTag);
    return made;
}

bool agree(const GcmFunctions& one, const GcmFunctions& other) noexcept {
    return std::ranges::all_of(std::array<std::size_t, 9>{0, 1, 15, 16, 17, 255, 256, 1400, 16385}, [&](std::size_t length) {
        std::vector<std::uint8_t> octets(length);
        std::iota(octets.begin(), octets.end(), std::uint8_t{0});
        const std::vector<std::uint8_t> made = made_of(one, octets);
        return made == made_of(other, octets) && std::equal(octets.begin(), octets.end(), made.end() - static_cast<std::ptrdiff_t>(length + 16));
    });
}

}  // namespace

GcmFunctionsByKey chosen_gcm_functions(const IMB_MGR& manager) noexcept {
    return {{manager.gcm128_pre, manager.gcm128_enc, manager.gcm128_dec, manager.gcm128_init, manager.gcm128_enc_update, manager.gcm128_dec_update,
             manager.gcm128_enc_finalize, manager.gcm128_dec_finalize},
            {manager.gcm256_pre, manager.gcm256_enc, manager.gcm256_dec, manager.gcm256_init, manager.gcm256_enc_update, manager.gcm256_dec_update,
             manager.gcm256_enc_finalize, manager.gcm256_dec_finalize}};
}

const GcmFunctionsByKey* vaes_gcm_functions() noexcept {
    static const bool usable = [] {
        constexpr std::uint64_t kNeeded = IMB_CPUFLAGS_AVX2 | IMB_FEATURE_VAES | IMB_FEATURE_VPCLMULQDQ;
        if ((imb_get_feature_flags() & kNeeded) != kNeeded || !complete(kVaes.of_128) || !complete(kVaes.of_256)) return false;
        const std::unique_ptr<IMB_MGR, void (*)(IMB_MGR*)> manager(alloc_mb_mgr(0), free_mb_mgr);
        if (manager == nullptr) return false;
        init_mb_mgr_sse(manager.get());
        const GcmFunctionsByKey others = chosen_gcm_functions(*manager);
        return imb_get_errno(manager.get()) == 0 && agree(kVaes.of_128, others.of_128) && agree(kVaes.of_256, others.of_256);
    }();
    return usable ? &kVaes : nullptr;
}

GcmFunctionsByKey fastest_gcm_functions(const IMB_MGR& manager) noexcept {
    const bool without_vaes = manager.used_arch == IMB_ARCH_AVX2 && manager.used_arch_type == 1;   // all later types have it
    const GcmFunctionsByKey* const vaes = without_vaes ? vaes_gcm_functions() : nullptr;
    return vaes != nullptr ? *vaes : chosen_gcm_functions(manager);
}

}  // namespace sallyport::crypto
